"""Scenarios: tasks for N agents in E environments at once, whatever simulates them.

A subclass says how an episode begins, what one simulated step does and what is observed. Clocks, repeated actions, the
ends of episodes, random numbers and snapshots are the same for all and stand here. Of a scenario's M entities, N are
agents; in evaluation and pictures the others count as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import gymnasium
import networkx as nx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from envs.meter import Meter, StateMeter
from envs.selection import selection
from envs.starts import StartField
from envs.types import Actions, Bools, Floats, State
from graphs.spelling import check_names

# More is a slip of the pen, and would fill the memory.
MAX_HORIZON = 1_000_000
# Its multiples, modulo 1, spread evenly however many there are.
_GOLDEN_RATIO = 0.5 * (5**0.5 - 1)


class ScenarioParameters(BaseModel):
    """Parameters that every scenario has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(description="Name of the scenario. A subclass narrows it to the Literal it is registered under.")
    horizon: int = Field(gt=0, le=MAX_HORIZON, description="Simulated steps in an episode.")
    action_repeat: int = Field(
        1, gt=0, description="Simulated steps for which an action is held. Rewards are summed over them."
    )
    mode: Literal["train", "evaluate"] = Field(
        "train",
        description="Start of an episode: train draws one at random; evaluate begins environment e at reference start "
        "e.",
    )
    stagger: bool = Field(
        False,
        description="The first training episodes are truncated after different shares of the horizon, so that "
        "environments side by side are always at different times of their episodes.",
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
    """Properties of a scenario that are known before anything is simulated.

    Attributes:
        places: numbers (N,) of the agents among the M entities, ascending.
        num_entities: M.
        graph: the scenario's own communication graph, on nodes 0..N-1.
        observation_space: of one agent, shape (D,).
        action_space: of one agent, a Box in physical units or a Discrete.
        reference_starts: number of start states that evaluation goes through.
        state_names: keys of ``info["state"]``.
        start: the arrays of a start state, by name.
        step_seconds: seconds of one simulated step.
    """

    places: tuple[int, ...]
    num_entities: int
    graph: nx.Graph
    observation_space: gymnasium.spaces.Box
    action_space: gymnasium.spaces.Box | gymnasium.spaces.Discrete
    reference_starts: int
    state_names: tuple[str, ...]
    start: Mapping[str, StartField]
    step_seconds: float

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
        folder: for a simulator's files, gone after the construction.

    Attributes:
        num_agents: N.
        num_entities: M.
        places: numbers (N,) of the agents among the entities.
        reward: (E, N), of the last step, summed over its simulated steps.
        terminated, truncated: (E,) bool, of the last step.
        ended_by: (E, N) bool, agents whose own state ended the episode in the last step; see ``_advance``.
    """

    Parameters: ClassVar[type[ScenarioParameters]]
    #: Key under which ``info`` has the state of all M entities, (E, M).
    entities: ClassVar[str] = "entities"
    #: Further attributes (E,) bool of the last step, which ``info`` reports by these names.
    flags: ClassVar[tuple[str, ...]] = ()
    #: Names of commands (E, N) other than actions, which drive one simulated step each; see ``step_by``.
    commands: ClassVar[tuple[str, ...]] = ()
    #: Whether every environment needs a process of its own.
    one_env_a_process: ClassVar[bool] = False
    #: Actions worth comparing with, by name: every agent does this all the time.
    constant_actions: ClassVar[Mapping[str, float | int]] = {}
    #: What an evaluation counts for an agent and simulated step that an episode's early end left undriven.
    undriven_reward: ClassVar[float] = 0.0
    #: Parameters in which controllers differ here from their own defaults, by the controller's name.
    controller_parameters: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, parameters: P, numbers: range, seed: int, folder: Path) -> None:
        self.parameters, self.numbers = parameters, numbers
        spec = self.spec(parameters)
        self.num_envs, self.num_entities, self.num_agents = len(numbers), spec.num_entities, spec.num_agents
        self.places = np.array(spec.places)
        self._agents = selection(self.places)
        self.clock = np.zeros(self.num_envs, dtype=np.int64)
        self.limit = np.full(self.num_envs, parameters.horizon)
        self.reward = np.zeros((self.num_envs, self.num_agents))
        self.terminated, self.truncated = np.zeros((2, self.num_envs), dtype=np.bool_)
        self.ended_by = np.zeros((self.num_envs, self.num_agents), dtype=np.bool_)
        self.seed(seed)

    @classmethod
    @abstractmethod
    def spec(cls, parameters: P) -> Spec:
        """Agents, graph and spaces that these parameters give."""

    @classmethod
    def bounds(cls, parameters: P) -> Mapping[str, float]:
        """Upper bounds for any policy, by name: rewards per simulated step and agent, means over reference starts."""
        return {}

    @classmethod
    def meter(cls, seconds: float, steps: int) -> Meter:
        """Meter of what an evaluation measures here besides rewards.

        Args:
            seconds: from one step to the next.
            steps: in an episode that lasts to the horizon.
        """
        return StateMeter(cls.entities)

    @classmethod
    def open_window(cls) -> None:
        """Show all simulations of this process that start from here on in a window.

        Raises:
            ValueError: this kind of scenario has none.
        """
        raise ValueError(f"{cls.__name__} has no window to be shown in")

    @abstractmethod
    def _begin(self, env: int, start: State | None) -> None:
        """Put environment ``env`` at ``start``, or at a start of its own choice where that is None."""

    @abstractmethod
    def _advance(self, command: Any) -> tuple[Floats, Bools]:
        """Simulate one step under a command, as ``_command`` gives it.

        Where single agents end an episode, it sets them in ``ended_by``, which is False everywhere before each call;
        only episodes that end in this simulated step count.

        Returns:
            Reward (E, N) and ended (E,).
        """

    @abstractmethod
    def observe_agents(self) -> Floats:
        """Observations of the agents, (E, N, D)."""

    @abstractmethod
    def reported_state(self) -> dict[str, Floats]:
        """State of all entities, (E, M) each, by the ``state_names`` of the spec."""

    @abstractmethod
    def _snapshot(self) -> dict[str, NDArray[Any]]:
        """Arrays (E, …) from which ``_restore`` can go on."""

    @abstractmethod
    def _restore(self, env: int, snapshot: State) -> None:
        """Put environment ``env`` at its row of a snapshot."""

    def _command(self, actions: Actions) -> Any:
        """Command of one simulated step that actions ask for in the present state."""
        return actions

    def queries(self) -> Mapping[str, Callable[[int], Any]]:
        """Questions about one environment, by name, each a function of its number; for pictures."""
        return {}

    def close(self) -> None:
        """End the simulation."""

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

    def step(self, actions: Actions) -> None:
        """Hold actions (E, N, A) or (E, N) for ``action_repeat`` simulated steps; the attributes hold the outcome."""
        self._simulate(self._command(actions) for _ in range(self.parameters.action_repeat))

    def step_by(self, name: str, command: Floats) -> None:
        """One simulated step under one of the ``commands`` (E, N), whatever an action of this scenario is."""
        raise ValueError(f"{type(self).__name__} has no command {name}")

    def _simulate(self, commands: Iterable[Any]) -> None:
        self.reward[:], self.terminated[:] = 0.0, False
        ended_by = np.zeros_like(self.ended_by)
        for command in commands:
            self.ended_by[:] = False
            reward, ended = self._advance(command)
            # An episode that ended during a held action earns nothing for the rest of it.
            self.reward += np.where(self.terminated[:, None], 0.0, reward)
            ended_by |= self.ended_by & (ended & ~self.terminated)[:, None]
            self.terminated |= ended
            self.clock += 1
        self.ended_by[:] = ended_by
        self.truncated[:] = (self.clock >= self.limit) & ~self.terminated

    def of_agents(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of the N agents, (E, N, …), among those of all entities, (E, M, …)."""
        return rows[:, self._agents]

    def prepare(self) -> None:
        """Compute ahead what the next step needs and the agents' actions do not change, while they are being chosen.

        Called after every step and every reset.
        """

    def reference_start(self, env: int) -> int | None:
        """Number of the reference start of an environment, None in training."""
        if self.parameters.mode == "train":
            return None
        return self.numbers[env] % self.spec(self.parameters).reference_starts

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that an exact continuation needs, (E, …) arrays.

        Every environment is put at what was written down: a simulator's own last digits may not be readable, and only
        so does this simulation go on exactly as a restored one.
        """
        state = self._written_down()
        self._restore_all(state)
        return state

    def set_state(self, state: State) -> None:
        """Continue from ``get_state``.

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
