"""Common parts of the learners: random streams, observation normalizer, state; and policies without memory."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.learner import Exploration, Setup
from dmpo.nn.critics import QCritic, ValueCritic
from dmpo.nn.distributions import ActionDistribution, make_distribution
from dmpo.nn.layers import set_precision
from dmpo.nn.local_policy import LocalPolicy
from dmpo.nn.normalization import RunningNormalizer
from dmpo.nn.policy import Policy
from dmpo.nn.recurrent import RecurrentPolicy
from dmpo.settings import FeedforwardSettings, LearnerSettings, LocalitySettings
from graphs import Neighborhood

STATE_BOUND = 10.0  # standard deviations from the mean at which a normalized observation is cut off
Network = TypeVar("Network", Policy, RecurrentPolicy, ValueCritic, QCritic)


class BaseLearner(ABC):
    """N agents on a graph, their normalizer of observations and their random streams.

    Args:
        settings: of the algorithm.
        setup: graph, spaces of one agent, seed, device and precision.
        distribution: of one agent's actions; Gaussian or categorical, as the action space is, if left out.

    Raises:
        ValueError: spaces that no learner can handle, or a precision that nothing would be computed in.
    """

    Settings: ClassVar[type[LearnerSettings]]
    policy: LocalPolicy

    def __init__(self, settings: LearnerSettings, setup: Setup, distribution: ActionDistribution | None = None) -> None:
        shape = setup.observation_space.shape
        if shape is None or len(shape) != 1:
            raise ValueError(f"observation_space={setup.observation_space} is not possible: a Box (D,) is needed.")
        self.settings, self.setup, self.device = settings, setup, torch.device(setup.device)
        self.num_agents, self.features = len(setup.graph), shape[0]
        # Three streams: initial parameters, training, and acting, which must not disturb training.
        seeds = [int(word) for word in np.random.SeedSequence(setup.seed).generate_state(3)]
        self.init_generator = torch.Generator().manual_seed(seeds[0])
        self.generator, self.acting = (torch.Generator(self.device).manual_seed(s) for s in seeds[1:])
        self.distribution = distribution or make_distribution(setup.action_space, self.device)
        self.obs_normalizer = RunningNormalizer(self.stacks, shape).to(self.device)

    @property
    @abstractmethod
    def stacks(self) -> int:
        """R, the number of parameter sets: N, or 1 where all agents share one."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """Parts with a state of their own, by name; every learner has `policy` and `obs_normalizer`."""

    @property
    def collect_steps(self) -> int:
        """T."""
        return self.settings.rollout_steps

    def states(self, observations: Tensor) -> Tensor:
        """States that policies and critics see, from observations (..., N, D): as they are, or normalized and bounded.

        Without a bound, one feature that hardly varied so far could be any number of standard deviations away.
        """
        if not self.settings.normalize_observations:
            return observations
        return self.obs_normalizer.normalize(observations).clamp(-STATE_BOUND, STATE_BOUND)

    def seed_acting(self, seed: int) -> None:
        """Make `act` draw the same actions for the same seed from here on."""
        self.acting.manual_seed(seed)

    def communicate_on(self, graph: nx.Graph) -> None:
        """Act on messages over another graph from here on, and learn no more, see `LocalPolicy.communicate_on`.

        Raises:
            ValueError: the policies cannot act there.
        """
        self.policy.communicate_on(graph)

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Do nothing: this learner has no model."""
        return {}

    def normalized(self, batch: Rollout) -> Rollout:
        """A batch with states in the place of observations."""
        observations, final = self.states(batch.observations), self.states(batch.final_observations)
        return replace(batch, observations=observations, final_observations=final)

    def update_normalizer(self, observations: Tensor) -> None:
        """Take in observations (S, N, D), between updates only: during one, states keep their units."""
        if self.settings.normalize_observations:
            self.obs_normalizer.update(observations)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimizers, normalizers, buffers and random generators, as copies."""
        state = {name: _copied(part.state_dict()) for name, part in self.parts().items()}
        return state | {"generator": self.generator.get_state(), "acting": self.acting.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: it comes from other settings, another graph or another environment.
        """
        try:
            for name, part in self.parts().items():
                part.load_state_dict(state[name])
        except (KeyError, RuntimeError) as error:
            remedy = "Load it with the settings, graph and environment it was saved with."
            raise ValueError(f"This learner cannot go on from that state: {error}. {remedy}") from error
        self.generator.set_state(state["generator"].cpu())
        self.acting.set_state(state["acting"].cpu())

    def placed(self, network: Network) -> Network:
        """A network on the device, with its neighborhood, and in the precision that was asked for.

        Raises:
            ValueError: no MLP in it would be computed in that precision.
        """
        network.to(self.device)
        network.neighborhood = network.neighborhood.to(self.device)
        precision = self.setup.precision
        if not set_precision(network, precision) and precision != torch.float32:
            raise ValueError(f"precision={precision} is of no use: these networks know float32 only. Leave it out.")
        return network

    def _tensor(self, observations: np.ndarray[Any, Any] | Tensor) -> Tensor:
        if isinstance(observations, np.ndarray):
            observations = torch.from_numpy(observations.astype(np.float32))
        return observations.to(self.device)


class FeedforwardLearner(BaseLearner):
    """N agents with a policy π_i(a_i | s_(N_i^1)) each, which has no memory.

    Args: see `BaseLearner`.
    """

    settings: FeedforwardSettings
    policy: Policy

    def __init__(
        self, settings: FeedforwardSettings, setup: Setup, distribution: ActionDistribution | None = None
    ) -> None:
        super().__init__(settings, setup, distribution)
        policy = Policy(
            setup.graph,
            self.features,
            self.distribution,
            hidden_sizes=settings.hidden_sizes,
            init_outputs=self.distribution.init_outputs(settings.init_mean, settings.init_log_std),
            init_log_std=settings.init_log_std,
            stacks=self.stacks,
            generator=self.init_generator,
            order=settings.neighbor_order,
        )
        self.policy = self.placed(policy)
        hops = settings.told_within() if isinstance(settings, LocalitySettings) else None
        self.told_within = None if hops is None else Neighborhood(setup.graph, hops).to(self.device)

    @property
    def stacks(self) -> int:
        """R."""
        return 1 if self.settings.share_parameters else self.num_agents

    def parts(self) -> dict[str, Any]:
        """Policy and normalizer."""
        return {"policy": self.policy, "obs_normalizer": self.obs_normalizer}

    def value_critic(self, kappa: int | None) -> ValueCritic:
        """Untrained critics V_i(s_(N_i^κ)); κ = None lets them see everybody."""
        settings = self.settings
        shape = (self.features, settings.hidden_sizes, self.stacks)
        return self.placed(ValueCritic(self.setup.graph, kappa, *shape, self.init_generator, settings.neighbor_order))

    @torch.inference_mode()
    def explore(self, observations: Tensor, first: Tensor) -> Exploration:
        """Draw actions for (E, N, D)."""
        dist_params = self.policy(self.states(observations.to(self.device)))  # (E, N, P)
        actions = self.distribution.sample(dist_params, self.generator)
        return Exploration(self.distribution.env_actions(actions), actions, dist_params)

    @torch.inference_mode()
    def act(
        self,
        observations: np.ndarray[Any, Any] | Tensor,
        deterministic: bool = False,
        first: np.ndarray[Any, Any] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Actions for (E, N, D), the likeliest or drawn ones, (E, N, A) or (E, N) in the environment's units."""
        dist_params = self.policy(self.states(self._tensor(observations)))  # (E, N, P)
        mode, sample = self.distribution.mode, self.distribution.sample
        return self.distribution.env_actions(mode(dist_params) if deterministic else sample(dist_params, self.acting))


def _copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _copied(x) for key, x in state.items()}
    if isinstance(state, list | tuple):
        return [_copied(x) for x in state]
    return state.clone() if isinstance(state, Tensor) else state
