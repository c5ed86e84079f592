"""What a scenario is: a task for N agents, given for E environments at once on top of one SUMO simulation.

A subclass says how an episode begins, what one simulated step does and what is seen, of all M vehicles of which the N
agents are some or all. Clocks, repeated actions, the ends of episodes, random numbers and snapshots are the same for
all and stand here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import gymnasium
import networkx as nx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from envs.selection import selection
from envs.starts import StartField
from envs.sumo.simulation import STEP_SECONDS, Bools, Floats, Vehicles, Watched
from graphs.spelling import check_names

#: What ``info["state"]`` also holds in evaluation, to measure by; training does not pay for it. ``length`` (m) is that
#: of the vehicle; ``fuel`` and ``co2`` (mg) are what it burnt and emitted since the last action, by SUMO's model.
MEASURED = ("length", "fuel", "co2")

Actions = NDArray[Any]
State = Mapping[str, NDArray[Any]]

# More is a slip of the pen, and would fill the memory.
MAX_VEHICLES, MAX_HORIZON = 2_000, 1_000_000
# Its multiples, modulo 1, spread evenly however many there are.
_GOLDEN_RATIO = 0.5 * (5**0.5 - 1)


class ScenarioParameters(BaseModel):
    """Parameters that every scenario has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(description="Name of the scenario: a Literal in every class that is registered.")
    horizon: int = Field(gt=0, le=MAX_HORIZON, description="Simulated steps of 0.1 s in an episode.")
    action_repeat: int = Field(
        1, gt=0, description="Simulated steps for which an action is held; their rewards are summed."
    )
    mode: Literal["train", "evaluate"] = Field(
        "train",
        description="With train, the start of every episode is drawn; with evaluate, environment e begins at reference "
        "start e.",
    )

    stagger: bool = Field(
        False,
        description="Whether the first episodes of a training are cut off after different shares of the horizon, so "
        "that environments side by side are at different times of their episodes.",
    )

    @model_validator(mode="after")
    def _whole_actions(self) -> Self:
        if self.horizon % self.action_repeat:
            raise ValueError(
                f"action_repeat = {self.action_repeat} does not divide horizon = {self.horizon}; "
                "choose a horizon that is a multiple of action_repeat"
            )
        return self


P = TypeVar("P", bound=ScenarioParameters)


@dataclass(frozen=True)
class Spec:
    """What can be said of a scenario before anything is simulated.

    Attributes:
        num_vehicles: M, those that learn and the others of which ``info["traffic"]`` tells.
        places: numbers (N,) of the vehicles that learn, ascending.
        graph: the scenario's own communication graph, on nodes 0..N-1.
        observation_space: of one agent, shape (D,).
        action_space: of one agent, a Box in physical units or a Discrete.
        reference_starts: number of start states that evaluation goes through.
        state_names: keys of ``info["state"]`` and ``info["traffic"]``; in evaluation with ``MEASURED``.
        start: the arrays of a start state, by name.
    """

    num_vehicles: int
    places: tuple[int, ...]
    graph: nx.Graph
    observation_space: gymnasium.spaces.Box
    action_space: gymnasium.spaces.Box | gymnasium.spaces.Discrete
    reference_starts: int
    state_names: tuple[str, ...]
    start: Mapping[str, StartField]

    @property
    def num_agents(self) -> int:
        """N."""
        return len(self.places)


class Scenario(ABC, Generic[P]):
    """E environments of one scenario.

    Args:
        parameters: an instance of the class's ``Parameters``.
        numbers: the numbers of these E environments among all, which fix their random streams and reference starts.
        seed: of the experiment.
        folder: for SUMO's files, gone after the construction.

    Attributes:
        num_vehicles: M.
        num_agents: N.
        places: numbers (N,) of the vehicles that learn.

    Attributes (all of the last step):
        reward: (E, N), summed over the repeated simulated steps.
        terminated, truncated, collision: (E,) bool.
    """

    Parameters: ClassVar[type[ScenarioParameters]]
    simulation: Watched
    #: Which of the vehicles in SUMO's copy are the M of this scenario.
    followers: ClassVar[slice] = slice(None)
    #: Whether every environment needs a SUMO, and so a process, of its own.
    one_env_a_process: ClassVar[bool] = False
    #: Actions worth comparing with, by name: every agent does this all the time.
    constant_actions: ClassVar[Mapping[str, float | int]] = {}
    #: Parameters in which controllers differ here from their own defaults, by the controller's name.
    controller_parameters: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, parameters: P, numbers: range, seed: int, folder: Path) -> None:
        self.parameters, self.numbers = parameters, numbers
        spec = self.spec(parameters)
        self.num_envs, self.num_vehicles, self.num_agents = len(numbers), spec.num_vehicles, spec.num_agents
        self.places = np.array(spec.places)
        self._learners = selection(self.places)
        self.clock = np.zeros(self.num_envs, dtype=np.int64)
        self.limit = np.full(self.num_envs, parameters.horizon)
        self.reward = np.zeros((self.num_envs, self.num_agents))
        self.terminated, self.truncated, self.collision = np.zeros((3, self.num_envs), dtype=np.bool_)
        self._length, self._fuel, self._co2 = np.zeros((3, self.num_envs, self.num_vehicles))
        self.seed(seed)

    @classmethod
    @abstractmethod
    def spec(cls, parameters: P) -> Spec:
        """Agents, graph and spaces that these parameters give."""

    @classmethod
    def bounds(cls, parameters: P) -> Mapping[str, float]:
        """What no policy can pass, by name: rewards per simulated step and agent, means over the reference starts."""
        return {}

    @abstractmethod
    def _begin(self, env: int, start: State | None) -> None:
        """Put environment ``env`` at ``start``, or at a start of its own choice where that is None."""

    @abstractmethod
    def _command(self, actions: Actions) -> Floats:
        """The accelerations (E, N) in m/s² that actions ask for in the present state."""

    @abstractmethod
    def _advance(self, acceleration: Floats) -> tuple[Floats, Bools, Bools]:
        """Simulate 0.1 s under commands (E, M) in m/s², clipped to what is possible here.

        Returns:
            Reward (E, M), ended (E,) and collision (E,).
        """

    @abstractmethod
    def observe(self) -> Floats:
        """What every vehicle sees of itself, (E, M, D)."""

    @abstractmethod
    def state(self) -> dict[str, Floats]:
        """Physical state (E, M) by the names that it has in training: at least ``speed`` and ``position``."""

    @abstractmethod
    def _lane_names(self, env: int) -> Sequence[str]:
        """SUMO's names of the lanes that the vehicles of one environment drive on, one behind the other."""

    @abstractmethod
    def _snapshot(self) -> dict[str, NDArray[Any]]:
        """Arrays (E, …) from which ``_restore`` can go on."""

    @abstractmethod
    def _restore(self, env: int, snapshot: State) -> None:
        """Put environment ``env`` at its row of a snapshot."""

    def close(self) -> None:
        """End the simulation."""
        self.simulation.close()

    def seen(self) -> dict[str, Floats]:
        """Physical state (E, M) by the names of the spec."""
        if not self._measuring(self.parameters):
            return self.state()
        return self.state() | dict(zip(MEASURED, (self._length, self._fuel, self._co2), strict=True))

    @classmethod
    def _seen_names(cls, names: Sequence[str], parameters: P) -> tuple[str, ...]:
        return (*names, *(MEASURED if cls._measuring(parameters) else ()))

    @staticmethod
    def _measuring(parameters: P) -> bool:
        return parameters.mode == "evaluate"

    def road(self, env: int) -> list[Floats]:
        """Middle lines (P, 2) in m of the lanes that one environment drives on, in driving order."""
        return [self.simulation.lane_shape(lane) for lane in self._lane_names(env)]

    def vehicles(self, env: int) -> Vehicles:
        """Where SUMO has the vehicles of one environment: its N agents, in order, and behind them the others."""
        seen = self.simulation.vehicles(env)
        numbers = np.arange(len(seen.x))
        agents = self.of_learners(numbers[None, self.followers])[0]
        order = np.concatenate([agents, np.delete(numbers, agents)])
        return Vehicles(*(rows[order] for rows in seen))

    def seed(self, seed: int) -> None:
        """Give each environment a random stream that depends on the seed and its own number only."""
        sequences = (np.random.SeedSequence(seed, spawn_key=(number,)) for number in self.numbers)
        self.random = [np.random.Generator(np.random.PCG64(sequence)) for sequence in sequences]

    def reset(self, start: State | None = None) -> None:
        """Begin a new episode everywhere; ``start`` holds one row (E, …) an environment."""
        for env in range(self.num_envs):
            self.begin(env, None if start is None else {key: rows[env] for key, rows in start.items()})
        if start is None and self.parameters.stagger and self.parameters.mode == "train":
            self.limit[:] = [self._first_limit(number) for number in self.numbers]

    def _first_limit(self, number: int) -> int:
        """Simulated steps of an environment's first episode where episodes are staggered."""
        actions = self.parameters.horizon // self.parameters.action_repeat
        share = (number * _GOLDEN_RATIO) % 1.0
        return self.parameters.action_repeat * max(1, round((1.0 - share) * actions))

    def begin(self, env: int, start: State | None = None) -> None:
        """Begin a new episode in one environment."""
        self._begin(env, start)
        self.clock[env], self.limit[env] = 0, self.parameters.horizon
        self._fuel[env], self._co2[env] = 0.0, 0.0
        if self._measuring(self.parameters):
            self._length[env] = self.simulation.lengths(env)[self.followers]

    def step(self, actions: Actions) -> None:
        """Hold actions (E, N, A) or (E, N) for ``action_repeat`` simulated steps; the attributes hold the outcome."""
        self._simulate(self._command(actions) for _ in range(self.parameters.action_repeat))

    def drive(self, acceleration: Floats) -> None:
        """One simulated step under commands (E, N) in m/s², whatever an action of this scenario is."""
        self._simulate([acceleration])

    def _simulate(self, commands: Iterable[Floats]) -> None:
        self.reward[:], self.terminated[:], self.collision[:] = 0.0, False, False
        self._fuel[:], self._co2[:] = 0.0, 0.0
        for acceleration in commands:
            reward, ended, collision = self._advance(self._everybodys(acceleration))
            # An episode that ended during a held action earns nothing for the rest of it.
            self.reward += np.where(self.terminated[:, None], 0.0, self.of_learners(reward))
            self.terminated |= ended
            self.collision |= collision
            if self._measuring(self.parameters):
                self._add_emissions()
            self.clock += 1
        self.truncated[:] = (self.clock >= self.limit) & ~self.terminated

    def _add_emissions(self) -> None:
        for total, rate in zip((self._fuel, self._co2), self.simulation.emissions(), strict=True):
            total += STEP_SECONDS * rate[:, self.followers]

    def of_learners(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What holds for the N vehicles that learn, (E, N, …), from what holds for all, (E, M, …)."""
        return rows[:, self._learners]

    def prepare(self) -> None:
        """Compute what the next step will need and the learners' commands do not change, while they are being chosen.

        Called after every step and every reset. A scenario that has nothing to prepare does nothing.
        """

    def _everybodys(self, acceleration: Floats) -> Floats:
        """Commands (E, M) to all vehicles from those (E, N) to the agents."""
        return acceleration

    def reference_start(self, env: int) -> int | None:
        """Number of the reference start of an environment, None in training."""
        if self.parameters.mode == "train":
            return None
        return self.numbers[env] % self.spec(self.parameters).reference_starts

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything needed to go on, (E, …) arrays.

        Every environment is put at what was written down: SUMO's own last digits are not readable, and only so does
        this simulation go on exactly as a restored one.
        """
        state = self._written_down()
        self._restore_all(state)
        return state

    def set_state(self, state: State) -> None:
        """Go on from what ``get_state`` gave.

        Raises:
            ValueError: arrays of another scenario.
        """
        expected = self._written_down()
        check_names("array of a saved state", state, expected)
        for name, rows in expected.items():
            if name not in state or state[name].shape != rows.shape:
                raise ValueError(f"the saved state needs an array {name} of shape (E, ...) = {rows.shape}")
        self.clock[:], self.limit[:] = state["clock"], state["limit"]
        for generator, words in zip(self.random, state["random"], strict=True):
            _unpack(generator, words)
        self._restore_all(state)

    def _written_down(self) -> dict[str, NDArray[Any]]:
        random = np.array([_pack(generator) for generator in self.random])
        return {"clock": self.clock.copy(), "limit": self.limit.copy(), "random": random, **self._snapshot()}

    def _restore_all(self, snapshot: State) -> None:
        for env in range(self.num_envs):
            self._restore(env, snapshot)


def _pack(generator: np.random.Generator) -> NDArray[np.uint64]:
    """State of a PCG64 generator as 6 words of 64 bits."""
    state = generator.bit_generator.state
    words = [state["has_uint32"], state["uinteger"]]
    for number in (state["state"]["state"], state["state"]["inc"]):
        words += [number >> 64, number & (2**64 - 1)]
    return np.array(words, dtype=np.uint64)


def _unpack(generator: np.random.Generator, words: NDArray[np.uint64]) -> None:
    has_uint32, uinteger, *halves = (int(word) for word in words)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": halves[0] << 64 | halves[1], "inc": halves[2] << 64 | halves[3]},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
