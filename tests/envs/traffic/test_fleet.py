"""Mixed fleets: who learns, what learners see of the others, and that humans drive the same however they are spread."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx
import numpy as np
import pytest

import dmpo
import envs
from envs.registry import scenario
from envs.traffic.fleet import learner_places
from tests.envs.helpers import (
    SMALL,
    Array,
    Episode,
    assert_same,
    begin,
    constant,
    golden,
    in_own_process,
    play,
    random_actions,
    rows,
    small,
)

# Humans that drive as all do where a controller drives everybody: no noise, and the learners' vehicle type.
ALIKE: dict[str, dict[str, Any]] = {
    "ring": {"controller": "idm", "noise": 0.0, "min_gap": 2.5},
    "figure_eight": {"controller": "idm", "noise": 0.0, "deceleration": 4.5},
    "cacc_slowdown": {"controller": "idm"},
}
# A law with noise, SUMO's own, and one that remembers.
DRIVERS: dict[str, dict[str, Any]] = {
    "ring": {},
    "figure_eight": {"controller": "sumo"},
    "cacc_catchup": {"controller": "pi_saturation", "noise": 0.5, "parameters": {"window": 2.0}},
}


def test_learners_are_spread_evenly_up_to_the_last_vehicle() -> None:
    # Flow's benchmarks: 1 at the last place, 7 alternating.
    assert learner_places(1, 14).tolist() == [13]
    assert learner_places(7, 14).tolist() == [1, 3, 5, 7, 9, 11, 13]
    for m in range(1, 41):
        assert learner_places(None, m).tolist() == learner_places(m, m).tolist() == list(range(m))
        for n in range(1, m + 1):
            places = learner_places(n, m)
            apart = np.diff(places, append=places[0] + m)
            assert len(places) == n and places[-1] == m - 1
            assert apart.max() - apart.min() <= 1


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("ring", {"learners": 23}, "learners = 23 are more than num_vehicles = 22; null is all of them"),
        ("ring", {"learners": 0}, "greater than 0"),
        ("ring", {"learners": []}, "at least one"),
        ("ring", {"learners": [3, 3]}, "must be ascending numbers"),
        ("ring", {"learners": [4, 3]}, "must be ascending numbers"),
        ("ring", {"learners": [3, 22]}, "from 0 to num_vehicles - 1 = 21"),
        ("ring", {"humans": {"controller": "imd"}}, "no controller of humans 'imd'; did you mean 'idm'"),
        ("ring", {"humans": {"controller": "random"}}, "no controller of humans 'random'"),
        ("ring", {"humans": {"parameters": {"timegap": 1}}}, "no parameter of idm 'timegap'; did you mean 'time_gap'"),
        ("ring", {"humans": {"parameters": {"time_gap": -1}}}, "time_gap = -1 of idm: .* greater than or equal to 0"),
        ("ring", {"humans": {"controller": "sumo", "parameters": {"a": 1}}}, "sumo has none"),
        ("cacc_catchup", {"humans": {"controller": "sumo"}}, "sumo drives nobody in a platoon"),
        ("ring", {"num_vehicles": 60}, r"\[600, 736\] is as dense as the published one"),
        ("figure_eight", {"num_vehicles": 40, "min_gap": 6.0}, "40 need more than 440 m to stand in"),
        ("figure_eight", {"num_vehicles": 41}, "less than or equal to 40"),
        ("cacc_catchup", {"num_vehicles": 1001}, "less than or equal to 1000"),
    ],
)
def test_impossible_fleets_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        envs.parameters(name)(**parameters)


@pytest.mark.parametrize(("learners", "graph"), [(1, nx.empty_graph(1)), (2, nx.path_graph(2)), (7, nx.cycle_graph(7))])
def test_the_graph_spans_the_learners_by_their_order_on_the_loop(learners: int, graph: nx.Graph) -> None:
    for name in ("ring", "figure_eight"):
        assert nx.utils.graphs_equal(envs.spec(name, learners=learners).graph, graph)
    platoon = envs.spec("cacc_catchup", learners=learners).graph
    assert nx.utils.graphs_equal(platoon, nx.path_graph(learners))


def test_a_ring_of_humans_with_small_gaps_may_be_shorter() -> None:
    assert envs.parameters("ring")(learners=1, ring_length=113).room == 22 * 5 + 2.5
    assert envs.bounds(envs.parameters("ring")(learners=1)) == {}


def test_learners_see_what_they_would_if_all_learned() -> None:
    start = golden("figure_eight")
    speed = np.random.default_rng(0).uniform(0, 3, (2, 14))
    state = {"edge": start["e0"], "offset": start["p0"], "speed": speed}
    seen = {}
    for learners in (None, (2, 5, 11)):
        with small("figure_eight", num_envs=2, observation="crossing", learners=learners) as env:
            seen[learners] = begin(env, state=state)
            info = env.step(np.zeros((2, env.num_agents, 1)))[4]
            for name, row in info["state"].items():
                np.testing.assert_array_equal(row, info["traffic"][name][:, learners or slice(None)])
            assert info["traffic"]["speed"].shape == (2, 14)
    np.testing.assert_array_equal(seen[2, 5, 11], seen[None][:, [2, 5, 11]])


def driven(name: str, learners: int, **changes: Any) -> Array:
    """Speeds (T, E, M) of all vehicles where IDM drives the learners."""
    with small(name, num_envs=2, learners=learners, mode="evaluate", **changes) as env:
        controller = envs.controllers.make("idm", env)
        observation, _ = controller.env.reset(seed=0)
        speeds = []
        for _ in range(59):
            observation, *_, info = controller.env.step(controller(observation))
            speeds.append(info["traffic"]["speed"].copy())
    return np.stack(speeds)


@pytest.mark.parametrize("name", ALIKE)
def test_humans_without_noise_drive_as_their_controller_does_where_it_drives_all(name: str) -> None:
    everybody = envs.parameters(name)().num_vehicles
    np.testing.assert_array_equal(driven(name, 3, humans=ALIKE[name]), driven(name, everybody))


def saved_after(env: envs.VectorEnv, actions: Array) -> tuple[Episode, dict[str, Array]]:
    begin(env)
    return play(env, actions), {key: array.copy() for key, array in env.get_state().items()}


@pytest.mark.parametrize("name", DRIVERS)
def test_the_same_seed_gives_the_same_humans_however_they_are_spread(name: str) -> None:
    fleet = {"learners": 3, "humans": DRIVERS[name], "horizon": 30}
    with small(name, num_envs=4, **fleet) as env:
        actions = random_actions(env, 60, seed=1, same_everywhere=True)
        # Through the end of an episode: what a human remembers, and the random numbers behind its noise, go on.
        first, saved = saved_after(env, actions[:40])
        then = play(env, actions[40:])
    with small(name, num_envs=4, workers=2, **fleet) as split:
        begin(split)
        assert_same(play(split, actions[:40]), first)
        begin(split, seed=9)
        split.set_state(saved)
        assert_same(play(split, actions[40:]), then)
    with small(name, num_envs=1, **fleet) as alone:
        begin(alone)
        assert_same(play(alone, actions[:40, :1]), rows(first, [0]))


def driven_ahead(name: str, ahead: bool) -> Array:
    """Speeds (T, E, M) through ends of episodes and saved states; humans decide ahead of the learners or with them."""
    kind = scenario(name)
    changes = SMALL[name] | {"horizon": 30, "learners": 3, "humans": DRIVERS[name]}
    with TemporaryDirectory() as folder:
        fleet = kind(kind.Parameters(name=name, **changes), range(2), 0, Path(folder))
    fleet.reset()
    speeds = []
    for step in range(70):
        if ahead:
            fleet.prepare()
        if step % 20 == 10:
            fleet.set_state(fleet.get_state())
        fleet.step_by("accelerations", np.full((2, 3), 0.5))
        speeds.append(fleet.state()["speed"].copy())
        for env in np.flatnonzero(fleet.truncated).tolist():
            fleet.begin(env)
    fleet.close()
    return np.stack(speeds)


@pytest.mark.parametrize("name", ["ring", "cacc_catchup"])
def test_humans_decide_the_same_before_learners_have_as_then(name: str) -> None:
    np.testing.assert_array_equal(in_own_process(driven_ahead, name, True), in_own_process(driven_ahead, name, False))


def test_learners_that_are_all_is_what_nothing_said_is() -> None:
    episodes = []
    for learners in ({}, {"learners": 14}):
        with small("figure_eight", num_envs=2, **learners) as env:
            begin(env)
            episodes.append(play(env, random_actions(env, 59)))
    assert_same(*episodes)


def test_the_speed_of_an_evaluation_is_that_of_all_vehicles() -> None:
    with small("ring", num_envs=1, learners=2, mode="evaluate") as env:
        found = dmpo.evaluate(env, lambda observations: np.full((1, 2, 1), 1.0), seed=0)
    assert found.trajectory["speed"].shape == (61, 22)
    assert found.metrics["eval/speed"] == pytest.approx(found.trajectory["speed"][1:].mean())
    assert found.episode_returns.shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "number", "parameters"),
    [("ring", 1000, {"ring_length": 11_000}), ("figure_eight", 40, {}), ("cacc_catchup", 1000, {})],
)
def test_large_fleets_drive(name: str, number: int, parameters: dict[str, Any]) -> None:
    with envs.make(name, num_envs=1, num_vehicles=number, horizon=20, **parameters) as env:
        begin(env)
        action = 3 if "leader_speed" in env.spec.state_names else 0.5
        episode = play(env, constant(env, action, 19))
    assert episode["speed"].shape == (19, 1, number)
    assert not episode["collision"].any()
    # At a crossing somebody waits.
    assert (episode["speed"][-1] > 0.5).mean() > 0.95
