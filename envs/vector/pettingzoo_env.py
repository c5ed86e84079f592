"""One environment of a scenario as a PettingZoo ``ParallelEnv``, for learners of other libraries."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import gymnasium
import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pettingzoo import ParallelEnv

from envs.vector.vector_env import VectorEnv
from graphs.spelling import check_names

Observations = dict[str, NDArray[np.float32]]
Infos = dict[str, dict[str, Any]]
NEEDS_RESET = "there is no episode: it has not begun or is over; call reset() first"


class PettingZooEnv(ParallelEnv[str, Any, Any]):
    """Behaves as the environment that it is given, in the first row, but stops where that begins the next episode.

    All agents begin and end together. An episode ends with its last observation; then ``agents`` is empty, and only
    ``reset`` goes on. Every seed given to ``reset`` fixes all episodes from there to the next one given.

    Args:
        name: of the scenario.
        env: one environment, E = 1, which this one closes.

    Attributes:
        possible_agents: ``agent_0`` … in the order of the loop or the platoon, which is that of the graph's nodes.
        graph: who is whose neighbor in the scenario, with agents as nodes.
        state_space: of ``state()``, (N, D).
    """

    def __init__(self, name: str, env: VectorEnv) -> None:
        self.metadata = {"name": name, "render_modes": [], "is_parallelizable": True}
        self.render_mode = None
        self.possible_agents = [f"agent_{i}" for i in range(env.num_agents)]
        self.agents: list[str] = []
        self.graph: nx.Graph = nx.relabel_nodes(env.graph, dict(enumerate(self.possible_agents)))
        # Each its own, since whoever samples seeds them.
        self.observation_spaces = {agent: deepcopy(env.observation_space) for agent in self.possible_agents}
        self.action_spaces = {agent: deepcopy(env.action_space) for agent in self.possible_agents}
        one = env.observation_space
        everyone = (env.num_agents, *one.shape)
        low, high = np.broadcast_to(one.low, everyone), np.broadcast_to(one.high, everyone)
        self.state_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self._env = env
        self._state: NDArray[np.float32] | None = None

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """What an agent sees of itself, (D,); always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """What an agent does: m/s², (A,), or a number; always the same object."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Observations, Infos]:
        """Begin an episode.

        Args:
            seed: starts the random stream anew; None goes on with it.
            options: ``{"state": {…}}`` begins exactly there, see :meth:`VectorEnv.reset`. Other options are for other
                environments, and PettingZoo wants them let through.

        Returns:
            Observations (D,) float32 by agent, and by agent the physical state by name.

        Raises:
            ValueError: a start state of the wrong form.
        """
        start = {"state": options["state"]} if options and "state" in options else None
        obs, info = self._env.reset(seed, start)
        self.agents = self.possible_agents.copy()
        return self._seen(obs), self._physical(info["state"])

    def step(
        self, actions: Mapping[str, ArrayLike]
    ) -> tuple[Observations, dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """Drive everybody for ``action_repeat`` simulated steps.

        Args:
            actions: by agent, (A,) accelerations in m/s², clipped to the action space, or an action's number.

        Returns:
            By agent: observation (D,), the last of the episode where it ends; reward; whether the episode ended by
            itself; whether it ended at the time limit; and the physical state by name with ``collision``, ``lost`` and
            ``ended_by``, whether this agent's own state ended the episode.
            An episode is lost if its simulation died or hung: it is truncated and the physical state is left out.

        Raises:
            gymnasium.error.ResetNeeded: no episode is going on.
            ValueError: agents without an action or without a name here; actions of the wrong shape or kind, outside the
                action numbers, or not finite.
            SimulationError: SUMO fails again and again.
        """
        if not self.agents:
            raise gymnasium.error.ResetNeeded(NEEDS_RESET)
        obs, reward, terminated, truncated, info = self._env.step(self._row(actions)[None])
        agents = self.agents
        ended, lost = bool(terminated[0] | truncated[0]), bool(info["lost"][0])
        if ended:
            self.agents = []
        infos: Infos = {agent: {} for agent in agents} if lost else self._physical(info["state"])
        for of_agent, ended_by in zip(infos.values(), info["ended_by"][0].tolist(), strict=True):
            of_agent |= {"collision": bool(info["collision"][0]), "lost": lost, "ended_by": ended_by}
        return (
            self._seen(info["final_obs"] if ended else obs),
            dict(zip(agents, reward[0].tolist(), strict=True)),
            dict.fromkeys(agents, bool(terminated[0])),
            dict.fromkeys(agents, bool(truncated[0])),
            infos,
        )

    def state(self) -> NDArray[np.float32]:
        """Everybody's latest observations (N, D), for critics that see all.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded(NEEDS_RESET)
        return self._state.copy()

    def close(self) -> None:
        """End the simulation; again is nothing."""
        self.agents = []
        self._env.close()

    def _row(self, actions: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Actions (N, A) or (N,) in the order of the agents."""
        check_names("agent", actions, self.agents)
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"there is no action for {', '.join(missing)}; every agent acts in every step")
        rows = [np.asarray(actions[agent], dtype=np.float64) for agent in self.agents]
        for agent, row in zip(self.agents, rows, strict=True):
            if row.shape != self.action_spaces[agent].shape:
                raise ValueError(
                    f"the action of {agent} has shape {row.shape}; it must be in {self.action_space(agent)}"
                )
        return np.stack(rows)

    def _seen(self, obs: NDArray[np.float32]) -> Observations:
        # The next step writes over (1, N, D).
        self._state = obs[0].copy()
        return dict(zip(self.possible_agents, self.state(), strict=True))

    def _physical(self, state: Mapping[str, NDArray[np.float64]]) -> Infos:
        columns = {name: rows[0].tolist() for name, rows in state.items()}
        return {
            agent: {name: column[i] for name, column in columns.items()} for i, agent in enumerate(self.possible_agents)
        }
