"""On-policy learners: an update of policies and value functions on the steps just collected."""

from typing import Any, Protocol

from dmpo.algorithms.base import FeedforwardLearner
from dmpo.data.rollout import Rollout
from dmpo.nn.critics import ValueCritic
from dmpo.updates.actor_critic import ActorCritic


class OnPolicyUpdate(Protocol):
    """Update of policies and value functions from one batch."""

    actor_critic: ActorCritic

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Gradient steps on a batch; `progress` in [0, 1) drives what is annealed; returns metrics."""


class OnPolicyLearner(FeedforwardLearner):
    """N agents with policies π_i(a_i | s_(N_i^1)) and value functions of states.

    A subclass sets `critic`, which decides what values see, and `update`, which takes the gradient steps.

    Args: see `BaseLearner`.
    """

    critic: ValueCritic
    update: OnPolicyUpdate

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Gradient steps on the real steps."""
        batch = batch.to(self.device).told(self.told_within)
        metrics = self.update.improve(self.normalized(batch), progress)
        self.update_normalizer(batch.starts)
        return metrics | self.communication(batch)

    def parts(self) -> dict[str, Any]:
        """Policy, normalizer, critic and optimizers."""
        return super().parts() | {"critic": self.critic, **self.update.actor_critic.parts()}

    def communication(self, batch: Rollout) -> dict[str, float]:
        """Bytes that an agent receives per step.

        Acting needs neighbors' states; training needs those that a critic sees, and the values and rewards that are
        summed over the neighborhood (eq. 6). Real and model steps cost the same; messages within models are counted
        where these are fitted.
        """
        networks, width = self.update.actor_critic, batch.observations.shape[-1]
        states, reduced = self.critic.neighborhood, networks.reward_neighborhood
        metrics = {
            "comm/bytes_per_agent_step": self.policy.neighborhood.bytes_per_agent(width),
            "comm/training_bytes_per_agent_step": states.bytes_per_agent(width) + reduced.bytes_per_agent(2),
        }
        if consensus := networks.consensus:
            metrics["comm/consensus_bytes_per_agent_step"] = consensus.bytes_received() / int(batch.taken.sum())
        return metrics
