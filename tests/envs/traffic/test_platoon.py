"""The platoons equal the published ones, earn what is known, and pay for a collision until the episode ends."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

import envs
from envs.controllers.car_following import optimal_velocity
from tests.envs.helpers import Array, begin, constant, golden, play, random_actions, small

SCENARIOS = ("catchup", "slowdown")
# Gains (α, β) of the four actions, as scenarios.md lists them.
ALPHA, BETA = np.array([0.0, 0.5, 0.0, 0.5]), np.array([0.0, 0.0, 0.5, 0.5])
# Mean reward per step and agent of the constant actions over the 20 reference starts, to the digits that are known.
KNOWN = {
    "catchup": [(-54, 0.5), (-839, 0.5), (-54, 0.5), (-10.15, 0.005)],
    "slowdown": [(-830, 0.5), (-715, 0.5), (-594, 0.5), (-61.4, 0.05)],
}


def expected_acceleration(headway: Array, speed: Array, leader_speed: Array, action: Array) -> Array:
    """Acceleration (N,) by the scenario's definition, written down a second time."""
    # Its ends are those of the cosine: 0 at 5 m, 30 at 35 m.
    wanted_speed = 15 * (1 - np.cos(np.pi * (np.clip(headway, 5, 35) - 5) / 30))
    front = np.append(leader_speed, speed[:-1])
    u = np.clip(ALPHA[action] * (wanted_speed - speed) + BETA[action] * (front - speed), -2.5, 2.5)
    change: Array = np.clip(speed + 0.1 * u, 0, 30) - speed
    return change / 0.1


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_episode_equals_the_published_one(scenario: str, mode: str) -> None:
    theirs = golden(f"cacc/{scenario}_5_{mode}")
    steps = len(theirs["a"])
    leader = np.pad(theirs["lead"], (0, 601 - len(theirs["lead"])), mode="edge")
    start = {"headway": theirs["h"][0], "speed": theirs["v"][0], "leader_speed": leader}
    evaluated = "train" if mode == "train" else "evaluate"
    with envs.make(f"cacc_{scenario}", num_envs=2, mode=evaluated, target_speed="final") as env:
        first = begin(env, state=start)
        ours = play(env, np.repeat(theirs["a"][:, None], 2, axis=1))

    for key, recorded in (("headway", theirs["h"]), ("speed", theirs["v"])):
        np.testing.assert_allclose(ours[key], np.repeat(recorded[1:, None], 2, axis=1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours["reward"][:, 0], theirs["r"], rtol=1e-6, atol=1e-5)
    # The last observation of a whole episode is the final one.
    last = ours["final_obs"][-1] if steps == 600 else ours["obs"][-1]
    seen = np.concatenate([first[None], ours["obs"][:-1], last[None]])
    np.testing.assert_allclose(seen, np.repeat(theirs["o"][:, None], 2, axis=1), rtol=0, atol=1e-5)
    assert ours["collision"][-1].all() == (theirs["h"][-1] < 1).any()
    assert not ours["collision"][:-1].any()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_constant_actions_earn_what_is_known(scenario: str) -> None:
    name = f"cacc_{scenario}"
    with envs.make(name, num_envs=20, mode="evaluate", target_speed="final", action_repeat=600) as env:
        assert env.reference_starts == 20
        for act, (reward, digits) in zip(envs.controllers.constants(name).values(), KNOWN[scenario], strict=True):
            episode = play(env, [act(begin(env))])
            assert episode["reward"].mean() / 600 == pytest.approx(reward, abs=digits)


@pytest.fixture(scope="module")
def mixed() -> Iterator[envs.VectorEnv]:
    """Four platoons over two workers."""
    with small("cacc_slowdown", num_envs=4, workers=2) as env:
        yield env


def test_every_vehicle_gets_its_own_action_and_looks_at_its_own_predecessor(mixed: envs.VectorEnv) -> None:
    random = np.random.default_rng(0)
    headway, speed = random.uniform(10, 38, (4, 8)), random.uniform(10, 20, (4, 8))
    leader = random.uniform(0, 30, (4, 61))
    begin(mixed, state={"headway": headway, "speed": speed, "leader_speed": leader})
    actions = random_actions(mixed, 5, seed=1)
    episode = play(mixed, actions)
    for t in range(5):
        for e in range(4):
            # The agents' states differ, so that another's action, or another's predecessor, would show.
            expected = expected_acceleration(headway[e], speed[e], leader[e, t], actions[t, e])
            np.testing.assert_allclose(episode["acceleration"][t, e], expected, rtol=0, atol=1e-9)
        headway, speed = episode["headway"][t], episode["speed"][t]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_start_is_drawn_within_its_bounds_for_every_episode(scenario: str) -> None:
    drawn = []
    with small(f"cacc_{scenario}", num_envs=50) as env:
        for _ in range(10):
            drawn.append({key: rows.copy() for key, rows in env.reset()[1]["state"].items()})
    first = np.stack([state["headway"] / 20 if scenario == "catchup" else state["speed"] / 15 for state in drawn])
    factor = first[..., 0]
    assert len(np.unique(factor)) == 500
    assert stats.kstest(factor.ravel(), stats.uniform(1.5, 1.0).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(
        first[..., 1:], 1.0 if scenario == "catchup" else np.repeat(first[..., :1], 7, axis=-1)
    )


def test_the_leader_slows_down_evenly_within_300_steps() -> None:
    with envs.make("cacc_slowdown", num_envs=2, mode="evaluate", action_repeat=10) as env:
        begin(env)
        leader = play(env, constant(env, 3, 60))["leader_speed"]
    for e, factor in enumerate((1.525, 1.575)):
        known = np.append(np.linspace(15 * factor, 15, 300), np.full(301, 15.0))[10::10]
        np.testing.assert_allclose(leader[:, e], np.repeat(known[:, None], 8, axis=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("target_speed", ["profile", "final"])
def test_the_reward_asks_for_the_leaders_speed_or_for_its_last(target_speed: str) -> None:
    with small("cacc_slowdown", mode="evaluate", target_speed=target_speed) as env:
        begin(env)
        seen = play(env, constant(env, 3, 20))
    target = seen["leader_speed"] if target_speed == "profile" else 15.0
    expected = -((seen["headway"] - 20) ** 2) - (seen["speed"] - target) ** 2 - 0.1 * seen["acceleration"] ** 2
    np.testing.assert_allclose(seen["reward"], expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_a_collision_pays_until_the_episode_ends_and_stops_everything(mode: str) -> None:
    # In the first platoon the third vehicle drives into the second at 5 m/s, 1.2 m behind it.
    headway, speed = np.full((2, 8), 20.0), np.full((2, 8), 15.0)
    headway[0, 2], speed[0, 1] = 1.2, 10.0
    start = {"headway": headway, "speed": speed, "leader_speed": np.full(61, 15.0)}
    with small("cacc_catchup", num_envs=2, mode=mode) as env:
        first = begin(env, seed=1)
        begin(env, state=start)
        episode = play(env, constant(env, 0, 60))
        # The next episode is as ever.
        next_first = episode["obs"][-1]
    np.testing.assert_array_equal(episode["collision"][:, 0], True)
    np.testing.assert_array_equal(episode["reward"][:, 0], -1000.0)
    for key in ("headway", "position"):
        np.testing.assert_array_equal(episode[key][:, 0], episode[key][:1, 0].repeat(60, axis=0), err_msg=key)
    # The step of the collision still shows how they met.
    assert episode["speed"][0, 0].all() and episode["leader_speed"][0, 0].all()
    for key in ("speed", "front_speed", "leader_speed", "acceleration"):
        assert not episode[key][1:, 0].any(), key
        assert episode[key][1:59, 1].any() or key == "acceleration", key
    assert not episode["collision"][:, 1].any() and (episode["reward"][:, 1] > -1000).all()
    assert not episode["terminated"].any() and not episode["ended_by"].any()
    np.testing.assert_array_equal(np.flatnonzero(episode["truncated"].all(axis=1)), [59])
    if mode == "evaluate":
        np.testing.assert_array_equal(next_first, first)


def test_a_collision_within_a_held_action_pays_from_its_own_step_on() -> None:
    # 1.5 m shrink by 0.3 m a step, less than 1 m after the second.
    start = {"headway": [20.0, 1.5], "speed": [10.0, 13.0], "leader_speed": np.full(61, 10.0)}
    rewards = {}
    for repeat in (1, 5):
        with small("cacc_catchup", num_envs=1, num_vehicles=2, mode="evaluate", action_repeat=repeat) as env:
            begin(env, state=start)
            rewards[repeat] = play(env, constant(env, 0, 10 // repeat))["reward"][:, 0]
    np.testing.assert_array_equal((rewards[1] == -1000).all(axis=1), [False] + [True] * 9)
    np.testing.assert_allclose(rewards[5], rewards[1].reshape(2, 5, 2).sum(axis=1), rtol=1e-6)


def test_a_collision_may_end_the_episode_for_a_charge_of_some_steps_in_training_only() -> None:
    # As above: less than 1 m after the second step, whose reward and the first one's are ordinary or the charge.
    start = {"headway": [20.0, 1.5], "speed": [10.0, 13.0], "leader_speed": np.full(61, 10.0)}
    for mode in ("train", "evaluate"):
        with small("cacc_catchup", num_envs=1, num_vehicles=2, mode=mode, collision_steps=30) as env:
            first = begin(env, seed=3)
            begin(env, state=start)
            episode = play(env, constant(env, 0, 10))
        ends = mode == "train"
        assert episode["terminated"][:, 0].tolist()[:2] == [False, ends]
        assert episode["terminated"].sum() == ends
        assert np.argwhere(episode["ended_by"][:, 0]).tolist() == ([[1, 1]] if ends else [])
        np.testing.assert_array_equal(episode["reward"][1, 0], -30_000.0 if ends else -1000.0)
        assert episode["collision"][2:].all() != ends
        assert (episode["final_obs"][1] != 0).any() == ends
        if ends:
            assert episode["obs"][1].shape == first.shape
            assert (episode["reward"][2:] > -5000).all()


def test_a_wreck_drives_no_further_in_an_evaluation() -> None:
    start = {"headway": [20.0, 1.5], "speed": [10.0, 13.0], "leader_speed": np.full(61, 10.0)}
    with small("cacc_catchup", num_envs=1, num_vehicles=2, mode="evaluate") as env:
        meter = env.meter()
        meter.start(env.reset(options={"state": start})[1])
        for _ in range(60):
            meter.step(env.step(np.zeros((1, 2), dtype=int))[4], np.array([True]))
    found, speed = meter.metrics(), meter.trajectory()["speed"]
    # They collide in the second step.
    assert found["collisions"] == 1
    assert found["speed"] == pytest.approx(2 * 11.5 / 60) and found["speed_final"] == 0.0
    assert (speed[1:3] == [10.0, 13.0]).all() and not speed[3:].any()
    assert found["speed_std"] == pytest.approx(1.5) and found["headway_min"] == pytest.approx(0.9)
    assert found["throughput"] == pytest.approx(3600 * 2 * 23 / (60 * 30.9), rel=1e-3)


def test_a_long_platoon_begins_with_the_short_one() -> None:
    # A vehicle acts on nothing but what is in front of it.
    starts = {"headway": np.linspace(15, 25, 30), "speed": np.linspace(12, 18, 30), "leader_speed": np.full(61, 15.0)}
    seen = {}
    for n in (2, 30):
        with small("cacc_catchup", num_envs=1, num_vehicles=n) as env:
            assert env.graph.number_of_nodes() == n and env.graph.number_of_edges() == n - 1
            begin(env, state={**starts, "headway": starts["headway"][:n], "speed": starts["speed"][:n]})
            seen[n] = play(env, constant(env, 3, 59))
    for key in ("headway", "speed", "obs", "reward"):
        np.testing.assert_array_equal(seen[30][key][:, :, :2], seen[2][key], err_msg=key)
    assert seen[30]["obs"].shape == (59, 1, 30, 5)


def test_the_optimal_velocity_is_the_published_one() -> None:
    # cos(π/3) and cos(2π/3) are 1/2 and −1/2: 7.5 m/s at 15 m, 15 at 20 m, 22.5 at 25 m.
    between = 15 * (1 - np.array([0.5, 0.0, -0.5]))
    headway = np.array([0, 5, 15, 20, 25, 35, 99.0])
    np.testing.assert_allclose(optimal_velocity(headway), [0, 0, *between, 30, 30], atol=1e-12)
