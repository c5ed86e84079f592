"""Controllers under the same evaluation as learners: what they see, what they remember, how they drive."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dmpo
import envs
from envs import controllers
from envs.controllers.acceleration_env import AccelerationEnv, Situation
from envs.controllers.classical import PIParameters, PIWithSaturation
from envs.traffic.ring import uniform_flow_speed
from tests.envs.helpers import SMALL, Array, run_python, small

SEED = 0


def assessed(env: envs.VectorEnv, name: str, **parameters: Any) -> dmpo.Evaluation:
    """One episode of each environment."""
    controller = controllers.make(name, env, **parameters)
    return dmpo.evaluate(controller.env, controller, seed=SEED)


@pytest.fixture(scope="module", params=list(SMALL))
def env(request: pytest.FixtureRequest) -> Iterator[envs.VectorEnv]:
    """Three environments of each scenario in turn, at reference starts; their learners decide every half second."""
    with small(request.param, action_repeat=5, mode="evaluate") as env:
        yield env


@pytest.fixture(scope="module")
def platoon() -> Iterator[envs.VectorEnv]:
    """The reference starts of a short catch-up."""
    with envs.make("cacc_catchup", num_envs=20, horizon=200, mode="evaluate") as env:
        yield env


def test_a_driver_knows_what_the_road_says_whatever_agents_observe(env: envs.VectorEnv) -> None:
    driven = AccelerationEnv(env)
    seen, info = driven.reset(seed=SEED)
    for _ in range(70):  # through the end of the episode and ten steps into the next
        situation = Situation(*np.moveaxis(seen, -1, 0))
        seen, _, terminated, truncated, info = driven.step(0.1 * (situation.headway - 10))
        if not (terminated | truncated).any():
            for name in ("headway", "speed", "front_speed"):
                np.testing.assert_array_equal(getattr(Situation(*np.moveaxis(seen, -1, 0)), name), info["state"][name])
    assert np.all(seen[..., 3] == pytest.approx(1.0))


def test_the_headway_is_the_free_road_to_the_vehicle_in_front(env: envs.VectorEnv) -> None:
    driven = AccelerationEnv(env)
    driven.reset(seed=SEED)
    for _ in range(20):
        state = {name: rows.copy() for name, rows in driven.step(np.full((3, env.num_agents), 0.5))[4]["state"].items()}
    closed = "leader_speed" not in state
    ahead = np.roll(state["position"], -1, axis=1) if closed else np.roll(state["position"], 1, axis=1)
    free = ahead - state["position"] - 5.0
    front = np.roll(state["speed"], -1 if closed else 1, axis=1)
    inner = slice(0, -1) if closed else slice(1, None)  # who follows the last, or the leader, is known otherwise
    np.testing.assert_allclose(state["headway"][:, inner], free[:, inner], atol=1e-9)
    np.testing.assert_array_equal(state["front_speed"][:, inner], front[:, inner])
    if not closed:
        np.testing.assert_array_equal(state["front_speed"][:, 0], state["leader_speed"][:, 0])


def test_every_episode_of_a_driver_is_the_first_again(env: envs.VectorEnv) -> None:
    # What a controller remembers would show in the second, as would a situation of the episode before. A gap from
    # which something is added of zero lets PI start from rest.
    controller = controllers.make("pi_saturation", env, gap_low=0.0)
    observation, _ = controller.env.reset(seed=SEED)
    speeds = []
    for _ in range(120):
        observation, _, _, _, info = controller.env.step(controller(observation))
        speeds.append(info["state"]["speed"].copy())
    np.testing.assert_array_equal(speeds[:60], speeds[60:])
    assert np.abs(speeds[59] - speeds[0]).max() > 0.1


@pytest.mark.parametrize("name", ["idm", "ovm", "follower_stopper", "pi_saturation", "random"])
def test_controllers_drive_every_scenario_the_same_each_time(env: envs.VectorEnv, name: str) -> None:
    one, other = assessed(env, name), assessed(env, name)
    np.testing.assert_array_equal(one.episode_returns, other.episode_returns)
    assert one.metrics["eval/length"] == 60


def test_random_actions_are_spread_over_the_whole_space_as_the_seed_decides(env: envs.VectorEnv) -> None:
    drawn = [controllers.make("random", env, seed=seed) for seed in (1, 1, 2)]
    actions = [np.stack([policy(np.zeros(1)) for _ in range(300)]) for policy in drawn]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[0] != actions[2]).any()
    space = env.action_space
    assert all(space.contains(action.astype(space.dtype)) for action in actions[0][0, 0])
    if space.shape:
        low, high = float(space.low[0]), float(space.high[0])
        # Mean and variance of the uniform distribution, within five standard errors.
        assert abs(actions[0].mean()) < 5 * (high - low) / math.sqrt(12 * actions[0].size)
        assert actions[0].var() == pytest.approx((high - low) ** 2 / 12, rel=0.05)
    else:
        shares = np.bincount(actions[0].ravel()) / actions[0].size
        np.testing.assert_allclose(shares, 0.25, atol=5 * math.sqrt(0.1875 / actions[0].size))


def test_what_agents_observe_changes_nothing() -> None:
    found = []
    for observation in ("published", "relative"):
        with small("ring", observation=observation) as env:
            found.append(assessed(env, "idm").episode_returns)
    np.testing.assert_array_equal(found[0], found[1])


def test_the_optimal_velocity_model_with_the_gains_of_an_action_is_that_action(platoon: envs.VectorEnv) -> None:
    for label, gains in (("constant (0.5, 0.5)", (0.5, 0.5)), ("constant (0, 0.5)", (0.0, 0.5))):
        act = controllers.constants("cacc_catchup")[label]
        held = dmpo.evaluate(platoon, act, seed=SEED)
        driven = assessed(platoon, "ovm", alpha=gains[0], beta=gains[1])
        assert held.metrics == driven.metrics
        np.testing.assert_array_equal(held.episode_returns, driven.episode_returns)
        for name, rows in held.trajectory.items():
            np.testing.assert_array_equal(rows, driven.trajectory[name], err_msg=name)


def test_sensible_controllers_do_not_collide_on_reference_starts(platoon: envs.VectorEnv) -> None:
    # The leader of a slow-down drives 15 m/s after 300 steps.
    with envs.make("cacc_slowdown", num_envs=20, horizon=400, mode="evaluate") as slowing:
        for env in (platoon, slowing):
            for name in ("idm", "ovm", "follower_stopper"):
                assert assessed(env, name).metrics["eval/collisions"] == 0, name


# shared facts: the speeds of uniform flow at 220, 230, … m, with the vehicles' minGap and with one of 2 m.
UNIFORM = {2.5: (2.50, 2.95, 3.41, 3.86, 4.32, 4.77), 2.0: (3.00, 3.45, 3.91, 4.36, 4.82, 5.27)}


@pytest.mark.parametrize("min_gap", UNIFORM)
def test_intelligent_drivers_on_a_ring_reach_uniform_flow(min_gap: float) -> None:
    with envs.make("ring", num_envs=6, mode="evaluate", min_gap=min_gap, horizon=800) as env:
        speed = assessed_speed(env, min_gap)
    np.testing.assert_allclose(speed, UNIFORM[min_gap], atol=0.05)
    lengths = range(220, 271, 10)
    np.testing.assert_allclose([uniform_flow_speed(x, 22, min_gap) for x in lengths], UNIFORM[min_gap], atol=0.006)


def assessed_speed(env: envs.VectorEnv, min_gap: float) -> Array:
    """Mean speeds (E,) at the end of an episode of intelligent drivers with that gap."""
    controller = controllers.make("idm", env, min_gap=min_gap)
    observation, _ = controller.env.reset(seed=SEED)
    for _ in range(env.horizon):
        observation, _, _, _, info = controller.env.step(controller(observation))
    mean: Array = info["state"]["speed"].mean(axis=1)
    return mean


def test_a_follower_stopper_below_the_speed_of_waves_drives_at_its_desired_speed() -> None:
    with envs.make("ring", num_envs=1, ring_length=260, horizon=600) as env:
        found = assessed(env, "follower_stopper", desired_speed=3.0)
    assert uniform_flow_speed(260, 22) > 3.0
    np.testing.assert_allclose(found.trajectory["speed"][-100:], 3.0, atol=1e-9)


def pi_by_hand(headway: Array, speed: Array, front: Array) -> list[float]:
    """Stern et al. (2018) for one vehicle, as Flow has it, with a window of three steps."""
    past: list[float] = []
    command, commands = speed[0], []
    for h, v, v_front in zip(headway, speed, front, strict=True):
        past = [*past, v][-3:]
        target = sum(past) / len(past) + 1.0 * min(max((h - 7) / (30 - 7), 0), 1)
        safe = max(2 * (v_front - v), 4)
        alpha = min(max((h - safe) / 2, 0), 1)
        beta = 1 - 0.5 * alpha
        command = beta * (alpha * target + (1 - alpha) * v_front) + (1 - beta) * command
        commands.append((command - v) / 0.1)
    return commands


def test_pi_with_saturation_is_that_of_its_source_and_forgets_where_an_episode_begins() -> None:
    headway, speed, front = np.random.default_rng(0).uniform(0, [[[20]], [[10]], [[10]]], (3, 30, 2))  # (3, T, E)
    fake: Any = SimpleNamespace(
        num_envs=2,
        num_agents=1,
        horizon=30,
        step_seconds=0.1,
        undriven_reward=0.0,
        scenario=None,
        action_space=None,
    )
    controller = PIWithSaturation(PIParameters(window=0.3), fake)
    found = []
    for t in range(30):
        # The second environment begins anew at step 11.
        seconds = 0.1 * np.array([[t], [t if t < 11 else t - 11]])
        situation = Situation(headway[t, :, None], speed[t, :, None], front[t, :, None], seconds)
        found.append(controller.accelerations(situation)[:, 0])
    np.testing.assert_allclose(np.array(found)[:, 0], pi_by_hand(headway[:, 0], speed[:, 0], front[:, 0]))
    pieces = [pi_by_hand(headway[part, 1], speed[part, 1], front[part, 1]) for part in (slice(11), slice(11, None))]
    np.testing.assert_allclose(np.array(found)[:, 1], np.concatenate(pieces))


def test_accelerations_are_refused_as_actions_are(platoon: envs.VectorEnv) -> None:
    platoon.reset()
    with pytest.raises(ValueError, match=r"accelerations have shape \(3,\); \(E, N\) = \(20, 8\) is needed"):
        platoon.step_by("accelerations", [0.0, 0.0, 0.0])
    wrong = np.zeros((20, 8))
    wrong[2, 5] = np.inf
    with pytest.raises(ValueError, match="the acceleration of agent 5 in environment 2 is not a finite number"):
        platoon.step_by("accelerations", wrong)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("imd", {}, "there is no controller 'imd'; did you mean 'idm'"),
        ("idm", {"timegap": 1.0}, "there is no parameter of idm 'timegap'; did you mean 'time_gap'"),
        ("idm", {"acceleration": 0.0}, "greater than 0"),
        ("ovm", {"go_headway": 4.0}, "go_headway = 4 must be above stop_headway = 5"),
        ("follower_stopper", {"gaps": (4.5, 4.0, 6.0)}, "must grow from one to the next"),
        ("follower_stopper", {"decelerations": (0.5, 1.0, 1.5)}, "or the gaps would cross"),
        ("pi_saturation", {"gap_high": 7.0}, "gap_high = 7 must be above gap_low = 7"),
    ],
)
def test_impossible_controllers_are_refused(
    platoon: envs.VectorEnv, name: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        controllers.make(name, platoon, **parameters)


MINE = """
from typing import Literal
import envs
from envs.controllers import ControllerParameters, Driver, register

class PushParameters(ControllerParameters):
    name: Literal["push"] = "push"
    strength: float = 0.5

@register("push")
class Push(Driver[PushParameters]):
    Parameters = PushParameters

    def accelerations(self, situation):
        return 0.0 * situation.speed + self.parameters.strength

try:
    register("idm")(Push)
except ValueError as error:
    print(error)
if __name__ == "__main__":
    with envs.make("ring", num_envs=1, ring_length=260, horizon=20) as env:
        push = envs.controllers.make("push", env, strength=1.0)
        seen, info = push.env.reset()
        for _ in range(10):
            seen, *_, info = push.env.step(push(seen))
        print(round(info["state"]["speed"].mean(), 6))
"""


def test_a_controller_of_ones_own_is_known_by_its_name() -> None:
    seen = run_python("-c", MINE)
    refused, speed = seen.stdout.splitlines()
    assert "the controller 'idm' needs" in refused and 'name: Literal["idm"] = "idm"' in refused
    assert float(speed) == pytest.approx(1.0)
