"""DMPO: every agent learns a model of its own corner and practises in it (DMPO paper, Algorithm 1), over DPPO's PPO.

repeat:  τ ← one real rollout by everybody;  fit p̂_i on the latest real steps until held-out errors stop falling;
         repeat B times:  with probability q0 roll the models T steps from states of τ, otherwise take τ itself;
                          gradient steps on π_i and V_i with that;  stop at too large a KL divergence from the
                          policy that collected τ
"""

from typing import Any

import networkx as nx
import torch

from dmpo.algorithms.dppo import DPPO
from dmpo.data.rollout import Rollout
from dmpo.models.agent_models import Practice
from dmpo.settings import DMPOSettings
from dmpo.updates.ppo import KL_TOLERANCE


class DMPO(DPPO):
    """DPPO whose agents also practise in their own models.

    Args: see `Agents`.
    """

    settings: DMPOSettings

    def _build(self, graph: nx.Graph, seed: int) -> None:
        super()._build(graph, seed)
        self.practice = Practice(self, self.settings, graph, seed)

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Fit the models and measure them, as long as anybody practises in them."""
        return self.practice.fit(batch, progress)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """PPO on B batches, most of them imagined; during the warm-up only values learn, from what really happened."""
        batch = batch.to(self.device)
        starts = batch.observations[:-1][batch.valid]  # (S, N, D)
        if self.practice.models.ready:
            metrics = self._practise(batch, starts, progress)
        else:
            nobody = torch.zeros(self.stacks, dtype=torch.bool, device=self.device)
            metrics = self.ppo.improve(self._normalized(batch), progress, nobody)
        self._see(starts)
        return metrics | self._communication(batch)

    def _practise(self, batch: Rollout, starts: torch.Tensor, progress: float) -> dict[str, float]:
        settings, real = self.settings, self._normalized(batch)
        horizon, share = self.practice.horizon(progress), self.practice.share(progress)
        imagined = torch.rand(settings.inner_iterations, generator=self.generator, device=self.device) < share
        active = torch.ones(self.stacks, dtype=torch.bool, device=self.device)
        metrics: dict[str, list[float]] = {}
        for is_imagined in imagined.tolist():
            data = self._normalized(self.practice.imagine(starts, horizon)) if is_imagined else real
            for name, value in self.ppo.improve(data, progress, active).items():
                metrics.setdefault(name, []).append(value)
            active = active & (self.ppo.divergence(real) <= KL_TOLERANCE * settings.total_kl)
            if not bool(active.any()):
                break
        averages = {name: sum(values) / len(values) for name, values in metrics.items()}
        return averages | {"model/share": float(imagined.float().mean()), "model/horizon": float(horizon)}

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {"models": self.practice.models}
