"""IC3Net: individualized controlled continuous communication (Singh, Jain, Sukhbaatar 2018).

repeat:  T steps by everybody with a recurrent policy, which receives the hidden states of those neighbors whose gates
         were open in the step before; one gradient step through these T steps (`RecurrentA2C`)
"""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dmpo.algorithms.base import BaseLearner
from dmpo.data.rollout import Rollout
from dmpo.learner import Exploration, Setup
from dmpo.nn.distributions import make_distribution
from dmpo.nn.recurrent import GatedDistribution, RecurrentPolicy, RecurrentState
from dmpo.registry import register
from dmpo.settings import Width
from dmpo.updates.recurrent_a2c import RecurrentA2C, RecurrentA2CSettings


class IC3NetSettings(RecurrentA2CSettings):
    """Recurrent agents that learn when to communicate."""

    name: Literal["ic3net"] = Field("ic3net", description="Individualized controlled continuous communication.")
    hidden_size: Width = Field(64, description="H: width of a hidden state, and of the message made of it.")
    rollout_steps: int = Field(
        10, ge=1, le=100_000, description="Actions of each agent, in each environment, that a gradient step goes back."
    )


@register("ic3net")
class IC3Net(BaseLearner):
    """N agents with one recurrent policy and value function, and gates on their messages.

    There are two recurrent states: that of training, which is part of the learner's state, and that of `act`.

    Args: see `BaseLearner`; the precision must be float32.
    """

    Settings = IC3NetSettings
    settings: IC3NetSettings
    distribution: GatedDistribution
    policy: RecurrentPolicy

    def __init__(self, settings: IC3NetSettings, setup: Setup) -> None:
        super().__init__(settings, setup, GatedDistribution(make_distribution(setup.action_space, setup.device)))
        network = RecurrentPolicy(
            setup.graph,
            self.features,
            self.distribution,
            width=settings.hidden_size,
            init_outputs=self.distribution.init_outputs(settings.init_mean, settings.init_log_std),
            init_log_std=settings.init_log_std,
            generator=self.init_generator,
        )
        self.policy = self.placed(network)
        self.update = RecurrentA2C(self.policy, settings)
        self.recurrent_state = self.acting_state = self.policy.initial_state(0)
        self.segment_start: RecurrentState | None = None  # of the segment being collected, once it has begun

    @property
    def stacks(self) -> int:
        """One."""
        return 1

    @torch.no_grad()
    def explore(self, observations: Tensor, first: Tensor) -> Exploration:
        """Draw actions and gates for (E, N, D)."""
        state = self._reset(self.recurrent_state, first)
        if self.segment_start is None:
            self.segment_start = state
        draw = partial(self.distribution.sample, generator=self.generator)
        dist_params, actions, self.recurrent_state = self._decide(observations.to(self.device), state, draw)
        return Exploration(self.distribution.env_actions(actions), actions, dist_params)

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
        state = self._reset(self.acting_state, begins)
        _, actions, self.acting_state = self._decide(self._tensor(observations), state, choose)
        return self.distribution.env_actions(actions)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """One gradient step on the segment just collected."""
        batch = batch.to(self.device)
        assert self.segment_start is not None, "a segment is collected before it is learned from"
        metrics = self.update.improve(self.normalized(batch), self.segment_start, progress)
        self.segment_start = None
        self.update_normalizer(batch.starts)
        return metrics | self.communication(self.distribution.split(batch.actions[batch.taken])[1])

    def state_dict(self) -> dict[str, Any]:
        """The base's state and the recurrent state."""
        kept = {f.name: getattr(self.recurrent_state, f.name).clone() for f in fields(RecurrentState)}
        return super().state_dict() | {"recurrent_state": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: it comes from other settings, another graph or another environment.
        """
        super().load_state_dict(state)
        recurrent = RecurrentState(**{name: x.to(self.device) for name, x in state["recurrent_state"].items()})
        expected, found = (self.num_agents, self.settings.hidden_size), tuple(recurrent.hidden.shape[1:])
        if found != expected:
            remedy = "Load it with the settings and graph it was saved with."
            raise ValueError(f"That state is of hidden states (N, H) = {found}, here they are {expected}. {remedy}")
        self.recurrent_state, self.segment_start = recurrent, None

    def _reset(self, state: RecurrentState, first: Tensor) -> RecurrentState:
        # The number of environments is not known before the first episodes.
        return self.policy.initial_state(len(first)) if bool(first.all()) else state.reset(first.to(self.device))

    def _decide(
        self, observations: Tensor, state: RecurrentState, choose: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, RecurrentState]:
        # Parameters of the distributions, (E, N, P), actions, and the next recurrent state.
        hidden, cell = self.policy(self.states(observations), state)
        dist_params = self.policy.decide(hidden)
        actions = choose(dist_params)
        return dist_params, actions, RecurrentState(hidden, cell, self.distribution.split(actions)[1])

    def parts(self) -> dict[str, Any]:
        """Policy, normalizer and optimizer."""
        return {"policy": self.policy, "obs_normalizer": self.obs_normalizer, **self.update.parts()}

    def communication(self, gates: Tensor) -> dict[str, float]:
        """Bytes that an agent receives per step, and the share of open gates, from gates (S, N) bool.

        A hidden state is sent where the gate is open; a closed gate sends nothing.
        """
        sent = gates.float()
        received = self.policy.neighborhood.reduce(sent, "sum") - sent  # (S, N), from others
        size = self.settings.hidden_size * self.recurrent_state.hidden.element_size()
        return {"comm/bytes_per_agent_step": float(received.mean()) * size, "comm/gate_open": float(sent.mean())}
