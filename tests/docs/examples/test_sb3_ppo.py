"""An outside learner trains on a scenario behind PettingZoo's interface."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

import envs

pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: pip install dmpo[examples]")

from docs.examples import sb3_ppo


@pytest.fixture
def agents() -> Iterator[sb3_ppo.AgentsAsEnvironments]:
    with closing(envs.to_pettingzoo("cacc_catchup", num_vehicles=3, horizon=20, action_repeat=5)) as road:
        yield sb3_ppo.AgentsAsEnvironments(road)


def test_agents_begin_and_end_together_and_the_last_observation_is_kept(agents: sb3_ppo.AgentsAsEnvironments) -> None:
    agents.seed(4)
    first = agents.reset()
    steps = [agents.step(np.full(3, 3)) for _ in range(4)]
    expected, _ = agents.road.reset(4)
    np.testing.assert_array_equal(first, np.stack(list(expected.values())))
    for obs, reward, ended, infos in steps:
        seen, earned, _, truncated, _ = agents.road.step(dict.fromkeys(agents.road.agents, 3))
        assert reward.tolist() == list(earned.values())
        assert ended.tolist() == list(truncated.values())
        last = np.stack([info["terminal_observation"] for info in infos]) if ended.all() else obs
        np.testing.assert_array_equal(last, np.stack(list(seen.values())))
    assert ended.all() and all(info["TimeLimit.truncated"] for info in infos)
    assert not np.array_equal(obs, last)  # the next episode's first
    assert agents.get_attr("render_mode") == [None] * 3


def test_its_policy_changes_what_the_platoon_earns() -> None:
    before, after = sb3_ppo.main(decisions=240, episodes=1)  # one update
    assert np.isfinite([before, after]).all() and before != after
