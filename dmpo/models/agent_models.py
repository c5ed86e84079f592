"""Practice: what DMPO adds to a learner, whichever it is: models of its agents' own, and rollouts in them."""

import networkx as nx
import torch
from torch import Tensor

from dmpo.algorithms.base import Agents
from dmpo.data.rollout import Rollout
from dmpo.models.evaluation import one_step_errors, open_loop_errors
from dmpo.models.local_model import LocalModel
from dmpo.models.rollouts import branch
from dmpo.models.trainer import ModelLearner
from dmpo.nn.distributions import Categorical
from dmpo.settings import ModelSettings, scheduled


class Practice:
    """The models of a learner's agents, and what they imagine.

    Args:
        agents: who practises.
        settings: of the models.
        graph: who talks to whom.
        seed: of the models' initial parameters.
    """

    def __init__(self, agents: Agents, settings: ModelSettings, graph: nx.Graph, seed: int) -> None:
        self.agents, self.settings = agents, settings
        discrete = isinstance(agents.distribution, Categorical)
        model = LocalModel(
            graph,
            agents.features,
            agents.distribution.actions,
            discrete,
            settings.model_actions == "neighbors",
            settings.model_encoding_size,
            settings.model_hidden_size,
            settings.model_message_size,
            torch.Generator().manual_seed(seed),
        )
        self.models = ModelLearner(model.to(agents.device), settings, agents.generator)

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Learn from a real batch, and measure how wrong the models are on what they have not learned from.

        Once practice has faded out for good there is nothing to learn for, and no metrics.
        """
        if self.settings.model_share_final == 0 and progress >= self.settings.model_share_schedule[1]:
            return {}
        metrics = self.models.fit(batch)
        if not metrics:
            return {}
        longest = max(self.settings.model_horizon, self.settings.model_horizon_final or 0)
        for steps, errors in ((1, one_step_errors), (min(longest, len(batch.rewards)), open_loop_errors)):
            if (windows := self.models.unseen(steps)) is not None:
                metrics |= errors(self.models, windows)
        return metrics

    def horizon(self, progress: float) -> int:
        """T at this share of training: linear between two points, as in MBPO's table 1."""
        settings = self.settings
        return round(
            scheduled(settings.model_horizon, settings.model_horizon_final, progress, settings.model_horizon_schedule)
        )

    def share(self, progress: float) -> float:
        """q0 at this share of training, linear between two points as well."""
        settings = self.settings
        return scheduled(settings.model_share, settings.model_share_final, progress, settings.model_share_schedule)

    def imagine(self, starts: Tensor, steps: int) -> Rollout:
        """`model_starts` rollouts from states that are drawn from `starts` (S, N, D)."""
        agents, count = self.agents, (self.settings.model_starts,)
        index = torch.randint(len(starts), count, generator=agents.generator, device=agents.device)
        return branch(self.models, agents.policy, starts[index], steps, agents.states, agents.generator)
