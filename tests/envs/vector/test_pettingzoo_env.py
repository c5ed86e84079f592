"""The scenarios behind PettingZoo's interface: its own tests, and that it shows what the vector interface shows."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import gymnasium
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

import envs
from envs.vector.pettingzoo_env import PettingZooEnv
from tests.envs.helpers import SMALL, Array, pids, play, random_actions

#: Quick to build, and a ring whose length tells two episodes apart.
CHANGES: dict[str, dict[str, Any]] = SMALL | {
    "ring": {"ring_length": (200, 219), "num_vehicles": 5},
    "figure_eight": {"learners": 5},  # among others that do not
    "cacc_catchup": {"collision_steps": 50},
    "sumo": {"warm_up_steps": 100},
}


def zoo(name: str, **changes: Any) -> PettingZooEnv:
    return envs.to_pettingzoo(name, **({"horizon": 60} | CHANGES[name] | changes))


@pytest.fixture(scope="module")
def zoos() -> Iterator[dict[str, PettingZooEnv]]:
    """One environment of every scenario, by name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(closing(zoo(name))) for name in envs.names()}


@pytest.fixture(params=envs.names())
def env(zoos: dict[str, PettingZooEnv], request: pytest.FixtureRequest) -> PettingZooEnv:
    return zoos[request.param]


@pytest.fixture
def platoon(zoos: dict[str, PettingZooEnv]) -> PettingZooEnv:
    """Eight vehicles that choose among four actions."""
    return zoos["cacc_catchup"]


def episode(env: PettingZooEnv, seed: int | None = None, rows: Array | None = None) -> dict[str, Array]:
    """All there is to see of an episode, each (T + 1, N, ...); actions (T, N, ...) are drawn where none are given."""
    obs, infos = env.reset(seed)
    zeros = dict.fromkeys(obs, 0.0)
    seen = [(obs, zeros, zeros, zeros, infos, zeros)]
    random = np.random.default_rng(0)
    while env.agents:
        at = len(seen) - 1
        row = _drawn(env, random) if rows is None else rows[at]
        actions = dict(zip(env.agents, row, strict=True))
        seen.append((*env.step(actions), {agent: float(np.squeeze(a)) for agent, a in actions.items()}))
    names = ("obs", "reward", "terminated", "truncated", "action")
    columns = {name: [by[i] for by in seen] for name, i in zip(names, (0, 1, 2, 3, 5), strict=True)}
    for name in infos["agent_0"]:
        columns[name] = [{agent: of_agent[name] for agent, of_agent in by[4].items()} for by in seen]
    return {name: np.array([list(by.values()) for by in column]) for name, column in columns.items()}


def _drawn(env: PettingZooEnv, random: np.random.Generator) -> Array:
    space = env.action_space("agent_0")
    if isinstance(space, gymnasium.spaces.Discrete):
        return random.integers(space.n, size=env.num_agents)
    assert isinstance(space, gymnasium.spaces.Box)
    return random.uniform(space.low, space.high, (env.num_agents, *space.shape))


def equal(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.filterwarnings("error")
def test_pettingzoo_s_own_test_passes(env: PettingZooEnv) -> None:
    parallel_api_test(env, num_cycles=200)


def test_pettingzoo_s_seed_test_passes() -> None:
    parallel_seed_test(lambda: zoo("cacc_slowdown", num_vehicles=2))


def test_the_seed_decides_whole_episodes(env: PettingZooEnv) -> None:
    one, following, again, after, other = (episode(env, seed) for seed in (1, None, 1, None, 2))
    assert equal(one, again) and equal(following, after)
    assert len(one["obs"]) == 61 and one["truncated"][-1].all() and not one["truncated"][:-1].any()
    # The figure eight always begins with everybody in his place; there it is the humans' noise that differs.
    assert not equal(one, other) and not equal(one, following)


def test_an_episode_is_that_of_the_vector_environment(env: PettingZooEnv) -> None:
    vector = env._env
    actions = random_actions(vector, 60)
    first, info = vector.reset(seed=5)
    first, position = first.copy(), info["state"]["position"].copy()
    expected = play(vector, actions)
    seen = episode(env, 5, actions[:, 0])
    np.testing.assert_array_equal(seen["obs"][0], first[0])
    np.testing.assert_array_equal(seen["obs"][1:-1], expected["obs"][:-1, 0])
    np.testing.assert_array_equal(seen["obs"][-1], expected["final_obs"][-1, 0])
    for name in ("reward", "speed", "position", "acceleration"):
        np.testing.assert_array_equal(seen[name][1:], expected[name][:, 0], err_msg=name)
    np.testing.assert_array_equal(seen["position"][0], position[0])


def test_observations_lie_in_their_space_and_the_state_is_everybody_s(env: PettingZooEnv) -> None:
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        assert list(obs) == env.possible_agents
        assert all(env.observation_space(agent).contains(seen) for agent, seen in obs.items())
        assert env.state_space.contains(env.state())
        np.testing.assert_array_equal(env.state(), np.stack(list(obs.values())))
        obs = env.step({agent: env.action_space(agent).sample() for agent in env.agents})[0]


def test_what_was_returned_stays(platoon: PettingZooEnv) -> None:
    obs, infos = platoon.reset(seed=0)
    kept = {agent: seen.copy() for agent, seen in obs.items()}, {agent: dict(of) for agent, of in infos.items()}
    platoon.state()[:] = 9.0
    obs["agent_0"][:], now = 7.0, platoon.state()
    assert now.max() < 7.0
    platoon.step(dict.fromkeys(platoon.agents, 3))
    obs["agent_0"][:] = kept[0]["agent_0"]
    for agent in platoon.possible_agents:
        np.testing.assert_array_equal(obs[agent], kept[0][agent])
    assert infos == kept[1]


def test_agents_stand_in_the_order_of_the_platoon(platoon: PettingZooEnv) -> None:
    _, infos = platoon.reset()
    positions = [infos[agent]["position"] for agent in platoon.possible_agents]
    assert positions == sorted(positions, reverse=True)
    assert sorted(platoon.graph.neighbors("agent_3")) == ["agent_2", "agent_4"]
    assert platoon.max_num_agents == platoon.num_agents == 8


def test_a_collision_terminates(platoon: PettingZooEnv) -> None:
    close = {"headway": [1.5] * 8, "speed": [20.0] * 8, "leader_speed": [0.0] * 61}
    platoon.reset(options={"state": close})
    _, rewards, terminated, truncated, infos = platoon.step(dict.fromkeys(platoon.agents, 0))
    assert all(terminated.values()) and not any(truncated.values())
    assert set(rewards.values()) == {-50_000.0}
    assert all(of_agent["collision"] for of_agent in infos.values())
    assert [of_agent["ended_by"] for of_agent in infos.values()] == [True] + 7 * [False]
    assert platoon.agents == []


def test_without_an_episode_there_is_no_step(platoon: PettingZooEnv) -> None:
    episode(platoon)
    last = platoon.state()
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"call reset\(\) first"):
        platoon.step({})
    np.testing.assert_array_equal(platoon.state(), last)  # of the end, for a critic's last value
    platoon.reset()
    assert platoon.agents == platoon.possible_agents


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agent_8": 0}, "there is no agent 'agent_8'; did you mean"),
        ({"agent_2": None}, "agent 2 .* is not a finite number"),
        ({"agent_2": 4}, "whole numbers from 0 to 3; there is a 4"),
        ({"agent_2": 0.5}, "whole numbers from 0 to 3; there is a 0.5"),
        ({"agent_2": [1]}, r"the action of agent_2 has shape \(1,\); it must be in Discrete\(4\)"),
        ({"agent_2": "brake"}, "could not convert string to float"),
    ],
)
def test_actions_that_cannot_be_are_refused_and_the_episode_goes_on(
    platoon: PettingZooEnv, changes: dict[str, Any], words: str
) -> None:
    platoon.reset(seed=0)
    right = dict.fromkeys(platoon.agents, 3)
    with pytest.raises(ValueError, match=words):
        platoon.step(right | changes)
    with pytest.raises(ValueError, match="no action for agent_0, agent_5; every agent acts"):
        platoon.step({agent: 3 for agent in platoon.agents if agent not in ("agent_0", "agent_5")})
    np.testing.assert_array_equal(
        platoon.step(right)[0]["agent_0"], episode(platoon, 0, np.full((60, 8), 3))["obs"][1, 0]
    )


def test_accelerations_out_of_bounds_are_clipped(zoos: dict[str, PettingZooEnv]) -> None:
    space = zoos["ring"].action_space("agent_0")
    assert isinstance(space, gymnasium.spaces.Box)
    highest = float(space.high[0])
    one, other = (episode(zoos["ring"], 1, np.full((60, 5, 1), action)) for action in (highest, 100 * highest))
    assert equal(one, other | {"action": one["action"]})


def test_what_an_environment_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no scenario 'rong'; did you mean 'ring'"):
        envs.to_pettingzoo("rong")
    with pytest.raises(ValueError, match="there is no parameter of ring 'num_envs'"):
        envs.to_pettingzoo("ring", num_envs=2)


def test_other_environments_options_are_let_through_but_a_start_state_is_checked(platoon: PettingZooEnv) -> None:
    start = {"headway": [20.0] * 8, "speed": [15.0] * 8, "leader_speed": [15.0] * 61}
    infos = platoon.reset(options={"state": start, "difficulty": 3})[1]
    assert {of_agent["headway"] for of_agent in infos.values()} == {20.0}
    with pytest.raises(ValueError, match="headway has shape"):
        platoon.reset(options={"state": start | {"headway": [20.0]}})


def test_a_simulation_that_dies_truncates_the_episode_and_one_that_is_closed_stays_so() -> None:
    env = zoo("cacc_catchup")
    try:
        before, _ = env.reset()
        os.kill(pids(env._env)[0], signal.SIGKILL)
        obs, _, terminated, truncated, infos = env.step(dict.fromkeys(env.agents, 0))
        assert all(truncated.values()) and not any(terminated.values())
        assert list(infos.values()) == [{"collision": False, "lost": True, "ended_by": False}] * 8
        for agent in obs:
            np.testing.assert_array_equal(obs[agent], before[agent])
        env.reset()
        assert not env.step(dict.fromkeys(env.agents, 0))[4]["agent_0"]["lost"]
    finally:
        env.close()
    env.close()  # again is nothing
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step({})
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        env.reset()
