"""DPPO: decentralised PPO with extended value functions, which is DMPO without a model."""

from dataclasses import replace
from typing import Any

import gymnasium
import networkx as nx
import numpy as np
import torch
from torch import Tensor

from dmpo.configuration import PPOSettings
from dmpo.critic import Critic
from dmpo.distributions import make_distribution
from dmpo.learner import Exploration
from dmpo.moments import Moments
from dmpo.policy import Policy
from dmpo.ppo import PPO
from dmpo.rollout import Rollout


class DPPO:
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and extended value function V_i(s_(N_i^κ)).

    Args:
        settings: of the algorithm.
        graph: who talks to whom.
        observation_space: of one agent, a Box (D,).
        action_space: of one agent, a Box (A,) or Discrete.
        seed: of the initial parameters and of exploration.
        device: where the networks live.
    """

    def __init__(
        self,
        settings: PPOSettings,
        graph: nx.Graph,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = observation_space.shape
        if shape is None or len(shape) != 1:
            raise ValueError(f"observation_space={observation_space} is not possible: a Box (D,) is needed.")
        self.settings, self.device = settings, torch.device(device)
        # Three streams: initial parameters, training, and acting, which must not disturb training.
        seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(3)]
        initial = torch.Generator().manual_seed(seeds[0])
        self.generator, self.acting = (torch.Generator(self.device).manual_seed(s) for s in seeds[1:])
        self.stacks = 1 if settings.share_parameters else len(graph)  # R
        self.distribution = make_distribution(action_space, self.device)
        if settings.init_mean and not self.distribution.scales:
            raise ValueError(f"init_mean={settings.init_mean} is not possible: the actions are discrete, allowed: 0.")
        start = settings.init_mean, settings.init_log_std
        self.policy = Policy(graph, shape[0], self.distribution, settings.hidden, *start, self.stacks, initial).to(
            self.device
        )
        self.critic = Critic(graph, settings.kappa, shape[0], settings.hidden, self.stacks, initial).to(self.device)
        for part in (self.policy, self.critic):
            part.neighborhood = part.neighborhood.to(self.device)
        self.seen = Moments(self.stacks, shape).to(self.device)
        self.ppo = PPO(self.policy, self.critic, settings, self.generator)

    @property
    def collect_steps(self) -> int:
        """T."""
        return self.settings.rollout_steps

    @torch.inference_mode()
    def explore(self, observations: Tensor) -> Exploration:
        """Draw actions for (E, N, D)."""
        parameters = self.policy(self._states(observations.to(self.device)))  # (E, N, P)
        actions = self.distribution.sample(parameters, self.generator)
        return Exploration(self.distribution.commands(actions), actions, parameters)

    @torch.inference_mode()
    def act(self, observations: np.ndarray[Any, Any] | Tensor, deterministic: bool = False) -> np.ndarray[Any, Any]:
        """Actions for (E, N, D), the likeliest or drawn ones, (E, N, A) or (E, N) in the environment's units."""
        if isinstance(observations, np.ndarray):
            observations = torch.from_numpy(observations.astype(np.float32))
        parameters = self.policy(self._states(observations.to(self.device)))  # (E, N, P)
        mode, sample = self.distribution.mode, self.distribution.sample
        return self.distribution.commands(mode(parameters) if deterministic else sample(parameters, self.acting))

    def seed_acting(self, seed: int) -> None:
        """From here on `act` draws the same actions for the same seed."""
        self.acting.manual_seed(seed)

    def fit(self, batch: Rollout) -> dict[str, float]:
        """There is no model."""
        return {}

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """PPO on the real steps; what is known of the states' moments stays the same until it is done."""
        batch = batch.to(self.device)
        metrics = self.ppo.improve(self._normalized(batch), progress)
        if self.settings.normalize_observations:
            self.seen.update(batch.observations[:-1][batch.valid])  # (S, N, D)
        return metrics | self._communication(batch)

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimisers, moments and random generators, as copies."""
        state: dict[str, Any] = {name: dict(part.state_dict()) for name, part in self._parts().items()}
        state = {name: {key: x.clone() for key, x in part.items()} for name, part in state.items()}
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

    def _parts(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "critic": self.critic,
            "observations": self.seen,
            "policy_optimizer": self.ppo.policy_optimizer,
            "value_optimizer": self.ppo.value_optimizer,
        }

    def _states(self, observations: Tensor) -> Tensor:
        return self.seen.normalize(observations) if self.settings.normalize_observations else observations

    def _normalized(self, batch: Rollout) -> Rollout:
        observations, final = self._states(batch.observations), self._states(batch.final_observations)
        return replace(batch, observations=observations, final_observations=final)

    def _communication(self, batch: Rollout) -> dict[str, float]:
        # Acting needs neighbours' states; training those of κ hops, and their values and rewards (eq. 6).
        near, far, width = self.policy.neighborhood, self.critic.neighborhood, batch.observations.shape[-1]
        return {
            "comm/bytes_per_agent_step": near.bytes_per_agent(width),
            "comm/training_bytes_per_agent_step": far.bytes_per_agent(width + 2),
        }
