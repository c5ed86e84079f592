"""Mixed fleets: N of M vehicles learn, and the H others drive as humans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from envs.scenario import ScenarioParameters
from envs.selection import selection
from envs.sumo.simulation import STEP_SECONDS
from envs.traffic.humans import SUMO, HumanParameters, Humans
from envs.traffic.road_scenario import MAX_VEHICLES, RoadScenario
from envs.types import Floats, State

# In a saved state: what humans remember, and what they are about to do.
_PREFIX, _DECISIONS = "humans.", "human_accelerations"


def learner_places(learners: int | Sequence[int] | None, num_vehicles: int) -> NDArray[np.int64]:
    """Numbers (N,) of the vehicles that learn, in ascending order.

    Args:
        learners: None, all; N, spread evenly with the last vehicle among them, so that 1 is the last and half of all
            are every other one, as in Flow's benchmarks; or the numbers themselves.
        num_vehicles: M.

    Raises:
        ValueError: more learners than vehicles, or numbers that are not ascending or not those of vehicles.
    """
    if learners is None:
        return np.arange(num_vehicles)
    if isinstance(learners, int):
        if learners > num_vehicles:
            raise ValueError(f"learners = {learners} are more than num_vehicles = {num_vehicles}; null is all of them")
        return np.arange(1, learners + 1) * num_vehicles // learners - 1
    places = np.array(learners, dtype=np.int64)
    if not places.size or places[-1] >= num_vehicles or (np.diff(places) <= 0).any():
        raise ValueError(
            f"learners = {list(learners)} must be ascending numbers of vehicles, at least one, from 0 to num_vehicles "
            f"- 1 = {num_vehicles - 1}"
        )
    return places


class FleetParameters(ScenarioParameters):
    """Parameters of scenarios with a fixed number of vehicles, of which any may learn."""

    num_vehicles: int = Field(gt=0, le=MAX_VEHICLES, description="Vehicles on the road.")
    learners: Annotated[int, Field(gt=0)] | tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        description="Vehicles that learn: all with null; with a number, so many, spread evenly and with the last among "
        "them; or a list of their numbers, from 0 in the order of driving. The others drive as humans do.",
    )
    humans: HumanParameters = Field(
        default_factory=HumanParameters, description="Driving of the vehicles that do not learn."
    )

    @property
    def places(self) -> NDArray[np.int64]:
        """Numbers (N,) of the vehicles that learn."""
        return learner_places(self.learners, self.num_vehicles)

    @property
    def human_places(self) -> NDArray[np.int64]:
        """Numbers (H,) of the vehicles that do not."""
        return np.setdiff1d(np.arange(self.num_vehicles), self.places)

    @model_validator(mode="after")
    def _somebody_learns(self) -> Self:
        learner_places(self.learners, self.num_vehicles)
        return self


P = TypeVar("P", bound=FleetParameters)


class Fleet(RoadScenario[P]):
    """A scenario with M vehicles in every environment, of which H drive as humans."""

    _humans: Humans | None = None

    def __init__(self, parameters: P, numbers: range, seed: int, folder: Path) -> None:
        super().__init__(parameters, numbers, seed, folder)
        human_places = parameters.human_places
        self._others = selection(human_places)
        self._commands = np.zeros((self.num_envs, self.num_vehicles))
        self._decisions: Floats | None = None  # of the humans (E, H), once they have looked at the present state
        if len(human_places) and parameters.humans.controller != SUMO:
            self._humans = Humans(parameters.humans, self.controller_parameters, human_places, self.num_envs)

    def prepare(self) -> None:
        """Let the humans decide: what learners are about to do is as unknown to them as the other way round."""
        if self._humans:
            self._decide(self._humans)

    def _decide(self, humans: Humans) -> Floats:
        if self._decisions is None:
            self._decisions = humans.accelerations(self.state(), self.clock * STEP_SECONDS, self.random)
        return self._decisions

    def seed(self, seed: int) -> None:
        """See :class:`~envs.scenario.Scenario`."""
        super().seed(seed)
        if self._humans:
            self._humans.draw_anew()

    def begin(self, env: int, start: State | None = None) -> None:
        """See :class:`~envs.scenario.Scenario`."""
        super().begin(env, start)
        self._decisions = None

    def _commands_of_all(self, acceleration: Floats) -> Floats:
        """Commands (E, M) to all vehicles from those (E, N) to the ones that learn; zeros where SUMO drives."""
        if self.num_agents == self.num_vehicles:
            return acceleration
        self._commands[:, self._agents] = acceleration
        if self._humans:
            self.prepare()
            self._commands[:, self._others], self._decisions = self._decisions, None
        return self._commands

    def _written_down(self) -> dict[str, NDArray[Any]]:
        if not self._humans:
            return super()._written_down()
        # Before random streams and memory are written down: both are those after the decision.
        decisions = self._decide(self._humans)
        memory = {_PREFIX + name: rows for name, rows in self._humans.get_state().items()}
        return super()._written_down() | memory | {_DECISIONS: decisions}

    def _restore_all(self, snapshot: State) -> None:
        super()._restore_all(snapshot)
        if self._humans:
            named = [name for name in snapshot if name.startswith(_PREFIX)]
            self._humans.set_state({name.removeprefix(_PREFIX): snapshot[name] for name in named})
            self._humans.draw_anew()  # noise that is drawn ahead is not written down
            self._decisions = snapshot[_DECISIONS]
