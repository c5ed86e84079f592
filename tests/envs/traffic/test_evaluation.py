"""State that scenarios report in evaluation only: emissions, lengths, and places of the vehicles on the roads."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import envs
from envs.registry import scenario
from envs.sumo import simulation
from envs.traffic.road_scenario import MEASURED
from tests.envs.helpers import SMALL, Array, assert_same, begin, in_own_process, play, random_actions, small

EVERY = sorted(SMALL)
HORIZON = 200


def evaluated(name: str, **changes: Any) -> envs.VectorEnv:
    """Two environments in evaluation, with few roads."""
    return small(name, num_envs=2, mode="evaluate", **changes)


@pytest.fixture(scope="module", params=EVERY)
def env(request: pytest.FixtureRequest) -> Iterator[envs.VectorEnv]:
    """Each scenario in evaluation, seen in SUMO."""
    with evaluated(request.param, watch="vehicles", horizon=HORIZON) as env:
        yield env


def name_of(env: envs.VectorEnv) -> str:
    """The scenario's name."""
    return str(env._workers[0].task.parameters.name)


def drive_beside_sumo(name: str, steps: int) -> list[tuple[Array, Array]]:
    """Fuel and emissions in each step by the scenario and by SUMO, (2, N)."""
    import libsumo

    model = scenario(name)
    parameters = model.Parameters(**(SMALL[name] | {"name": name, "mode": "evaluate"}))
    random = np.random.default_rng(0)
    found = []
    with TemporaryDirectory() as folder:
        road = model(parameters, range(1), 0, Path(folder))
        road.reset()
        rates = libsumo.vehicle.getFuelConsumption, libsumo.vehicle.getCO2Emission
        for _ in range(steps):
            shape = (1, road.num_agents)
            road.step(random.integers(4, size=shape) if "cacc" in name else random.uniform(-1, 1, (*shape, 1)))
            state = road.reported_state()
            agents = road.simulation._ids[0][-road.num_agents :]
            theirs = np.array([[rate(identity) for identity in agents] for rate in rates])
            found.append((np.concatenate([state["fuel"], state["co2"]]), theirs))
        road.close()
    return found


@pytest.mark.parametrize("name", ["ring", "cacc_slowdown"])
def test_fuel_and_co2_are_sumos_own(name: str) -> None:
    found = in_own_process(drive_beside_sumo, name, 30)
    ours, theirs = (np.array(part) for part in zip(*found, strict=True))
    np.testing.assert_allclose(ours, 0.1 * theirs, rtol=1e-12)
    assert (ours > 0).mean() > 0.3


@pytest.mark.parametrize("name", ["ring", "cacc_catchup"])
def test_a_held_action_burns_what_its_steps_burn(name: str) -> None:
    with evaluated(name) as one, evaluated(name, action_repeat=4) as four:
        begin(one, seed=0), begin(four, seed=0)
        actions = random_actions(one, 5)
        steps, held = play(one, np.repeat(actions, 4, axis=0)), play(four, actions)
        for key in ("fuel", "co2"):
            np.testing.assert_array_equal(held[key], steps[key].reshape(5, 4, *held[key].shape[1:]).sum(axis=1))
            assert held[key].any()


def test_to_be_measured_changes_no_episode(env: envs.VectorEnv) -> None:
    begin(env, seed=0)
    with small(name_of(env), num_envs=2, horizon=HORIZON) as training:
        training.set_state(env.get_state())
        measured, plain = (play(one, random_actions(env, 40)) for one in (env, training))
    assert {len(measured.pop(name)) for name in MEASURED} == {40}
    # A platoon's reward is another one in evaluation, by its definition.
    assert_same(measured | {"reward": plain["reward"]}, plain)


def along(road: list[Array], lengths: Array, position: Array) -> Array:
    """Points (N, 2) on lanes one behind the other, at positions in m along them."""
    starts = np.concatenate([[0.0], np.cumsum(lengths)])
    points = []
    for x in position:
        lane = int(np.searchsorted(starts, x, side="right")) - 1
        shape = road[lane % len(road)]
        drawn = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(shape, axis=0).T))])
        # A lane may be declared shorter or longer than it is drawn; SUMO scales.
        at = (x - starts[lane]) / lengths[lane % len(road)] * drawn[-1]
        points.append([np.interp(at, drawn, shape[:, k]) for k in (0, 1)])
    return np.array(points)


def lane_lengths(name: str) -> list[float]:
    """Declared lengths of the lanes of the second environment."""
    model = scenario(name)
    with TemporaryDirectory() as folder:
        parameters = model.Parameters(**(SMALL[name] | {"name": name, "mode": "evaluate", "horizon": HORIZON}))
        road = model(parameters, range(2), 0, Path(folder))
        road.reset()
        lengths = [road.simulation.lane_length(lane) for lane in road._lane_names(1)]
        road.close()
    return lengths


def test_vehicles_are_where_their_positions_along_the_road_say(env: envs.VectorEnv) -> None:
    lengths = np.array(in_own_process(lane_lengths, name_of(env)))
    info = env.reset(seed=0)[1]
    road, agents = env.query("roads")[1], env.num_agents
    assert len(road) == len(lengths)
    ended = False
    for action in random_actions(env, HORIZON):
        seen, position = info["vehicles"][1], info["state"]["position"][1]
        # A wreck stands still in the scenario, while SUMO still lets it roll out.
        if ended:
            break
        expected = along(road, lengths, position)
        assert np.hypot(seen.x[:agents] - expected[:, 0], seen.y[:agents] - expected[:, 1]).max() < 0.5
        np.testing.assert_allclose(seen.speed[:agents], info["state"]["speed"][1], atol=1e-12)
        *_, info = env.step(action)
        ended = bool(info["collision"][1])


def test_the_others_are_seen_behind_the_agents(env: envs.VectorEnv) -> None:
    info = env.reset(seed=0)[1]
    seen, state = info["vehicles"][0], {name: rows[0] for name, rows in info["state"].items()}
    others = len(seen.x) - env.num_agents
    assert others == (1 if "leader_speed" in state else 0)
    if others:
        assert seen.x[-1] == pytest.approx(seen.x[0] + state["headway"][0] + 5.0)
    # Each points at the one in front: its middle line meets its own rear bumper.
    assert (seen.length == 5.0).all()
    ahead = np.roll(np.stack([seen.x, seen.y], axis=1), -1 if not others else 1, axis=0) - np.stack([seen.x, seen.y], 1)
    close = np.hypot(*ahead.T) < 15.0
    cosine = (ahead[:, 0] * np.cos(seen.heading) + ahead[:, 1] * np.sin(seen.heading)) / np.hypot(*ahead.T)
    assert (cosine[close] > 0.9).all()


def test_the_last_moment_of_an_episode_is_seen_and_not_the_next_start() -> None:
    with evaluated("ring", watch="vehicles", horizon=10) as env:
        first = env.reset(seed=0)[1]["vehicles"][0].x
        for action in random_actions(env, 10):
            *_, truncated, info = env.step(np.abs(action))
        assert truncated.all()
        np.testing.assert_array_equal(info["vehicles"][0].speed, info["state"]["speed"][0])
        assert np.abs(info["vehicles"][0].x - first).max() > 0.1


def test_traci_drives_as_libsumo_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_own_process(drive_through, False) == in_own_process(drive_through, True)


def drive_through(window: bool) -> list[float]:
    """Speeds after some steps, in this process or in one behind a socket that would have a window."""
    simulation.Simulation.window, simulation.WINDOW_PROGRAM = window, "sumo"
    model = scenario("ring")
    with TemporaryDirectory() as folder:
        parameters = model.Parameters(name="ring", ring_length=230, mode="evaluate")
        ring = model(parameters, range(1), 0, Path(folder))
        ring.reset()
        random = np.random.default_rng(0)
        for _ in range(20):
            ring.step(random.uniform(-1, 1, (1, ring.num_agents, 1)))
        speeds: list[float] = [*ring.speed[0].tolist(), *ring.reported_state()["fuel"][0].tolist()]
        ring.close()
    return speeds
