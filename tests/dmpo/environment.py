"""A small environment with the interface of the real ones: point masses on a line that shall stay evenly apart."""

from typing import Any, Literal

import gymnasium
import networkx as nx
import numpy as np
from numpy.typing import NDArray

from envs.traffic.measures import TrafficMeter

Array = NDArray[Any]
BOUND = 2.0  # largest acceleration
GAINS = np.array([-1.0, 0.0, 1.0])  # what the discrete actions command
STEP = 0.1


class PointMasses:
    """N masses on a line, each of which shall come to rest at its own place.

    An agent sees its distance from its place and its speed, pays for both, and for its neighbors' distance. `crash`
    ends an episode, without a time limit, once any mass is further away than that.
    """

    step_seconds, undriven_reward = STEP, 0.0

    def __init__(
        self,
        num_envs: int = 4,
        num_agents: int = 3,
        actions: Literal["continuous", "discrete"] = "continuous",
        horizon: int = 20,
        crash: float = np.inf,
        action_repeat: int = 1,
        seed: int = 0,
    ) -> None:
        self.num_envs, self.num_agents, self.horizon, self.crash = num_envs, num_agents, horizon, crash
        self.action_repeat = action_repeat
        self.graph = nx.path_graph(num_agents)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        box = gymnasium.spaces.Box(-BOUND, BOUND, (1,), np.float32)
        self.action_space: gymnasium.Space[Any] = (
            box if actions == "continuous" else gymnasium.spaces.Discrete(len(GAINS))
        )
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.position = np.zeros((num_envs, num_agents))
        self.speed = np.zeros((num_envs, num_agents))
        self.clock = np.zeros(num_envs, dtype=np.int64)
        self._view = np.zeros((num_envs, num_agents, 2), dtype=np.float32)

    @property
    def graph(self) -> nx.Graph:
        """Who is whose neighbor."""
        return self._graph

    @graph.setter
    def graph(self, graph: nx.Graph) -> None:
        self._graph, self._adjacency = graph, nx.to_numpy_array(graph)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start every episode anew."""
        if seed is not None:
            self.random = np.random.Generator(np.random.PCG64(seed))
        self._begin(np.ones(self.num_envs, dtype=bool))
        return self._observe(), {"state": self._state(), "traffic": self._state()}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Move by one step; the observations are a view that the next step overwrites."""
        discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)
        force = GAINS[actions] if discrete else actions[..., 0].astype(np.float64)
        assert force.shape == self.position.shape
        assert np.abs(force).max() <= BOUND
        self.speed += STEP * self.action_repeat * force
        self.position += STEP * self.action_repeat * self.speed
        self.clock += self.action_repeat
        cost = self.position**2 + 0.1 * self.speed**2
        reward = -(cost + 0.2 * (self.position**2) @ self._adjacency).astype(np.float32) * self.action_repeat
        crashed = np.abs(self.position) > self.crash  # (E, N)
        terminated = crashed.any(1)
        truncated = ~terminated & (self.clock >= self.horizon)
        info = {
            "final_obs": self._observe().copy(),
            "state": self._state(),
            "traffic": self._state(),
            "collision": terminated.copy(),
            "ended_by": crashed,
        }
        self._begin(terminated | truncated)
        return self._observe(), reward, terminated, truncated, info

    def meter(self) -> TrafficMeter:
        """Speeds and collisions, as on roads."""
        return TrafficMeter(STEP * self.action_repeat, -(-self.horizon // self.action_repeat))

    def get_state(self) -> dict[str, Array]:
        """Positions, speeds, clocks and the random generator."""
        words = self.random.bit_generator.state["state"]
        numbers = [word >> (64 * half) & (2**64 - 1) for word in (words["state"], words["inc"]) for half in (0, 1)]
        random = np.array(numbers, dtype=np.uint64)
        return {"position": self.position, "speed": self.speed, "clock": self.clock, "random": random}

    def set_state(self, state: dict[str, Array]) -> Array:
        """Go on from there."""
        self.position, self.speed, self.clock = (state[name].copy() for name in ("position", "speed", "clock"))
        low, high, low_inc, high_inc = (int(number) for number in state["random"])
        full = self.random.bit_generator.state
        full["state"] = {"state": low | high << 64, "inc": low_inc | high_inc << 64}
        self.random.bit_generator.state = full
        return self._observe()

    def _begin(self, which: Array) -> None:
        drawn = self.random.uniform(-1, 1, (2, self.num_envs, self.num_agents))
        self.position[which], self.speed[which], self.clock[which] = drawn[0, which], drawn[1, which], 0

    def _observe(self) -> Array:
        self._view[:] = np.stack([self.position, self.speed], -1)
        return self._view

    def _state(self) -> dict[str, Array]:
        return {"position": self.position.copy(), "speed": self.speed.copy()}
