"""Which vehicle is whose: agents are a fixed number of slots, vehicles come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from envs.traffic.road_scenario import MAX_VEHICLES

Name = Annotated[str, Field(min_length=1, max_length=100)]


class Agents(BaseModel):
    """Which vehicles learn: up to ``count`` at a time of one type, or those of given names."""

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
        """N."""
        return len(self.ids) if self.ids is not None else self.count or 0


class Slots:
    """N slots for the vehicles of N agents.

    By name, every vehicle has its own. By type, a vehicle that enters takes the next free slot, counted round, so that
    slots beside each other hold vehicles that entered one after the other. It keeps its slot until it leaves. Those
    that find none wait, in the order in which they entered, and drive as SUMO does.

    Attributes:
        ids: the vehicle in each slot, None where it is empty.
        numbers: the same as numbers, 1 for the first that got a slot and so on; 0 where it is empty.
    """

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self.ids: list[str | None] = [None] * agents.size
        self.numbers = [0] * agents.size
        self._waiting: dict[str, None] = {}
        self._next = self._taken = 0

    def update(self, entered: Iterable[str], left: Iterable[str], type_of: Callable[[str], str]) -> list[str]:
        """Take note of the vehicles that entered and left in a step.

        Returns:
            Those that have a slot from now on.
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
