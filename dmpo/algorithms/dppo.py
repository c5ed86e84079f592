"""DPPO: decentralized PPO with extended value functions, which is DMPO without a model."""

from typing import ClassVar, Literal

from pydantic import Field

from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.learner import Setup
from dmpo.registry import register
from dmpo.settings import KappaSettings
from dmpo.updates.actor_critic import ActorCritic
from dmpo.updates.ppo import PPO, PPOSettings


class DPPOSettings(KappaSettings, PPOSettings):
    """Decentralized PPO with extended value functions (DMPO without its model)."""

    name: Literal["dppo"] = Field("dppo", description="Decentralized PPO.")


@register("dppo")
class DPPO(OnPolicyLearner):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and extended value function V_i(s_(N_i^κ)).

    Args: see `BaseLearner`.
    """

    Settings: ClassVar[type[DPPOSettings]] = DPPOSettings
    update: PPO

    def __init__(self, settings: DPPOSettings, setup: Setup) -> None:
        super().__init__(settings, setup)
        self.critic = self.value_critic(settings.kappa)
        # Advantages are reduced over the agents that the critic sees.
        networks = ActorCritic(self.policy, self.critic, self.critic.neighborhood, settings)
        self.update = PPO(networks, settings, self.generator)
