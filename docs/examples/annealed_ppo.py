"""Independent PPO whose entropy bonus halves again and again: a learner of one's own in one file.

dmpo --import annealed_ppo train dppo_ring name=annealed algorithm.name=annealed_ppo algorithm.half_life=0.2
"""

from typing import Literal

from pydantic import Field

import dmpo
from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.updates.actor_critic import ActorCritic
from dmpo.updates.ppo import PPO, PPOSettings


class AnnealedPPOSettings(PPOSettings):
    """Independent PPO with an entropy bonus that decays exponentially."""

    name: Literal["annealed_ppo"] = Field("annealed_ppo", description="Independent PPO with annealed entropy.")
    entropy_coef: float = Field(0.02, ge=0, description="Weight of the entropy bonus at the start of training.")
    half_life: float = Field(0.1, gt=0, le=1, description="Share of training in which the entropy bonus halves.")

    def entropy_coef_at(self, progress: float) -> float:
        """Weight of the entropy bonus once `progress` in [0, 1) of training is done."""
        return float(self.entropy_coef * 0.5 ** (progress / self.half_life))


@dmpo.register("annealed_ppo")
class AnnealedPPO(OnPolicyLearner):
    """N agents, each with a policy π_i(a_i | s_(N_i^1)) and a value function V_i(s_i) of its own reward."""

    Settings = AnnealedPPOSettings

    def __init__(self, settings: AnnealedPPOSettings, setup: dmpo.Setup) -> None:
        super().__init__(settings, setup)
        self.critic = self.value_critic(kappa=0)  # sees its own state only
        # The agent's own reward and value alone make its advantages: N_i^0, the critic's neighborhood.
        networks = ActorCritic(self.policy, self.critic, self.critic.neighborhood, settings)
        self.update = PPO(networks, settings, self.generator)
