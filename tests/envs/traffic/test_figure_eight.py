"""The figure eight equals Flow's, reaches the known speeds, and ends by collision where the two streams meet."""

from collections.abc import Iterator

import numpy as np
import pytest

import envs
from envs.sumo.lanes import Lanes
from envs.traffic.figure_eight import CROSSING_ENDS, NAMED_LENGTH, PUBLISHED_START
from tests.envs.helpers import assert_same, begin, constant, golden, play, random_actions, rows

HORIZON = 1500
# All wait on the lower ring but for the last two, which wait at the crossing.
WAITING = {
    "edge": ["lower_ring"] * 12 + ["bottom", "right"],
    "offset": [*np.arange(12) * 10.0, 29.0, 29.0],
    "speed": [0.0] * 14,
}
# The crossing's lanes begin 30 m and 240.97 m along the loop and are 9.4 m long; their middles are the same spot.
CROSSING, OTHER_CROSSING, BEYOND_MIDDLE = 30.0, 240.97, 7.0


@pytest.fixture(scope="module")
def env() -> Iterator[envs.VectorEnv]:
    """Four figures, on which an episode is the published one."""
    with envs.make("figure_eight", num_envs=4, horizon=HORIZON) as env:
        yield env


@pytest.mark.parametrize("start", ["own", "given"])
def test_an_episode_equals_flows(env: envs.VectorEnv, start: str) -> None:
    flow = golden("figure_eight")
    state = {"edge": flow["e0"], "offset": flow["p0"], "speed": flow["v"][0]}
    first = begin(env, state=state if start == "given" else None)
    ours = play(env, np.repeat(flow["a"][:, None, :, None], 4, axis=1))

    np.testing.assert_allclose(ours["speed"], np.repeat(flow["v"][1:, None], 4, axis=1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours["reward"], np.repeat(flow["r"][:, None], 4, axis=1), rtol=0, atol=2e-6)
    assert not ours["terminated"].any()
    expected = np.stack([flow["v"] / 30, flow["x"] / flow["total_length"]], axis=-1)
    seen = np.concatenate([first[None], ours["obs"]])
    np.testing.assert_allclose(seen, np.repeat(expected[:, None], 4, axis=1), rtol=0, atol=1e-6)


def test_the_rule_for_other_numbers_of_vehicles_gives_the_published_start_too() -> None:
    lengths = [30.0, 6.2, 30.0, 0.2, 141.37, 0.2, 30.0, 6.2, 30.0, 0.2, 141.37, 6.2]
    ends = np.cumsum(lengths)
    names = [f"{kind}_{k}" for k in range(6) for kind in ("road", "junction")]
    places = Lanes(tuple(names), ends - lengths, ends[-1]).spread(14, NAMED_LENGTH / 14)
    assert places.lane[0] == 0
    assert places.offset[0] == 0.0
    assert len(set(zip(places.lane.tolist(), places.offset.tolist(), strict=True))) == len(PUBLISHED_START)


def test_the_crossing_is_seen_by_both_roads() -> None:
    # Two vehicles head for the crossing, 9.4 m long, on either road; the others wait far behind or are past it.
    start = {**WAITING, "offset": [*np.arange(12) * 10.0, 10.0, 5.0], "speed": [0.0] * 12 + [6.0, 9.0]}
    with (
        envs.make("figure_eight", num_envs=2, observation="crossing") as env,
        envs.make("figure_eight", num_envs=2, observation="relative_harmonics") as plain,
    ):
        seen, without = begin(env, state=start), begin(plain, state=start)
    np.testing.assert_array_equal(seen[..., :11], without)
    northwards, westwards = (20 + 9.4) / 50, (25 + 9.4) / 50
    np.testing.assert_allclose(seen[:, 12, 11:], [[northwards, westwards, 0.9]] * 2, atol=1e-6)
    np.testing.assert_allclose(seen[:, 13, 11:], [[westwards, northwards, 0.6]] * 2, atol=1e-6)
    # The first in the queue waits 110 m along the lower ring, 31.37 m before the road northwards: its turn is behind
    # the vehicle on it, and what it has to look out for is the one on the road westwards.
    np.testing.assert_allclose(seen[:, 11, 11:], [[(31.37 + 0.1 + 30 + 9.4) / 50, westwards, 0.9]] * 2, atol=1e-6)


def test_the_crossing_ends_where_sumo_says(env: envs.VectorEnv) -> None:
    for road, end in zip(("top", "left"), CROSSING_ENDS, strict=True):
        begin(
            env,
            state={**WAITING, "edge": ["lower_ring"] * 12 + [road, "right"], "offset": [*np.arange(12) * 9.0, 0, 3]},
        )
        state = env.get_state()
        np.testing.assert_allclose(state["position"][:, 12], end, atol=1e-9)


def put_on_the_crossing(env: envs.VectorEnv, collided: list[int]) -> None:
    """Two vehicles at 5 m/s, one over the other in the middle of the crossing, in some of the environments.

    From outside, SUMO's safe speed lets nobody in: only a saved state can hold this.
    """
    begin(env, state=WAITING)
    state = {key: array.copy() for key, array in env.get_state().items()}
    state["position"][collided, 12:] = CROSSING + BEYOND_MIDDLE, OTHER_CROSSING + BEYOND_MIDDLE
    state["speed"][collided, 12:] = 5.0
    env.set_state(state)


def test_a_collision_on_the_crossing_ends_the_episode(env: envs.VectorEnv) -> None:
    first = begin(env)
    put_on_the_crossing(env, [1, 3])
    episode = play(env, constant(env, 0.0, 2))
    for key in ("collision", "terminated"):
        # SUMO reports it after the step in which it saw both in place.
        assert episode[key].tolist() == [[False] * 4, [False, True, False, True]]
    assert np.argwhere(episode["ended_by"]).tolist() == [[1, 1, 12], [1, 1, 13], [1, 3, 12], [1, 3, 13]]
    assert not episode["truncated"].any()
    np.testing.assert_allclose(episode["position"][1, 1, 12:], [38.0, 248.97], atol=0.02)
    np.testing.assert_array_equal(episode["obs"][1, [1, 3]], first[[1, 3]])
    assert (episode["final_obs"][1, 1] != first[1]).any()

    # The next episodes are those of a cold start.
    actions = random_actions(env, 150)
    after = rows(play(env, actions), [1, 3])
    begin(env)
    assert_same(rows(play(env, actions), [1, 3]), after)


def test_an_episode_that_collides_within_a_held_action_earns_nothing_from_then_on(env: envs.VectorEnv) -> None:
    put_on_the_crossing(env, [0])
    single = play(env, constant(env, 0.0, 2))
    with envs.make("figure_eight", num_envs=2, horizon=HORIZON, action_repeat=5) as held:
        first = begin(held)
        put_on_the_crossing(held, [0])
        episode = play(held, constant(held, 0.0, 1))
        np.testing.assert_allclose(episode["reward"][0, 0], single["reward"][:, 0].sum(axis=0), rtol=1e-6)
        assert episode["terminated"].tolist() == episode["collision"].tolist() == [[True, False]]
        np.testing.assert_array_equal(episode["ended_by"][0, 0], single["ended_by"][1, 0])
        assert not episode["truncated"].any()
        np.testing.assert_array_equal(episode["obs"][0, 0], first[0])
        # The new episode has its whole time.
        ends = play(held, constant(held, 0.0, HORIZON // 5))["truncated"]
    assert np.flatnonzero(ends[:, 0]).tolist() == [HORIZON // 5 - 1]
    assert np.flatnonzero(ends[:, 1]).tolist() == [HORIZON // 5 - 2]


def test_a_state_saved_with_a_vehicle_inside_the_crossing_goes_on_exactly(env: envs.VectorEnv) -> None:
    begin(env)
    actions = random_actions(env, 300)
    inside = 0
    for action in actions[:200]:
        position = env.step(np.abs(action))[4]["state"]["position"]
        inside = int(((position > CROSSING + 1) & (position < CROSSING + 8)).any(axis=1).sum())
        if inside >= 2:
            break
    assert inside >= 2
    saved = {key: array.copy() for key, array in env.get_state().items()}
    went_on = play(env, actions[200:])
    env.set_state(saved)
    assert_same(play(env, actions[200:]), went_on)
    with envs.make("figure_eight", num_envs=4, workers=2, horizon=HORIZON) as fresh:
        fresh.set_state(saved)
        assert_same(play(fresh, actions[200:]), went_on)


def test_constant_accelerations_reach_the_known_speeds() -> None:
    with envs.make("figure_eight", num_envs=3, action_repeat=HORIZON) as env:
        begin(env)
        accelerations = np.array([0.5, 1.0, 3.0]).reshape(1, 3, 1, 1)
        episode = play(env, np.broadcast_to(accelerations, (1, 3, 14, 1)))
    # Below 20 m/s the reward of a step is the speed.
    mean_speed = episode["reward"][0].mean(axis=1) / HORIZON
    assert mean_speed == pytest.approx([2.70, 3.68, 5.72], abs=0.01)
    assert not episode["collision"].any()
    assert episode["truncated"].all()
