"""DMPO: every agent learns a model of its own corner and trains on rollouts in it (DMPO paper, Algorithm 1).

repeat:  τ ← one real rollout by everybody;  fit p̂_i on the latest real steps until held-out errors stop falling;
         repeat B times:  with probability q0 roll the models T steps from states of τ, otherwise take τ itself;
                          gradient steps on π_i and V_i with that;  stop at too large a KL divergence from the
                          policy that collected τ
"""

from typing import Any, Literal

import torch
from pydantic import Field

from dmpo.algorithms.dppo import DPPO, DPPOSettings
from dmpo.data.rollout import Rollout
from dmpo.learner import Setup
from dmpo.models.agent_models import AgentModels, make_local_model
from dmpo.models.settings import ModelSettings
from dmpo.registry import register
from dmpo.updates.ppo import KL_TOLERANCE


class DMPOSettings(ModelSettings, DPPOSettings):
    """Decentralized model-based policy optimization: DPPO that also trains on rollouts in local models."""

    name: Literal["dmpo"] = Field("dmpo", description="Decentralized model-based policy optimization.")  # type: ignore[assignment]
    total_kl: float = Field(
        0.05,
        gt=0,
        description="An agent stops improving its policy until the next real rollout once the mean KL divergence from "
        "the policy that collected the last one passes 1.5 times this.",
    )


@register("dmpo")
class DMPO(DPPO):
    """DPPO whose agents also train on rollouts in their own models; arguments as of `BaseLearner`."""

    Settings = DMPOSettings
    settings: DMPOSettings

    def __init__(self, settings: DMPOSettings, setup: Setup) -> None:
        super().__init__(settings, setup)
        model = make_local_model(setup, self.features, self.distribution, settings)
        self.models = AgentModels(model, self.policy, self.states, settings, self.generator)

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Fit the models and measure them, as long as any batch comes from them."""
        return self.models.fit(batch, progress)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """PPO on B batches, real or from the models; during the warm-up only critics learn, from the real one."""
        settings, batch = self.settings, batch.to(self.device)
        real, starts = self.normalized(batch), batch.observations[:-1][batch.valid]  # starts (S, N, D)
        everybody, inner = self.update.actor_critic.everybody, settings.inner_iterations
        metrics: dict[str, list[float]] = {}
        if not self.models.ready:
            metrics = {name: [x] for name, x in self.update.improve(real, progress, ~everybody).items()}
        else:
            horizon, share = settings.horizon_at(progress), settings.model_share_at(progress)
            from_model = torch.rand(inner, generator=self.generator, device=self.device) < share
            active = everybody
            for use_model in from_model.tolist():
                data = self.normalized(self.models.rollout(starts, horizon)) if use_model else real
                for name, value in self.update.improve(data, progress, active).items():
                    metrics.setdefault(name, []).append(value)
                active = active & (self.update.actor_critic.kl_from(real) <= KL_TOLERANCE * settings.total_kl)
                if not bool(active.any()):
                    break
            metrics |= {"model/share": [float(from_model.float().mean())], "model/horizon": [float(horizon)]}
        self.update_normalizer(starts)
        return {name: sum(x) / len(x) for name, x in metrics.items()} | self.communication(batch)

    def parts(self) -> dict[str, Any]:
        """DPPO's parts and the models."""
        return super().parts() | {"models": self.models.trainer}
