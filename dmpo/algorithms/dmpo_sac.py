"""DMPO over decentralized SAC: the critics and policies of DSAC learn from steps that the agents' models imagine.

repeat:  τ ← real steps by everybody;  fit p̂_i on the latest real steps until held-out errors stop falling;
         repeat B times:  roll the models T steps from the latest real states;
                          gradient steps on π_i, Q_i and α_i, a share q0 of each batch imagined, the others replayed
"""

from functools import partial
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from dmpo.algorithms.dsac import DSAC
from dmpo.data.replay_buffer import WindowSampler
from dmpo.data.rollout import Rollout
from dmpo.models.agent_models import Practice
from dmpo.settings import DMPOSACSettings
from dmpo.updates.sac import Transitions


class DMPOSAC(DSAC):
    """DSAC whose agents also practise in their own models.

    Args: see `Agents`.
    """

    settings: DMPOSACSettings

    def _build(self, graph: nx.Graph, seed: int) -> None:
        super()._build(graph, seed)
        self.practice = Practice(self, self.settings, graph, seed)

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Fit the models and measure them, as long as anybody practises in them."""
        return self.practice.fit(batch, progress)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """As `DSAC`, on imagined and replayed steps; `policy/gradient_steps` are those on steps imagined at once."""
        metrics = super().improve(batch, progress)
        if "policy/gradient_steps" in metrics:
            metrics["policy/gradient_steps"] /= self.settings.inner_iterations
            metrics["model/horizon"] = float(self.practice.horizon(progress))
        return metrics

    def _begin(self) -> None:
        super()._begin()
        self._latest: Tensor | None = None  # (S, N, D), states that imagined steps begin in

    @property
    def _portions(self) -> int:
        return self.settings.inner_iterations

    def _learn_from(self, replay: WindowSampler, portions: int, progress: float) -> None:
        models = self.practice.models
        if not models.ready:
            return
        horizon, share = self.practice.horizon(progress), self.practice.share(progress)
        if self._latest is None:
            self._latest = models.memory.windows(1, held_out=False).everything().states.transpose(0, 1)
        for _ in range(portions):
            imagined = self._imagined(self._latest, horizon)
            self._steps(partial(self._mixed, replay, imagined, share), self.settings.gradient_steps, progress)

    def _imagined(self, starts: Tensor, horizon: int) -> Transitions:
        rollout = self.practice.imagine(starts, horizon)
        valid = rollout.valid  # (T, B)
        states, following = (self.states(x[valid]) for x in (rollout.observations[:-1], rollout.observations[1:]))
        return Transitions(states, rollout.actions[valid], rollout.rewards[valid], following, rollout.terminated[valid])

    def _mixed(self, replay: WindowSampler, imagined: Transitions, share: float) -> Transitions:
        batch, random, device = self.settings.batch_size, self.generator, self.device
        count = int((torch.rand(batch, generator=random, device=device) < share).sum())
        index = torch.randint(len(imagined.rewards), (count,), generator=random, device=device)
        return imagined[index].joined(self._drawn(replay, batch - count))

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {"models": self.practice.models}
