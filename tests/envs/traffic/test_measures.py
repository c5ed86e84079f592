import numpy as np
import pytest

from dmpo import evaluate
from envs.traffic import measures
from tests.dmpo.environment import PointMasses

SECONDS = 0.1
ROUND = 240.0  # m


def following(steps: int = 400, vehicles: int = 9) -> dict[str, np.ndarray]:
    """Vehicles of 5 m on a loop whose speeds swing about 6 m/s: (T+1, 1, N) of what is read, and positions driven."""
    phase = 2.4 * np.arange(vehicles) + 0.05 * np.arange(steps + 1)[:, None]
    speed = 6.0 + 1.5 * np.sin(phase)
    start = np.arange(vehicles) * ROUND / vehicles
    position = start + np.cumsum(SECONDS * speed, axis=0) - SECONDS * speed[0]
    headway = (np.roll(position, -1, axis=1) - position - 5.0) % ROUND
    state = {"speed": speed, "headway": headway, "front_speed": np.roll(speed, -1, axis=1)}
    state |= {"length": np.full_like(speed, 5.0), "position": position}
    return {name: x[:, None] for name, x in state.items()}


def measured(states: dict[str, np.ndarray], actions: list[int] | None = None) -> dict[str, float]:
    steps = len(states["speed"]) - 1
    return measures.measure(states, np.array(actions or [steps] * states["speed"].shape[1]), SECONDS)


def test_braking_evenly_has_one_acceleration_and_no_jerk() -> None:
    speed = np.broadcast_to((20.0 - 2.0 * SECONDS * np.arange(51))[:, None, None], (51, 2, 3))
    found = measured({"speed": speed})
    assert found["acceleration"] == pytest.approx(2.0)
    assert found["jerk"] == pytest.approx(0.0, abs=1e-9)
    assert found["speed_std"] == pytest.approx(0.0, abs=1e-12)


def test_going_back_and_forth_between_two_accelerations_is_all_jerk() -> None:
    speed = 10.0 + 0.1 * (np.arange(41) % 2)[:, None, None]  # ±1 m/s² in turn
    found = measured({"speed": speed})
    assert found["acceleration"] == pytest.approx(1.0)
    assert found["jerk"] == pytest.approx(2.0 / SECONDS)


def test_the_spread_of_speed_is_that_between_vehicles_not_that_over_time() -> None:
    together = np.linspace(0.0, 20.0, 30)[:, None, None] + np.zeros((30, 1, 4))
    assert measured({"speed": together})["speed_std"] == pytest.approx(0.0, abs=1e-12)
    assert measured({"speed": together + np.array([0.0, 0.0, 3.0, 3.0])})["speed_std"] == pytest.approx(1.5)


def test_time_to_collision_is_when_the_bumpers_meet_if_both_hold_their_speeds() -> None:
    random = np.random.default_rng(1)
    headway, speed, front = random.uniform(0, 40, 60), random.uniform(0, 20, 60), random.uniform(0, 20, 60)
    found = measures.time_to_collision(headway, speed, front)
    clock = np.arange(0.0, 60.0, 0.001)[:, None]
    touching = headway + (front - speed) * clock <= 0
    for agent in range(60):
        if touching[:, agent].any():
            assert found[agent] == pytest.approx(clock[touching[:, agent].argmax(), 0], abs=0.0011)
        else:
            assert found[agent] > 59.9
    assert np.isinf(found[speed <= front]).all()


def test_the_smallest_are_over_all_episodes_and_absent_where_there_is_none() -> None:
    states = following()
    two = {name: np.concatenate([x, x], axis=1) for name, x in states.items()}
    two["headway"][200, 1, 3] = 1.25
    found = measured(two)
    ttc = measures.time_to_collision(*(two[name] for name in ("headway", "speed", "front_speed")))
    assert found["headway_min"] == 1.25
    assert found["time_to_collision_min"] == ttc[1:].min()
    assert "time_to_collision_min" not in measured(states | {"front_speed": states["speed"]})


def test_throughput_is_the_number_that_passes_a_point_over_all_points() -> None:
    states = following()
    position = states["position"][:, 0]  # not wrapped
    points = np.arange(0.0, ROUND, 0.5)[:, None]
    laps = [np.floor((x - points) / ROUND) for x in (position[0], position[-1])]  # (P, N)
    passages = (laps[1] - laps[0]).sum(axis=1).mean()
    seconds = SECONDS * (len(position) - 1)
    assert measured(states)["throughput"] == pytest.approx(3600 * passages / seconds, rel=2e-3)


def test_after_an_early_end_nothing_passes() -> None:
    states = following(steps=60)
    count = np.array([60])
    whole, half = (measures.measure(states, count, SECONDS, count, steps) for steps in (60, 120))
    assert half["throughput"] == pytest.approx(whole["throughput"] / 2)
    assert half.pop("throughput") and whole.pop("throughput") and half == whole


def test_throughput_goes_on_after_a_collision_that_ends_nothing() -> None:
    states = following(steps=60)
    length = np.array([60])
    found = measures.measure(states, np.array([10]), SECONDS, length, 60)
    up_to_the_collision = measured({name: x[:11] for name, x in states.items()})
    assert found.pop("throughput") == measured(states)["throughput"] != up_to_the_collision.pop("throughput")
    assert found == up_to_the_collision


def test_vehicles_that_have_all_left_are_not_standing_there() -> None:
    states = following(steps=60)
    states["vehicle"] = np.where(np.arange(61)[:, None, None] < 40, 1.0 + np.arange(9), 0.0)
    count = np.array([60])
    whole, longer = (measures.measure(states, count, SECONDS, count, steps) for steps in (60, 500))
    assert whole == longer
    meter = measures.TrafficMeter(SECONDS, 500)
    meter.start({"traffic": {name: x[0] for name, x in states.items()}})
    for t in range(1, 61):
        meter.step({"traffic": {name: x[t] for name, x in states.items()}}, np.array([True]))
    assert meter.metrics()["speed"] == pytest.approx(states["speed"][1:40].mean(), rel=1e-3)


def test_an_even_platoon_passes_as_often_as_it_covers_its_spacing() -> None:
    shape = (20, 1, 8)
    states = {"speed": np.full(shape, 15.0), "headway": np.full(shape, 20.0), "length": np.full(shape, 5.0)}
    assert measured(states)["throughput"] == pytest.approx(3600 / (25.0 / 15.0))


def test_fuel_is_what_was_burnt_over_the_way() -> None:
    shape = (11, 1, 2)
    burnt = np.full(shape, 50.0)  # mg in each action
    burnt[0] = 1e9  # before the start
    found = measured({"speed": np.full(shape, 10.0), "fuel": burnt, "co2": 3 * burnt})
    assert found["fuel"] == pytest.approx(50.0)  # 50 mg a meter
    assert found["co2"] == pytest.approx(150.0)
    assert "fuel" not in measured({"speed": np.zeros(shape), "fuel": burnt})


def test_what_lies_behind_the_end_of_an_episode_is_not_looked_at() -> None:
    states = following(steps=60)
    short = measured({name: x[:31] for name, x in states.items()})
    spoilt = {name: np.where(np.arange(61)[:, None, None] <= 30, x, -1e6) for name, x in states.items()}
    assert measured(spoilt, [30]) == short


def test_episodes_count_alike_however_long() -> None:
    speed = np.zeros((41, 2, 2))
    speed[:, 1, 1] = 4.0
    assert measured({"speed": speed}, [10, 40])["speed_std"] == pytest.approx(1.0)


def test_an_evaluation_measures_what_the_environment_reports() -> None:
    env = PointMasses(num_envs=3, horizon=12)
    found = evaluate(env, lambda seen: np.full((*seen.shape[:2], 1), 1.5, np.float32), seed=0).metrics
    assert found["eval/acceleration"] == pytest.approx(1.5, rel=1e-4)
    assert found["eval/jerk"] == pytest.approx(0.0, abs=1e-2)
    assert "eval/headway" not in found


class Standing(PointMasses):
    """Collides in the third step of an episode that goes on, every speed being then a million."""

    def step(self, actions: np.ndarray) -> tuple:
        *others, info = super().step(actions)
        if self.clock[0] == 3:
            info["collision"] = ~info["collision"]
        elif self.clock[0] > 3 or self.clock[0] == 0:
            info["traffic"]["speed"] = np.full_like(info["traffic"]["speed"], 1e6)
        return *others, info


def test_how_a_wreck_moves_is_not_driving() -> None:
    found = evaluate(Standing(horizon=10), lambda seen: np.ones((*seen.shape[:2], 1), np.float32), seed=0).metrics
    assert found["eval/acceleration"] == pytest.approx(1.0, rel=1e-4)


def test_vehicles_that_take_turns_in_slots_are_measured_as_if_each_had_its_own() -> None:
    whole = {name: x[:31] for name, x in following(vehicles=2).items() if name != "position"}
    # The first slot holds one vehicle and, from moment 20 on, the other; the second is empty up to moment 5.
    shared = {name: np.stack([np.where(np.arange(31) < 20, x[:, 0, 0], x[:, 0, 1]), x[:, 0, 0]], axis=1)[:, None]
              for name, x in whole.items()}  # fmt: skip
    vehicle = np.array([[1 + (t >= 20), 3 * (t >= 5)] for t in range(31)], dtype=float)[:, None]
    found = measured(shared | {"vehicle": vehicle})

    lives = [(0, slice(0, 20)), (1, slice(20, 31)), (0, slice(5, 31))]
    speeds = [whole["speed"][life, 0, k] for k, life in lives]
    changes = [np.diff(speed) / SECONDS for speed in speeds]
    jerks = np.concatenate([np.diff(change) / SECONDS for change in changes])
    assert found["acceleration"] == pytest.approx(np.abs(np.concatenate(changes)).mean())
    assert found["jerk"] == pytest.approx(np.abs(jerks).mean())
    headways = np.concatenate([whole["headway"][max(life.start, 1) : life.stop, 0, k] for k, life in lives])
    assert found["headway"] == pytest.approx(headways.mean())
    assert found["headway_min"] == pytest.approx(headways.min())


def test_slots_that_stay_empty_have_no_measures() -> None:
    assert measured({"speed": np.zeros((11, 1, 2)), "vehicle": np.zeros((11, 1, 2))}) == {}
