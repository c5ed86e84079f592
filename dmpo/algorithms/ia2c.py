"""IA2C: independent advantage actor-critic on an agent's own and its neighbors' states.

Every agent runs the advantage actor-critic of Mnih et al. 2016 (algorithm S3) for itself, on its own
state, those it receives from its neighbors, and its own reward alone, as in the networked control of Chu et al. 2020.
With each T steps and

    R_i^t = Σ_{l=0}^{T-t-1} γ^l r_i^{t+l} + γ^{T-t} V_i(s^T),    Â_i^t = R_i^t - V_i(s^t),

one gradient step of π_i ascends log π_i(a_i^t | s_(N_i^1)^t) Â_i^t + β H(π_i), one of V_i descends (R_i^t - V_i)². With
λ below 1 advantages mix those of fewer steps (GAE). Here Â_i is standardized and steps are Adam's, as in PPO.
"""

from typing import Literal

from pydantic import Field

from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.learner import Setup
from dmpo.registry import register
from dmpo.settings import LocalitySettings
from dmpo.updates.a2c import A2C
from dmpo.updates.actor_critic import ActorCritic, ActorCriticSettings
from graphs import Neighborhood


class IA2CSettings(LocalitySettings, ActorCriticSettings):
    """Independent advantage actor-critic on own and neighbors' states."""

    name: Literal["ia2c"] = Field("ia2c", description="Independent advantage actor-critic.")
    gae_lambda: float = Field(1.0, ge=0, le=1, description="λ of the advantages. 1 gives n-step returns minus values.")
    entropy_coef: float = Field(0.01, ge=0, description="Weight of the entropy bonus at the start of training.")
    rollout_steps: int = Field(
        20, ge=1, le=100_000, description="Actions of each agent that each environment contributes to a gradient step."
    )


@register("ia2c")
class IA2C(OnPolicyLearner):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and value function V_i(s_(N_i^1)) of its own reward.

    Args: see `BaseLearner`.
    """

    Settings = IA2CSettings

    def __init__(self, settings: IA2CSettings, setup: Setup) -> None:
        super().__init__(settings, setup)
        self.critic = self.value_critic(kappa=1)
        alone = Neighborhood(setup.graph, hops=0).to(self.device)
        self.update = A2C(ActorCritic(self.policy, self.critic, alone, settings), settings)
