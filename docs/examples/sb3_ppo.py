"""Stable-Baselines3's PPO drives a platoon, one policy for all agents; needs `pip install dmpo[examples]`.

    python docs/examples/sb3_ppo.py [DECISIONS]

Each agent is one environment of Stable-Baselines3's: it sees what that agent senses and earns what that agent earns.
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

import envs
from envs.vector.pettingzoo_env import PettingZooEnv

Array = NDArray[Any]


class AgentsAsEnvironments(VecEnv):
    """The N agents of a PettingZoo environment as N environments of Stable-Baselines3, which begin and end together."""

    def __init__(self, road: PettingZooEnv) -> None:
        self.road, agent = road, road.possible_agents[0]
        super().__init__(road.max_num_agents, road.observation_space(agent), road.action_space(agent))

    def reset(self) -> Array:
        """Begin an episode; observations (N, D)."""
        self.road.reset(self._seeds[0])
        self._reset_seeds()
        return self.road.state()

    def step_async(self, actions: Array) -> None:
        """Take note of actions (N, A) or (N,)."""
        self._actions = dict(zip(self.road.agents, actions, strict=True))

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Drive; the next episode begins where one ended, whose last observation is then in the infos."""
        obs, reward, _, truncated, _ = self.road.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in obs]
        ended = not self.road.agents
        if ended:
            infos = [{"terminal_observation": obs[agent], "TimeLimit.truncated": truncated[agent]} for agent in obs]
        seen = self.reset() if ended else self.road.state()
        return seen, np.array(list(reward.values())), np.full(self.num_envs, ended), infos

    def close(self) -> None:
        """End the simulation."""
        self.road.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the road, once for each agent."""
        return [getattr(self.road, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the road, which all agents share."""
        setattr(self.road, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the road, once for each agent."""
        return [getattr(self.road, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """There is no wrapper between the agents and the road."""
        return [False for _ in self._get_indices(indices)]


def mean_reward(road: PettingZooEnv, policy: PPO, episodes: Sequence[int]) -> float:
    """Mean reward per decision and agent with the likeliest actions, over the episodes with these seeds."""
    rewards: list[float] = []
    for seed in episodes:
        road.reset(seed)
        while road.agents:
            actions, _ = policy.predict(road.state(), deterministic=True)
            rewards += road.step(dict(zip(road.agents, actions, strict=True)))[1].values()
    return float(np.mean(rewards))


def main(decisions: int = 10_000, episodes: int = 5) -> tuple[float, float]:
    """Mean rewards before and after training on so many decisions, each of eight agents and for half a second."""
    with closing(envs.to_pettingzoo("cacc_catchup", action_repeat=5, collision_steps=50)) as road:
        env = VecNormalize(AgentsAsEnvironments(road), norm_obs=False)
        policy = PPO("MlpPolicy", env, n_steps=240, batch_size=480, seed=0, device="cpu")
        before = mean_reward(road, policy, range(episodes))
        policy.learn(decisions * road.max_num_agents)
        return before, mean_reward(road, policy, range(episodes))


if __name__ == "__main__":
    rewards = main(*map(int, sys.argv[1:2]))
    print("mean reward per decision and agent: {:.1f} before training, {:.1f} after".format(*rewards))
