"""IC3Net: individualized controlled continuous communication (Singh, Jain, Sukhbaatar 2018).

repeat:  T steps by everybody, who remember, and hear those neighbors who chose in the step before to be heard;
         one step up the gradient of  Σ_t (R_i^t - V_i^t) (log π(a_i^t) + log π(g_i^t)) - weight · (R_i^t - V_i^t)²
         through the T steps, R_i the return of agent i alone
"""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import gymnasium
import networkx as nx
import numpy as np
import torch
from torch import Tensor

from dmpo.algorithms.base import LearnerBase
from dmpo.data.rollout import Rollout
from dmpo.errors import check_finite
from dmpo.learner import Exploration
from dmpo.nn.distributions import make_distribution
from dmpo.nn.optimizer import StackedAdam
from dmpo.nn.recurrent import Gated, Memory, RecurrentPolicy
from dmpo.settings import IC3NetSettings
from dmpo.updates.returns import next_values, returns, standardized, value_metrics


class IC3Net(LearnerBase):
    """N agents with one recurrent policy and value function, a memory each, and gates on what they say.

    There are two memories: that of training, which is part of the state, and that of `act`.

    Args: see `LearnerBase`.
    """

    settings: IC3NetSettings
    distribution: Gated
    policy: RecurrentPolicy

    @property
    def stacks(self) -> int:
        """One."""
        return 1

    def _distribution(self, action_space: gymnasium.Space[Any]) -> Gated:
        return Gated(make_distribution(action_space, self.device))

    def _policy(self, graph: nx.Graph) -> RecurrentPolicy:
        settings, distribution = self.settings, self.distribution
        start = distribution.start(settings.init_mean, settings.init_log_std)
        shape = settings.hidden_size, start, settings.init_log_std
        policy = RecurrentPolicy(graph, self.features, distribution, *shape, self.initial)
        policy.neighborhood = policy.neighborhood.to(self.device)
        return policy

    def _build(self, graph: nx.Graph, seed: int) -> None:
        self.optimizer = StackedAdam(self.policy.parameters(), self.settings.max_grad_norm)
        self.memory = self.acting_memory = self.policy.cold(0)
        self.began_with: Memory | None = None  # what the segment being collected began with, once it has begun

    @torch.no_grad()
    def explore(self, observations: Tensor, first: Tensor) -> Exploration:
        """Draw actions and gates for (E, N, D)."""
        memory = self._recalled(self.memory, first)
        if self.began_with is None:
            self.began_with = memory
        draw = partial(self.distribution.sample, generator=self.generator)
        parameters, actions, self.memory = self._decide(observations.to(self.device), memory, draw)
        return Exploration(self.distribution.commands(actions), actions, parameters)

    @torch.no_grad()
    def act(
        self,
        observations: np.ndarray[Any, Any] | Tensor,
        deterministic: bool = False,
        first: np.ndarray[Any, Any] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Actions for (E, N, D), the likeliest or drawn ones, as the gates are; (E, N, A) or (E, N)."""
        draw = partial(self.distribution.sample, generator=self.acting)
        choose = self.distribution.mode if deterministic else draw
        begins = torch.ones(len(observations), dtype=torch.bool) if first is None else torch.from_numpy(first)
        memory = self._recalled(self.acting_memory, begins)
        _, actions, self.acting_memory = self._decide(self._tensor(observations), memory, choose)
        return self.distribution.commands(actions)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """One gradient step on the segment just collected."""
        batch = batch.to(self.device)
        metrics = self._learn(self._normalized(batch), progress)
        self.began_with = None
        self._see(batch.observations[:-1][batch.valid])
        return metrics | self._communication(self.distribution.split(batch.actions[batch.valid])[1])

    def unroll(self, batch: Rollout) -> Memory:
        """What agents remembered after each step of the segment just collected, (T, E, N, ...), differentiable.

        It begins with the memory that the segment began with, through which no gradient flows.
        """
        assert self.began_with is not None, "a segment is collected before it is learned from"
        ended = batch.terminated | batch.truncated  # (T, E)
        first = torch.cat([torch.zeros_like(ended[:1]), ended[:-1]])  # what it began with has forgotten what it had to
        gates = self.distribution.split(batch.actions)[1]
        return self.policy.unroll(batch.observations[:-1], first, gates, self.began_with)

    def losses(self, batch: Rollout, memory: Memory, progress: float) -> tuple[Tensor, Tensor, dict[str, float]]:
        """L^policy, with the entropy bonus, and L^value, means over steps and agents; and metrics."""
        policy, valid = self.policy, batch.valid
        targets, values = (x[valid] for x in self._targets(batch, memory))  # (S, N)
        policy.moments.observe(targets, policy.value_head)
        hidden = memory.hidden[valid]  # (S, N, H)
        parameters = policy.decide(hidden)
        log_probs = self.distribution.log_prob(parameters, batch.actions[valid])
        entropy = self.distribution.entropy(parameters).mean()
        gain = (standardized(targets - values) * log_probs).mean() + self.settings.entropy_weight(progress) * entropy
        error = policy.normalized_values(hidden) - policy.moments.normalize(targets)
        return -gain, error.square().mean(), {"policy/entropy": entropy.item(), **value_metrics(values, targets)}

    def state_dict(self) -> dict[str, Any]:
        """As of every learner, and what agents remember."""
        return super().state_dict() | {"memory": {f.name: getattr(self.memory, f.name).clone() for f in fields(Memory)}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            ValueError: it comes from other settings, another graph or another environment.
        """
        super().load_state_dict(state)
        memory = Memory(**{name: x.to(self.device) for name, x in state["memory"].items()})
        expected, found = (self.num_agents, self.settings.hidden_size), tuple(memory.hidden.shape[1:])
        if found != expected:
            remedy = "Load it with the settings and graph it was saved with."
            raise ValueError(f"That state is of memories (N, H) = {found}, here they are {expected}. {remedy}")
        self.memory, self.began_with = memory, None

    def _recalled(self, memory: Memory, first: Tensor) -> Memory:
        # The number of environments is not known before the first episodes.
        return self.policy.cold(len(first)) if bool(first.all()) else memory.forgotten(first.to(self.device))

    def _decide(
        self, observations: Tensor, memory: Memory, choose: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Memory]:
        # The parameters of the distributions, (E, N, P), what is chosen, and what agents then remember.
        hidden, cell = self.policy(self.states(observations), memory)
        parameters = self.policy.decide(hidden)
        actions = choose(parameters)
        return parameters, actions, Memory(hidden, cell, self.distribution.split(actions)[1])

    def _learn(self, batch: Rollout, progress: float) -> dict[str, float]:
        settings = self.settings
        policy_loss, value_loss, metrics = self.losses(batch, self.unroll(batch), progress)
        self.optimizer.zero_grad()
        (policy_loss + settings.value_coef * value_loss).backward()  # type: ignore[no-untyped-call]
        everybody = torch.ones(1, dtype=torch.bool, device=self.device)  # (R,)
        self.optimizer.step(settings.rate(progress) * settings.lr, everybody)
        for name, x in (("policy loss", policy_loss), ("value loss", value_loss)):
            check_finite(name, x.view(1, 1), self.num_agents)
        for parameter in self.policy.parameters():
            check_finite("policy parameters", parameter, self.num_agents)
        return metrics | {"value/loss": value_loss.item(), "policy/gradient_steps": 1.0}

    @torch.no_grad()
    def _targets(self, batch: Rollout, memory: Memory) -> tuple[Tensor, Tensor]:
        # Returns of the agents' own rewards, and V, (T, E, N). What follows the last step of an episode or of the
        # segment is judged with what agents remembered there.
        steps, environments = batch.terminated.shape
        last = torch.arange((steps - 1) * environments, steps * environments, device=self.device)
        states = torch.cat([batch.final_observations, batch.observations[-1]])  # (M+E, N, D)
        hidden, _ = self.policy(states, memory.flatten()[torch.cat([batch.final_index, last])])
        final, beyond = self.policy.values(hidden).tensor_split([len(batch.final_index)])
        values = self.policy.values(memory.hidden)
        following = next_values(torch.cat([values, beyond.unsqueeze(0)]), batch.final_index, final)
        ends = batch.terminated.unsqueeze(-1), batch.truncated.unsqueeze(-1)  # (T, E, 1)
        return returns(batch.rewards, values, following, *ends, self.settings.gamma, 1.0), values

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {"optimizer": self.optimizer}

    def _communication(self, gates: Tensor) -> dict[str, float]:
        # (S, N) bool. A hidden state is sent where the gate is open; that nothing comes says that it is closed.
        sent = gates.float()
        heard = self.policy.neighborhood.reduce(sent, "sum") - sent  # (S, N), of others
        size = self.settings.hidden_size * self.memory.hidden.element_size()
        return {"comm/bytes_per_agent_step": float(heard.mean()) * size, "comm/gate_open": float(sent.mean())}
