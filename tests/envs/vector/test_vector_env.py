"""The vector interface: seeds, views, ends, and errors that teach."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from tests.envs.helpers import assert_same, begin, constant, play, random_actions, small

PLATOON = {"headway": [20.0] * 8, "speed": [15.0] * 8, "leader_speed": [15.0] * 61}
ROADS = {"edge": ["bottom"] * 5, "offset": [0.0, 10.0, 20.0, 30.0, 40.0], "speed": [0.0] * 5}


@pytest.fixture(scope="module")
def platoon() -> Iterator[envs.VectorEnv]:
    """Three platoons over two workers."""
    with small("cacc_catchup", workers=2) as env:
        yield env


@pytest.fixture(scope="module")
def ring() -> Iterator[envs.VectorEnv]:
    """Three rings with lengths to draw from, over two workers."""
    with small("ring", workers=2, num_vehicles=5, ring_length=(200, 219)) as env:
        yield env


def test_what_comes_back_has_the_shapes_and_types_of_the_interface(
    ring: envs.VectorEnv, platoon: envs.VectorEnv
) -> None:
    for env, names in (
        (ring, {"speed", "position", "acceleration", "headway", "front_speed"}),
        (platoon, {"speed", "position", "acceleration", "headway", "front_speed", "leader_speed"}),
    ):
        agents = (env.num_envs, env.num_agents)
        first, info = env.reset()
        assert info["state"].keys() == names
        obs, reward, terminated, truncated, info = env.step(random_actions(env, 1)[0])
        for seen in (first, obs, info["final_obs"]):
            assert seen.shape == agents + env.observation_space.shape and seen.dtype == np.float32
        assert reward.shape == agents
        for flags in (terminated, truncated, info["collision"]):
            assert flags.shape == (env.num_envs,) and flags.dtype == np.bool_
        assert info["state"].keys() == names and {rows.shape for rows in info["state"].values()} == {agents}
        assert info["restarts"] == 0
        assert sorted(env.graph.nodes) == list(range(env.num_agents))


def test_the_seed_decides_every_episode(ring: envs.VectorEnv) -> None:
    # Five episodes of every environment.
    actions = random_actions(ring, 300)
    firsts, episodes = [], []
    for seed in (1, 2, 1):
        firsts.append(begin(ring, seed=seed))
        episodes.append(play(ring, actions))
    np.testing.assert_array_equal(firsts[0], firsts[2])
    assert_same(episodes[0], episodes[2])
    # The second vehicle stands a fifth of the ring from the first: its length is to be seen.
    lengths = [drawn_lengths(ring, seed) for seed in (1, 2)]
    assert lengths[0] != lengths[1]
    assert len(set(lengths[0])) > 4


def drawn_lengths(env: envs.VectorEnv, seed: int) -> list[int]:
    """Ring lengths of the first five episodes of three environments."""
    lengths: list[int] = []
    for k in range(5):
        info = env.reset(seed if k == 0 else None)[1]
        lengths += np.round(5 * info["state"]["position"][:, 1]).astype(int).tolist()
    return lengths


def test_a_reset_without_a_seed_goes_on_with_the_random_numbers(platoon: envs.VectorEnv) -> None:
    first = begin(platoon, seed=4)
    second = begin(platoon)
    assert (first != second).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(begin(platoon, seed=4), first)
    np.testing.assert_array_equal(begin(platoon), second)


def test_an_episode_restarts_in_the_step_that_ends_it(platoon: envs.VectorEnv) -> None:
    begin(platoon)
    episode = play(platoon, constant(platoon, 3, 60))
    assert episode["truncated"].sum(axis=0).tolist() == [1, 1, 1] and episode["truncated"][-1].all()
    # The state is that of the episode that ended, the observation that of the next.
    speed = episode["final_obs"][-1, :, :, 0] * 15 + 15
    np.testing.assert_allclose(speed, episode["speed"][-1], rtol=1e-5)
    np.testing.assert_array_equal(episode["obs"][-1, :, :, 0], 0.0)


def test_one_start_serves_all_or_each_environment_has_its_own(platoon: envs.VectorEnv) -> None:
    own = {key: np.stack([values] * 3) for key, values in PLATOON.items()}
    own["headway"][1] = 30.0
    for_all, each = begin(platoon, state=PLATOON), begin(platoon, state=own)
    np.testing.assert_array_equal(for_all[[0, 2]], each[[0, 2]])
    assert (for_all[1] != each[1]).any()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 7)), r"actions have shape \(3, 7\); \(E, N\) = \(3, 8\) is needed"),
        (np.full((3, 8), 4), "whole numbers from 0 to 3; there is a 4"),
        (np.full((3, 8), -1), "there is a -1"),
        (np.full((3, 8), 1.5), "there is a 1.5"),
        (np.where(np.arange(24).reshape(3, 8) == 13, np.nan, 0), "agent 5 in environment 1 is not a finite number"),
    ],
)
def test_impossible_action_numbers_are_refused_and_change_nothing(
    platoon: envs.VectorEnv, actions: Any, message: str
) -> None:
    moves = random_actions(platoon, 10)
    begin(platoon, seed=1)
    expected = play(platoon, moves)
    begin(platoon, seed=1)
    with pytest.raises(ValueError, match=message):
        platoon.step(actions)
    assert_same(play(platoon, moves), expected)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 5)), r"actions have shape \(3, 5\); \(E, N, A\) = \(3, 5, 1\) is needed"),
        (np.where(np.arange(15).reshape(3, 5, 1) == 7, np.nan, 0), "agent 2 in environment 1 is not a finite number"),
        (np.full((3, 5, 1), np.inf), "agent 0 in environment 0 is not a finite number"),
    ],
)
def test_impossible_accelerations_are_refused(ring: envs.VectorEnv, actions: Any, message: str) -> None:
    begin(ring)
    with pytest.raises(ValueError, match=message):
        ring.step(actions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stat": PLATOON}, "there is no option 'stat'; did you mean 'state'"),
        ({"state": PLATOON | {"sped": [0.0] * 8}}, "no array of a start state 'sped'; did you mean 'speed'"),
        ({"state": {"speed": [15.0] * 8}}, "lacks headway, leader_speed; it needs headway, speed, leader_speed"),
        ({"state": PLATOON | {"speed": [15.0] * 7}}, r"speed has shape \(7,\); \(8,\) or \(3, 8\) is needed"),
        ({"state": PLATOON | {"speed": [-1.0] * 8}}, "speed must hold finite numbers from 0 up"),
        ({"state": PLATOON | {"headway": [np.nan] * 8}}, "headway must hold finite numbers from 0 up"),
        ({"state": PLATOON | {"headway": ["far"] * 8}}, "headway must hold finite numbers from 0 up"),
        (
            {"state": PLATOON | {"headway": [500.0] * 8}},
            "the platoon is longer than the 940 m of road behind its leader",
        ),
    ],
)
def test_an_impossible_platoon_is_refused(platoon: envs.VectorEnv, options: Any, message: str) -> None:
    first = begin(platoon, seed=2)
    with pytest.raises(ValueError, match=message):
        platoon.reset(options=options)
    np.testing.assert_array_equal(begin(platoon, seed=2), first)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"edge": ["botom"] * 5}, "there is no edge 'botom'; did you mean 'bottom'"),
        ({"offset": [0, 10, 20, 30, 60.0]}, r"offset = 60: the road bottom.* is 5\d.* m long"),
        ({"speed": [-0.1] * 5}, "speed must hold finite numbers from 0 up"),
    ],
)
def test_an_impossible_place_on_a_loop_is_refused(ring: envs.VectorEnv, start: Any, message: str) -> None:
    actions = random_actions(ring, 70)
    begin(ring, seed=2)
    expected = play(ring, actions)
    with pytest.raises(ValueError, match=message):
        ring.reset(options={"state": ROADS | start})
    begin(ring, seed=2)
    assert_same(play(ring, actions), expected)


def test_a_state_of_other_environments_is_refused(ring: envs.VectorEnv, platoon: envs.VectorEnv) -> None:
    begin(platoon, seed=1)
    begin(ring, seed=1)
    state = platoon.get_state()
    with pytest.raises(ValueError, match="of 2 environments; here there are 3"):
        platoon.set_state({key: array[:2] for key, array in state.items()})
    with pytest.raises(ValueError, match="there is no array of a saved state"):
        ring.set_state(state)
    with pytest.raises(ValueError, match=r"needs an array profile of shape"):
        platoon.set_state({key: array for key, array in state.items() if key != "profile"})
    with pytest.raises(ValueError, match=r"needs an array speed of shape \(E, ...\) = \(., 8\)"):
        platoon.set_state(state | {"speed": state["speed"][:, :7]})


def test_calls_out_of_order_say_what_is_missing() -> None:
    env = small("cacc_catchup", num_envs=1)
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"reset\(\)"):
        env.step(np.zeros((1, 8)))
    begin(env)
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step(np.zeros((1, 8))), env.get_state):
        with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="closed; make a new one"):
            call()


@pytest.mark.parametrize(("num_envs", "workers"), [(2, 3), (2, 0), (0, 1)])
def test_more_workers_than_environments_are_refused(num_envs: int, workers: int) -> None:
    with pytest.raises(ValueError, match=f"workers = {workers} must lie between 1 and num_envs = {num_envs}"):
        envs.make("ring", num_envs=num_envs, workers=workers)
