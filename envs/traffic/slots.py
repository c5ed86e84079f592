"""Slots of agents: a fixed number, whose vehicles come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from envs.traffic.road_scenario import MAX_VEHICLES

Name = Annotated[str, Field(min_length=1, max_length=100)]


class AgentSelection(BaseModel):
    """Selection of the vehicles that learn: up to ``count`` at a time of one type, or those of given names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Name | None = Field(default=None, description="Vehicle type whose vehicles learn; it needs count.")
    count: int | None = Field(
        default=None,
        gt=0,
        le=MAX_VEHICLES,
        description="Vehicles of the type that learn at a time; further ones drive as SUMO does.",
    )
    ids: tuple[Name, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_VEHICLES,
        description="Names of the vehicles that learn, instead of a type.",
    )

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.ids is not None:
            twice = [identity for identity in self.ids if self.ids.count(identity) > 1]
            if self.type is not None or self.count is not None:
                raise ValueError("ids and type exclude each other; give {type: …, count: …} or {ids: […]}")
            if twice:
                raise ValueError(f"ids: '{twice[0]}' is there twice; every vehicle is one agent")
        elif self.type is None or self.count is None:
            raise ValueError("give {type: …, count: …}, a vehicle type and how many of it learn, or {ids: […]}")
        return self

    @property
    def size(self) -> int:
        """Number N of agents."""
        return len(self.ids) if self.ids is not None else self.count or 0


class Slots:
    """Slots for the vehicles of N agents.

    Vehicles selected by name each have a slot of their own. Of those selected by type, one that enters takes the next
    free slot, in turn, so that neighboring slots hold vehicles that entered one after the other, and keeps it until it
    leaves. Vehicles that find no free slot wait in the order in which they entered, and drive as SUMO does.

    Args:
        agents: selection of the vehicles.

    Attributes:
        ids: name of the vehicle in each slot, None for an empty slot.
        numbers: number of the vehicle in each slot, counted from 1 in the order of getting one; 0 for an empty slot.
    """

    def __init__(self, agents: AgentSelection) -> None:
        self._agents = agents
        self.ids: list[str | None] = [None] * agents.size
        self.numbers = [0] * agents.size
        self._waiting: dict[str, None] = {}
        self._next = self._taken = 0

    def update(self, entered: Iterable[str], left: Iterable[str], type_of: Callable[[str], str]) -> list[str]:
        """Update the slots after a step.

        Args:
            entered: vehicles that entered in it.
            left: vehicles that left in it.
            type_of: function from a vehicle's name to its type.

        Returns:
            Vehicles that got a slot.
        """
        fixed = self._agents.ids
        gone = set(left)
        self._waiting |= {
            identity: None
            for identity in entered
            if identity not in gone and (identity in fixed if fixed else type_of(identity) == self._agents.type)
        }
        for identity in gone:
            self._waiting.pop(identity, None)
        for slot, present in enumerate(self.ids):
            if present in gone:
                self.ids[slot], self.numbers[slot] = None, 0
        taken = []
        for identity in list(self._waiting):
            if None not in self.ids:
                break
            slot = self._slot_for(identity)
            self._taken += 1
            self.ids[slot], self.numbers[slot], self._next = identity, self._taken, (slot + 1) % len(self.ids)
            del self._waiting[identity]
            taken.append(identity)
        return taken

    def _slot_for(self, identity: str) -> int:
        if self._agents.ids is not None:
            return self._agents.ids.index(identity)
        size = len(self.ids)
        return next(k % size for k in range(self._next, self._next + size) if self.ids[k % size] is None)
