"""DMPO: every agent learns a model of its own corner and trains on rollouts in it (DMPO paper, Algorithm 1).

repeat:  τ ← one real rollout by everybody;  fit p̂_i on the latest real steps until held-out errors stop falling;
         repeat B times:  with probability q0 roll the models T steps from states of τ, otherwise take τ itself;
                          gradient steps on π_i and V_i with that;  stop at too large a KL divergence from the
                          policy that collected τ
"""

from statistics import fmean
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
        "the policy that collected the last one passes 1.5 times this, over all batches together.",
    )


@register("dmpo")
class DMPO(DPPO):
    """DPPO whose agents also train on rollouts in their own models; arguments as of `BaseLearner`."""

    Settings = DMPOSettings
    settings: DMPOSettings

    def __init__(self, settings: DMPOSettings, setup: Setup) -> None:
        super().__init__(settings, setup)
        model = make_local_model(setup, self.features, self.distribution, settings)
        self.models = AgentModels(model, self.policy, self.states, settings, self.told_within, self.generator)

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Fit the models and measure them, as long as any batch comes from them."""
        return self.models.fit(batch, progress)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """PPO on B batches, real or from the models; during the warm-up only critics learn, from the real one."""
        settings, networks = self.settings, self.update.actor_critic
        batch = batch.to(self.device).told(self.told_within)
        real, active = self.normalized(batch), networks.everybody
        if not self.models.ready:
            metrics = self.update.improve(real, progress, ~active)
        else:
            horizon, share = settings.horizon_at(progress), settings.model_share_at(progress)
            random = torch.rand(settings.inner_iterations, generator=self.generator, device=self.device)
            inner: list[dict[str, float]] = []
            for use_model in (from_model := (random < share).tolist()):
                data = self.normalized(self.models.rollout(batch.starts, horizon)) if use_model else real
                inner.append(self.update.improve(data, progress, active))
                kl = networks.kl_from(real)  # (R,)
                active = active & (kl <= KL_TOLERANCE * settings.total_kl)
                if not (bool(active.any()) or settings.strictly_local):
                    break
            metrics = summary(inner, from_model)
            metrics |= {"policy/total_kl": float(kl.mean()), "model/horizon": float(horizon)}
        self.update_normalizer(batch.starts)
        return metrics | self.communication(batch)

    def parts(self) -> dict[str, Any]:
        """DPPO's parts and the models."""
        return super().parts() | {"models": self.models.trainer}


def summary(inner: list[dict[str, float]], from_model: list[bool]) -> dict[str, float]:
    """Metrics of the inner iterations: means, but gradient steps are counted, and those on real steps apart."""
    steps = [metrics["policy/gradient_steps"] for metrics in inner]
    real = sum(taken for taken, model in zip(steps, from_model, strict=False) if not model)
    return {name: fmean(metrics[name] for metrics in inner) for name in inner[0]} | {
        "policy/gradient_steps": sum(steps),
        "policy/real_share": real / sum(steps),
        "policy/inner_iterations": float(len(inner)),
        "model/share": fmean(from_model),
    }
