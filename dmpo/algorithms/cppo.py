"""CPPO: PPO with local policies and central critics, the baseline of the DMPO paper (section 5).

It is DPPO with two other neighborhoods. V_i sees everybody's state, whether or not a path of the graph leads there;
advantages are those of the team, Â_i on (1/n) Σ_j r_j and (1/n) Σ_j V_j, j any agent, or selfish, on r_i and V_i.
As V_j learns agent j's return (eq. 5), (1/n) Σ_j V_j is by linearity the team's, so that the team's CPPO is DPPO with κ
of at least the graph's diameter, to the last bit.
"""

from typing import Literal

from pydantic import Field

from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.learner import Setup
from dmpo.registry import register
from dmpo.updates.actor_critic import ActorCritic
from dmpo.updates.ppo import PPO, PPOSettings
from graphs import Neighborhood


class CPPOSettings(PPOSettings):
    """PPO with local policies and critics that see everybody."""

    name: Literal["cppo"] = Field("cppo", description="PPO with critics that see everybody.")
    objective: Literal["team", "selfish"] = Field(
        "team", description="Return that each policy improves: the mean over all agents (team) or its own (selfish)."
    )


@register("cppo")
class CPPO(OnPolicyLearner):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and a value function V_i(s_1 … s_N).

    Args: see `BaseLearner`.
    """

    Settings = CPPOSettings

    def __init__(self, settings: CPPOSettings, setup: Setup) -> None:
        super().__init__(settings, setup)
        self.critic = self.value_critic(kappa=None)
        alone = Neighborhood(setup.graph, hops=0).to(self.device)
        reward_neighborhood = self.critic.neighborhood if settings.objective == "team" else alone
        networks = ActorCritic(self.policy, self.critic, reward_neighborhood, settings)
        self.update = PPO(networks, settings, self.generator)
