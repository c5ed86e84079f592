"""DMPO: every agent learns a model of its own corner and practises in it (DMPO paper, Algorithm 1), over DPPO's PPO.

repeat:  τ ← one real rollout by everybody;  fit p̂_i on the latest real steps until held-out errors stop falling;
         repeat B times:  with probability q0 roll the models T steps from states of τ, otherwise take τ itself;
                          gradient steps on π_i and V_i with that;  stop at too large a KL divergence from the
                          policy that collected τ
"""

from typing import Any

import gymnasium
import networkx as nx
import torch
from torch import Tensor

from dmpo.branch import branch
from dmpo.configuration import DMPOSettings
from dmpo.distributions import Categorical
from dmpo.dppo import DPPO
from dmpo.local_model import LocalModel
from dmpo.model_learning import ModelLearner
from dmpo.ppo import KL_TOLERANCE
from dmpo.rollout import Rollout


class DMPO(DPPO):
    """DPPO whose agents also practise in their own models.

    Args: see `DPPO`.
    """

    settings: DMPOSettings

    def __init__(
        self,
        settings: DMPOSettings,
        graph: nx.Graph,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(settings, graph, observation_space, action_space, seed, device)
        discrete = isinstance(self.distribution, Categorical)
        model = LocalModel(
            graph,
            observation_space.shape[0],  # type: ignore[index]
            self.distribution.outputs,
            discrete,
            settings.model_encoding,
            settings.model_hidden,
            settings.model_message,
            torch.Generator().manual_seed(seed),
        )
        self.models = ModelLearner(model, settings, self.generator)

    def fit(self, batch: Rollout) -> dict[str, float]:
        """Fit the models."""
        return self.models.fit(batch)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """PPO on B batches, most of them imagined."""
        settings, real = self.settings, self._normalized(batch)
        starts = batch.observations[:-1][batch.valid]  # (S, N, D)
        horizon = self._branch_steps(progress)
        imagined = torch.rand(settings.inner_iterations, generator=self.generator) < settings.model_share
        active = torch.ones(self.stacks, dtype=torch.bool)
        metrics: dict[str, list[float]] = {}
        for is_imagined in imagined.tolist():
            data = self._imagine(starts, horizon) if is_imagined else real
            found = self.ppo.improve(data, progress, active)
            for name, value in found.items():
                metrics.setdefault(name, []).append(value)
            active = active & (self.ppo.divergence(real) <= KL_TOLERANCE * settings.total_kl)
            if not bool(active.any()):
                break
        if settings.normalize_observations:
            self.seen.update(starts)
        averages = {name: sum(values) / len(values) for name, values in metrics.items()}
        averages |= {"model/share": float(imagined.float().mean()), "model/horizon": float(horizon)}
        return averages | self._communication(batch)

    def state_dict(self) -> dict[str, Any]:
        """That of DPPO, and the models'."""
        return super().state_dict() | {"models": self.models.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self.models.load_state_dict(state["models"])

    def _branch_steps(self, progress: float) -> int:
        # Linear between two points, as in MBPO's table 1.
        settings = self.settings
        first, last = settings.model_steps, settings.model_steps_final or settings.model_steps
        start, end = settings.model_steps_change
        return round(first + (last - first) * min(max((progress - start) / (end - start), 0.0), 1.0))

    def _imagine(self, starts: Tensor, horizon: int) -> Rollout:
        index = torch.randint(len(starts), (self.settings.model_starts,), generator=self.generator)
        imagined = branch(self.models, self.policy, starts[index], horizon, self._states, self.generator)
        return self._normalized(imagined)
