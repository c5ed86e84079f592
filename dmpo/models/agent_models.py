"""The models of all agents as a learner uses them: fit to real steps, measured, rolled out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dmpo.data.replay_buffer import Role
from dmpo.data.rollout import Rollout
from dmpo.learner import Setup
from dmpo.models.evaluation import end_errors, one_step_errors, open_loop_errors
from dmpo.models.loss import OpenLoopLoss
from dmpo.models.rollouts import branched_rollout
from dmpo.models.settings import ModelSettings
from dmpo.models.trainer import ModelTrainer
from dmpo.nn.distributions import ActionDistribution, Categorical
from dmpo.nn.policy import Policy
from graphs import Neighborhood

MEASURED_SEQUENCES = 2_048  # at a time

if TYPE_CHECKING:
    from dmpo.models.local_model import LocalModel


class AgentModels:
    """The models of a learner's agents, and rollouts in them.

    Args:
        model: the models; see `make_local_model`.
        policy: that acts in rollouts.
        normalize: from observations to the states that the policy sees.
        settings: of the models and rollouts.
        told_within: neighborhoods in which ends are told; None tells all.
        generator: of sequences, starts and actions.
    """

    def __init__(
        self,
        model: "LocalModel",
        policy: Policy,
        normalize: Callable[[Tensor], Tensor],
        settings: ModelSettings,
        told_within: Neighborhood | None,
        generator: torch.Generator,
    ) -> None:
        self.policy, self.normalize, self.settings, self.generator = policy, normalize, settings, generator
        self.told_within = told_within
        self.trainer = ModelTrainer(model, OpenLoopLoss(settings.model_reward_coef), settings, generator)

    @property
    def ready(self) -> bool:
        """Whether the models have learned anything yet."""
        return self.trainer.ready

    def fit(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Learn from a real batch, and measure the models on held-out steps.

        Once no more batches come from the models there is nothing to learn for, and no metrics.
        """
        settings = self.settings
        if settings.model_share_final == 0 and progress >= settings.model_share_schedule[1]:
            return {}
        metrics = self.trainer.fit(batch)
        if not metrics:
            return {}
        longest = max(settings.model_horizon, settings.model_horizon_final or 0)
        for steps, errors in ((1, one_step_errors), (min(longest, len(batch.rewards)), open_loop_errors)):
            if (sequences := self.trainer.test(steps)) is not None:
                metrics |= errors(self.trainer, sequences)
        metrics |= end_errors(self.trainer, self.trainer.sequences(1, Role.TEST).pieces(MEASURED_SEQUENCES))
        return metrics | {"comm/model_fit_bytes_per_agent_step": self._received(metrics) / int(batch.taken.sum())}

    def rollout(self, starts: Tensor, steps: int) -> Rollout:
        """Model rollouts of T steps, `model_starts` of them, from observations drawn from `starts` (S, N, D)."""
        count, device = (self.settings.model_starts,), self.generator.device
        index = torch.randint(len(starts), count, generator=self.generator, device=device)
        parts = self.trainer, self.policy, self.normalize
        return branched_rollout(*parts, starts[index], steps, self.told_within, self.generator)

    def _received(self, metrics: dict[str, float]) -> float:
        # Bytes that an agent received in the gradient steps of a fit: encoded states and, if they are sent, gradients.
        settings, model = self.settings, self.trainer.model
        sequences = metrics["model/gradient_steps"] * settings.model_batch_size * settings.model_loss_steps
        kinds = 2 if settings.model_gradient == "neighborhood" else 1
        return kinds * sequences * settings.model_encoding_size * 4 * model.messages / model.num_agents


def make_local_model(
    setup: Setup, features: int, distribution: ActionDistribution, settings: ModelSettings
) -> "LocalModel":
    """Untrained localized models for a learner's agents.

    Args:
        setup: the graph, the seed of the initial parameters, the device.
        features: D, the width of one agent's state.
        distribution: of its actions.
        settings: of the models.
    """
    from dmpo.models.local_model import LocalModel  # torch-geometric takes as long to load as torch itself

    model = LocalModel(
        setup.graph,
        features,
        actions=distribution.actions,
        discrete=isinstance(distribution, Categorical),
        neighbor_actions=settings.model_actions == "neighbors",
        own_gradient=settings.model_gradient == "own",
        encoding=settings.model_encoding_size,
        hidden=settings.model_hidden_size,
        message=settings.model_message_size,
        generator=torch.Generator().manual_seed(setup.seed),
    )
    model.to(setup.device)
    return model
