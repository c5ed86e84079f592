"""Scenarios on roads: what vehicles in SUMO add to a scenario.

Agents are some of the M vehicles. Commands are accelerations; vehicles' states are reported and, in evaluation, what
they burn and emit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from envs.scenario import Scenario, ScenarioParameters
from envs.sumo.simulation import STEP_SECONDS, RoadSimulation, Simulation, Vehicles
from envs.traffic.measures import TrafficMeter
from envs.types import Actions, Bools, Floats, State

#: State that is reported in evaluation only, to measure by. ``length`` (m) is that of the vehicle; ``fuel`` and ``co2``
#: (mg) are what it burned and emitted since the last action, by SUMO's emission model.
MEASURED = ("length", "fuel", "co2")
MAX_VEHICLES = 2_000  # more would fill the memory

P = TypeVar("P", bound=ScenarioParameters)


class RoadScenario(Scenario[P]):
    """E environments with M vehicles each on roads in SUMO, of which N are agents.

    Args: see :class:`~envs.scenario.Scenario`.

    Attributes:
        num_vehicles: M.
        collision: (E,) bool, of the last step.
    """

    simulation: RoadSimulation
    entities = "traffic"
    flags = ("collision",)
    commands = ("accelerations",)
    #: Which of the vehicles in SUMO's copy are the M of this scenario.
    followers: ClassVar[slice] = slice(None)

    def __init__(self, parameters: P, numbers: range, seed: int, folder: Path) -> None:
        super().__init__(parameters, numbers, seed, folder)
        self.num_vehicles = self.num_entities
        self.collision = np.zeros(self.num_envs, dtype=np.bool_)
        self._length, self._fuel, self._co2 = np.zeros((3, self.num_envs, self.num_vehicles))

    @classmethod
    def meter(cls, seconds: float, steps: int) -> TrafficMeter:
        """Meter of how the vehicles drive."""
        return TrafficMeter(seconds, steps)

    @classmethod
    def open_window(cls) -> None:
        """Show SUMO's own window."""
        Simulation.window = True

    @abstractmethod
    def _command(self, actions: Actions) -> Floats:
        """Accelerations (E, N) in m/s² that actions ask for in the present state."""

    @abstractmethod
    def _drive(self, acceleration: Floats) -> tuple[Floats, Bools, Bools]:
        """Simulate 0.1 s under commands (E, M) in m/s², clipped to what is possible here.

        Returns:
            Reward (E, M), ended (E,), and the vehicles that collided (E, M).
        """

    @abstractmethod
    def observe(self) -> Floats:
        """Observations of all vehicles, (E, M, D)."""

    @abstractmethod
    def state(self) -> dict[str, Floats]:
        """Physical state (E, M) by the names that it has in training: at least ``speed`` and ``position``."""

    @abstractmethod
    def _lane_names(self, env: int) -> Sequence[str]:
        """SUMO's names of the lanes that the vehicles of one environment drive on, one behind the other."""

    def observe_agents(self) -> Floats:
        """Observations of the agents, (E, N, D)."""
        return self.of_agents(self.observe())

    def reported_state(self) -> dict[str, Floats]:
        """Physical state of all vehicles, (E, M), in evaluation with ``MEASURED``."""
        if not self._measuring(self.parameters):
            return self.state()
        return self.state() | dict(zip(MEASURED, (self._length, self._fuel, self._co2), strict=True))

    @classmethod
    def _reported_names(cls, names: Sequence[str], parameters: P) -> tuple[str, ...]:
        return (*names, *(MEASURED if cls._measuring(parameters) else ()))

    @staticmethod
    def _measuring(parameters: ScenarioParameters) -> bool:
        return parameters.mode == "evaluate"

    def queries(self) -> Mapping[str, Callable[[int], Any]]:
        """``vehicles``, where SUMO has them, and ``roads``, their shapes."""
        return {"vehicles": self.vehicles, "roads": self.road}

    def road(self, env: int) -> list[Floats]:
        """Middle lines (P, 2) in m of the lanes that one environment drives on, in driving order."""
        return [self.simulation.lane_shape(lane) for lane in self._lane_names(env)]

    def vehicles(self, env: int) -> Vehicles:
        """Places of the vehicles of one environment in SUMO: its N agents, in order, and behind them the others."""
        seen = self.simulation.vehicles(env)
        numbers = np.arange(len(seen.x))
        agents = self.of_agents(numbers[None, self.followers])[0]
        order = np.concatenate([agents, np.delete(numbers, agents)])
        return Vehicles(*(rows[order] for rows in seen))

    def begin(self, env: int, start: State | None = None) -> None:
        """Begin a new episode in one environment."""
        super().begin(env, start)
        self._fuel[env], self._co2[env] = 0.0, 0.0
        if self._measuring(self.parameters):
            self._length[env] = self.simulation.lengths(env)[self.followers]

    def step_by(self, name: str, command: Floats) -> None:
        """One simulated step under accelerations (E, N) in m/s², whatever an action of this scenario is."""
        self._simulate([command])

    def _simulate(self, commands: Iterable[Floats]) -> None:
        self.collision[:], self._fuel[:], self._co2[:] = False, 0.0, 0.0
        super()._simulate(commands)

    def _advance(self, command: Floats) -> tuple[Floats, Bools]:
        reward, ended, collided = self._drive(self._commands_of_all(command))
        self.collision |= collided.any(axis=1)
        self.ended_by[:] = self.of_agents(collided)
        if self._measuring(self.parameters):
            self._add_emissions()
        return self.of_agents(reward), ended

    def _add_emissions(self) -> None:
        for total, rate in zip((self._fuel, self._co2), self.simulation.emissions(), strict=True):
            total += STEP_SECONDS * rate[:, self.followers]

    def _commands_of_all(self, acceleration: Floats) -> Floats:
        """Commands (E, M) to all vehicles from those (E, N) to the agents."""
        return acceleration

    def close(self) -> None:
        """End the simulation."""
        self.simulation.close()
