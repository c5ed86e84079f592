"""What every learner here has, and the policies without memory that most have."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import gymnasium
import networkx as nx
import numpy as np
import torch
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.learner import Exploration
from dmpo.nn.distributions import Acting, make_distribution
from dmpo.nn.layers import round_products
from dmpo.nn.normalization import Moments
from dmpo.nn.policy import Policy
from dmpo.settings import AgentSettings, LearnerSettings


class LearnerBase(ABC):
    """N agents on a graph, with what each has seen and where random numbers come from; the rest is for subclasses.

    Args:
        settings: of the algorithm.
        graph: who talks to whom.
        observation_space: of one agent, a Box (D,).
        action_space: of one agent, a Box (A,) or Discrete.
        seed: of the initial parameters and of exploration.
        device: where the networks live.
        precision: of the products in policies and values, see `round_products`.

    Raises:
        ValueError: spaces that no learner can handle, or a precision that nothing would be computed in.
    """

    policy: torch.nn.Module  # what acts

    def __init__(
        self,
        settings: LearnerSettings,
        graph: nx.Graph,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        seed: int = 0,
        device: torch.device | str = "cpu",
        precision: torch.dtype = torch.float32,
    ) -> None:
        shape = observation_space.shape
        if shape is None or len(shape) != 1:
            raise ValueError(f"observation_space={observation_space} is not possible: a Box (D,) is needed.")
        self.settings, self.device = settings, torch.device(device)
        self.num_agents, self.features = len(graph), shape[0]
        # Three streams: initial parameters, training, and acting, which must not disturb training.
        seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(3)]
        self.initial = torch.Generator().manual_seed(seeds[0])
        self.generator, self.acting = (torch.Generator(self.device).manual_seed(s) for s in seeds[1:])
        self.distribution = self._distribution(action_space)
        self.seen = Moments(self.stacks, shape).to(self.device)
        self.policy = self._policy(graph).to(self.device)
        self._build(graph, seed)
        self.set_precision(precision)

    def set_precision(self, precision: torch.dtype) -> None:
        """Compute products in policies and values in float32, or rounded."""
        modules = [part for part in self._parts().values() if isinstance(part, torch.nn.Module)]
        found = [round_products(module, precision) for module in modules]
        if precision != torch.float32 and not any(found):
            raise ValueError(f"precision={precision} is of no use: these networks know float32 only. Leave it out.")

    @property
    @abstractmethod
    def stacks(self) -> int:
        """R, the number of parameter sets: N, or 1 where all agents share one."""

    @property
    def collect_steps(self) -> int:
        """T."""
        return self.settings.rollout_steps

    def states(self, observations: Tensor) -> Tensor:
        """What policies and critics make of (..., N, D)."""
        return self.seen.normalize(observations) if self.settings.normalize_observations else observations

    def seed_acting(self, seed: int) -> None:
        """From here on `act` draws the same actions for the same seed."""
        self.acting.manual_seed(seed)

    def meanwhile(self, step: int, progress: float) -> None:  # noqa: B027  most learners leave it so
        """Nothing: the steps of a batch are all to be one policy's."""

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """There is no model."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimizers, moments, experience and random generators, as copies."""
        state = {name: _copied(part.state_dict()) for name, part in self._parts().items()}
        return state | {"generator": self.generator.get_state(), "acting": self.acting.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            ValueError: it comes from other settings, another graph or another environment.
        """
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
        except (KeyError, RuntimeError) as error:
            remedy = "Load it with the settings, graph and environment it was saved with."
            raise ValueError(f"This learner cannot go on from that state: {error}. {remedy}") from error
        self.generator.set_state(state["generator"].cpu())
        self.acting.set_state(state["acting"].cpu())

    def _distribution(self, action_space: gymnasium.Space[Any]) -> Acting:
        return make_distribution(action_space, self.device)

    @abstractmethod
    def _policy(self, graph: nx.Graph) -> torch.nn.Module:
        """What agents act with, drawn from `initial`."""

    @abstractmethod
    def _build(self, graph: nx.Graph, seed: int) -> None:
        """What agents learn with besides their policies, drawn from `initial` after them."""

    def _parts(self) -> dict[str, Any]:
        # What is saved; those that acting needs are called so in every learner.
        return {"policy": self.policy, "observations": self.seen}

    def _tensor(self, observations: np.ndarray[Any, Any] | Tensor) -> Tensor:
        if isinstance(observations, np.ndarray):
            observations = torch.from_numpy(observations.astype(np.float32))
        return observations.to(self.device)

    def _see(self, states: Tensor) -> None:
        # Between updates only: while they go on, states keep the units they have.
        if self.settings.normalize_observations:
            self.seen.update(states)  # (S, N, D)

    def _normalized(self, batch: Rollout) -> Rollout:
        observations, final = self.states(batch.observations), self.states(batch.final_observations)
        return replace(batch, observations=observations, final_observations=final)


class Agents(LearnerBase):
    """N agents with a policy π_i(a_i | s_(N_i^1)) each, which remembers nothing; how they learn is for subclasses.

    Args: see `LearnerBase`.
    """

    settings: AgentSettings
    policy: Policy

    @property
    def stacks(self) -> int:
        """R."""
        return 1 if self.settings.share_parameters else self.num_agents

    @torch.inference_mode()
    def explore(self, observations: Tensor, first: Tensor) -> Exploration:
        """Draw actions for (E, N, D)."""
        parameters = self.policy(self.states(observations.to(self.device)))  # (E, N, P)
        actions = self.distribution.sample(parameters, self.generator)
        return Exploration(self.distribution.commands(actions), actions, parameters)

    @torch.inference_mode()
    def act(
        self,
        observations: np.ndarray[Any, Any] | Tensor,
        deterministic: bool = False,
        first: np.ndarray[Any, Any] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Actions for (E, N, D), the likeliest or drawn ones, (E, N, A) or (E, N) in the environment's units."""
        parameters = self.policy(self.states(self._tensor(observations)))  # (E, N, P)
        mode, sample = self.distribution.mode, self.distribution.sample
        return self.distribution.commands(mode(parameters) if deterministic else sample(parameters, self.acting))

    def _policy(self, graph: nx.Graph) -> Policy:
        settings, distribution = self.settings, self.distribution
        start = distribution.start(settings.init_mean, settings.init_log_std)
        shape = settings.hidden_sizes, start, settings.init_log_std, self.stacks
        policy = Policy(graph, self.features, distribution, *shape, self.initial, settings.neighbor_order)
        policy.neighborhood = policy.neighborhood.to(self.device)
        return policy


def _copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _copied(x) for key, x in state.items()}
    if isinstance(state, list | tuple):
        return [_copied(x) for x in state]
    return state.clone() if isinstance(state, Tensor) else state
