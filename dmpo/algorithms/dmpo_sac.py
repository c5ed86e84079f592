"""DMPO over decentralized SAC: critics and policies of DSAC learn from steps in the agents' models as well.

repeat:  τ ← real steps by everybody;  fit p̂_i on the latest real steps until held-out errors stop falling;
         repeat B times:  roll the models T steps from states of the latest real steps;
                          G gradient steps on batches of which each step comes from that rollout with probability q0,
                          otherwise from all real steps so far
"""

from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field

from dmpo.algorithms.dsac import DSAC, Losses
from dmpo.data.replay_buffer import Role, SequenceSampler
from dmpo.data.rollout import Rollout
from dmpo.learner import Setup
from dmpo.models.agent_models import AgentModels, make_local_model
from dmpo.models.settings import ModelSettings
from dmpo.registry import register
from dmpo.updates.sac import SACSettings, Transitions


class DMPOSACSettings(ModelSettings, SACSettings):
    """Decentralized model-based policy optimization over SAC."""

    name: Literal["dmpo_sac"] = Field("dmpo_sac", description="Decentralized model-based policy optimization over SAC.")
    model_share: float = Field(
        0.5, ge=0, le=1, description="Probability q0 that a step of a batch comes from the models."
    )
    model_horizon: int = Field(1, ge=1, le=10_000, description="T: steps of a model rollout, at the start of training.")
    inner_iterations: int = Field(1, ge=1, le=1_000, description="B: model rollouts per iteration.")


@register("dmpo_sac")
class DMPOSAC(DSAC):
    """DSAC whose agents also train on rollouts in their own models; arguments as of `BaseLearner`."""

    Settings = DMPOSACSettings
    settings: DMPOSACSettings

    def __init__(self, settings: DMPOSACSettings, setup: Setup) -> None:
        super().__init__(settings, setup)
        model = make_local_model(setup, self.features, self.distribution, settings)
        self.models = AgentModels(model, self.policy, self.states, settings, self.told_within, self.generator)

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Fit the models and measure them, as long as any step comes from them."""
        return self.models.fit(batch, progress)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Gradient steps on model and replayed steps; `policy/gradient_steps` counts those per model rollout."""
        settings, replay, losses = self.settings, self.store(batch), Losses()
        if replay is None or not self.models.ready:
            return self.communication()
        horizon, share = settings.horizon_at(progress), settings.model_share_at(progress)
        latest = self.models.trainer.sequences(1, Role.TRAINING).everything()
        starts = latest.states.transpose(0, 1)  # (S, N, D)
        for _ in range(settings.inner_iterations):
            from_model = self.transitions(self.models.rollout(starts, horizon))
            self.take_steps(partial(self.mixed, from_model, replay, share), progress, losses)
        metrics = self.metrics(losses) | self.communication() | {"model/horizon": float(horizon)}
        metrics["policy/gradient_steps"] /= settings.inner_iterations
        return metrics

    def transitions(self, rollout: Rollout) -> Transitions:
        """Steps of model rollouts that all agents take: none has ended before."""
        valid = rollout.valid.all(-1)  # (T, B)
        states, next_states = (self.states(x[valid]) for x in (rollout.observations[:-1], rollout.observations[1:]))
        actions, rewards, terminated = (x[valid] for x in (rollout.actions, rollout.rewards, rollout.terminated))
        return Transitions(states, actions, rewards, next_states, terminated)

    def mixed(self, from_model: Transitions, replay: SequenceSampler, share: float) -> Transitions:
        """Batch of which each step comes from the models with probability `share`."""
        batch, random, device = self.settings.batch_size, self.generator, self.device
        count = int((torch.rand(batch, generator=random, device=device) < share).sum())
        index = torch.randint(len(from_model.rewards), (count,), generator=random, device=device)
        return from_model[index].joined(self.replayed(replay, batch - count))

    def parts(self) -> dict[str, Any]:
        """DSAC's parts and the models."""
        return super().parts() | {"models": self.models.trainer}
