"""Road networks of the user's own: slots, pieces, episodes that repeat exactly, and files that do not fit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import envs
from envs.sumo.road_files import PACKAGED
from tests.envs.helpers import Episode, assert_same, begin, constant, play, random_actions, run_python

HORIZON = 60
AGENTS = {"type": "learner", "count": 3}
TYPES = '<vType id="learner" length="5"/><vType id="human" length="5"/>'
#: Four learners, of whom two leave at the end of a short road, and a human.
LEAVING = f"""<routes>{TYPES}
    <vehicle id="one" type="learner" depart="0" departPos="100" departSpeed="5"><route edges="ramp out"/></vehicle>
    <vehicle id="two" type="learner" depart="0" departPos="300" departSpeed="10"><route edges="road"/></vehicle>
    <vehicle id="three" type="learner" depart="0" departPos="320" departSpeed="10"><route edges="road"/></vehicle>
    <vehicle id="four" type="human" depart="0" departPos="200" departSpeed="10"><route edges="road"/></vehicle>
    <vehicle id="five" type="learner" depart="0" departPos="100" departSpeed="10"><route edges="road"/></vehicle>
</routes>"""


def merge(num_envs: int = 2, seed: int = 0, **changes: Any) -> envs.VectorEnv:
    """Small and short environments of the network that comes along."""
    return envs.make("sumo", num_envs, seed=seed, **({"horizon": HORIZON, "warm_up_steps": 100} | changes))


def own(folder: Path, routes: str, **changes: Any) -> dict[str, Any]:
    """Parameters with routes of one's own on the packaged roads."""
    (folder / "my.rou.xml").write_text(routes)
    files = {"network": str(PACKAGED / "merge.net.xml"), "routes": str(folder / "my.rou.xml")}
    return {"name": "sumo", **files, "agents": AGENTS, **changes}


@pytest.fixture(scope="module")
def used() -> Iterator[envs.VectorEnv]:
    """Two environments in whatever state the test before left them."""
    with merge() as env:
        yield env


@pytest.fixture(scope="module")
def cold() -> tuple[Any, Any, Episode]:
    """First observations, actions and two episodes of environments that were only just made, saved on the way."""
    with merge(seed=3) as env:
        actions = random_actions(env, 2 * HORIZON + 10)
        return begin(env), actions, play(env, actions)


def test_an_episode_after_others_equals_one_in_a_fresh_process(
    used: envs.VectorEnv, cold: tuple[Any, Any, Episode]
) -> None:
    first, actions, episodes = cold
    begin(used, seed=8)
    play(used, constant(used, 3.0, 17))
    np.testing.assert_array_equal(begin(used, seed=3), first)
    again = play(used, actions)
    assert_same(again, episodes)
    assert again["truncated"].sum() == 4
    # The demand is random: two environments, and two episodes of one, are different ones.
    assert (first[0] != first[1]).any()
    assert (episodes["obs"][HORIZON - 1] != first).any()


def test_a_saved_state_goes_on_exactly_in_new_environments(used: envs.VectorEnv) -> None:
    begin(used, seed=5)
    play(used, random_actions(used, HORIZON + 21, seed=5))
    saved = {name: rows.copy() for name, rows in used.get_state().items()}
    actions = random_actions(used, HORIZON, seed=6)
    went_on = play(used, actions)
    with merge(seed=99) as env:
        env.set_state(saved)
        assert_same(play(env, actions), went_on)


def test_a_given_seed_is_an_episode(used: envs.VectorEnv) -> None:
    first = begin(used, state={"seed": [7]})
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(begin(used, seed=1, state={"seed": [7]}), first)


def test_a_vehicle_keeps_its_slot_until_it_leaves_and_empty_slots_are_zero(tmp_path: Path) -> None:
    with envs.make(num_envs=1, **own(tmp_path, LEAVING, horizon=400)) as env:
        begin(env)
        episode = play(env, constant(env, 3.0, 400))
    # Nobody is left and nobody comes.
    end = int(np.flatnonzero(episode["terminated"])[0])
    assert not episode["vehicle"][end].any()
    vehicle, obs, reward = (episode[name][:end, 0] for name in ("vehicle", "obs", "reward"))  # (T, N)
    # Four learners in three slots: the last waits until one is free. None changes its slot.
    assert {tuple(np.flatnonzero((vehicle == k).any(0))) for k in range(1, 5)} == {(0,), (1,), (2,)}
    for k in range(1, 5):
        times = np.flatnonzero((vehicle == k).any(1))
        assert np.ptp(times) == len(times) - 1
    empty = vehicle == 0
    assert empty.any() and not empty.all()
    assert not obs[empty].any() and not reward[empty].any()
    assert (obs[~empty][:, 0] == 1).all()


def test_agents_by_name_have_the_places_of_their_names(tmp_path: Path) -> None:
    parameters = own(tmp_path, LEAVING, agents={"ids": ("four", "one")}, horizon=40, observation=("speed",))
    with envs.make(num_envs=1, **parameters) as env:
        begin(env)
        episode = play(env, constant(env, -3.0, 40))
    assert (episode["vehicle"][:, 0, 1] > 0).all() and env.num_agents == 2
    # Commands are obeyed: 3 m/s² for 4 s end in rest, and SUMO's checks allow braking.
    assert episode["speed"][-1].max() < 0.1


def test_a_collision_of_agents_ends_the_episode_where_asked(tmp_path: Path) -> None:
    crash = f"""<routes>{TYPES}
        <vehicle id="a" type="learner" depart="0" departPos="100" departSpeed="0"><route edges="road"/></vehicle>
        <vehicle id="b" type="learner" depart="0" departPos="40" departSpeed="15"><route edges="road"/></vehicle>
    </routes>"""
    reward = {"collision": -5.0}
    found = {}
    for end in (True, False):
        parameters = own(tmp_path, crash, agents={"ids": ("a", "b")}, speed_mode=0, horizon=100, reward=reward)
        with envs.make(num_envs=1, **parameters, end_on_collision=end) as env:
            begin(env)
            found[end] = play(env, np.stack([np.array([[[-3.0], [3.0]]])] * 60))
    at = int(np.flatnonzero(found[True]["collision"])[0])
    assert found[True]["terminated"][at].all() and (found[True]["reward"][at] == -5.0).all()
    assert found[True]["ended_by"][at].all() and not found[True]["ended_by"][:at].any()
    assert found[False]["collision"][at].all() and not found[False]["terminated"].any()
    assert not found[False]["ended_by"].any()


def test_pieces_are_what_they_say(used: envs.VectorEnv) -> None:
    pieces = ("speed", "gap", "relative_speed", "acceleration")
    reward = {"speed_towards_target": 2.0, "acceleration_cost": -0.5}
    with merge(num_envs=1, observation=pieces, reward=reward, target_speed=12.0) as env:
        begin(env)
        episode = play(env, random_actions(env, 40))
    here = episode["vehicle"] > 0
    speed, gap, relative, acceleration = np.moveaxis(episode["obs"].astype(np.float64), -1, 0)
    for seen, state in ((10 * speed, "speed"), (30 * gap, "headway"), (3 * acceleration, "acceleration")):
        np.testing.assert_allclose(seen[here], episode[state][here], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        10 * relative[here], (episode["front_speed"] - episode["speed"])[here], rtol=1e-4, atol=1e-4
    )
    towards = np.maximum(12.0 - np.abs(12.0 - episode["speed"]), 0.0) / 12.0
    expected = np.where(here, 2.0 * towards - 0.5 * np.abs(episode["acceleration"]), 0.0)
    np.testing.assert_allclose(episode["reward"], expected, rtol=1e-5, atol=1e-5)


def test_a_piece_of_the_users_own_is_one_function(tmp_path: Path) -> None:
    (tmp_path / "my_pieces.py").write_text(
        "from envs.traffic.pieces import observations, rewards\n\n\n"
        '@observations.register("heading", scale=360.0)\n'
        "def heading(vehicles):\n"
        '    return vehicles.read("getAngle")\n\n\n'
        '@rewards.register("broken")\n'
        "def broken(vehicles):\n"
        "    return 1.0\n"
    )
    (tmp_path / "script.py").write_text(
        "import my_pieces\nimport numpy as np\nimport envs\n"
        'if __name__ == "__main__":\n'
        '    made = dict(warm_up_steps=100, observation=("present", "heading"))\n'
        '    with envs.make("sumo", 1, **made) as env:\n'
        "        obs = env.reset()[0]\n"
        # The road runs east, which SUMO counts as 90 degrees.
        "        assert np.allclose(obs[..., 1], 0.25 * obs[..., 0]) and obs.any()\n"
        '    with envs.make("sumo", 1, **made, reward={"broken": 1.0}) as env:\n'
        "        env.reset()\n"
        "        env.step(np.zeros((1, 8, 1)))\n"
    )
    result = run_python("script.py", folder=tmp_path)
    assert "AssertionError" not in result.stderr
    assert "ValueError: the reward piece 'broken' gave shape (); (N,) = (8,) is needed" in result.stderr


NO_ROUTES = f"<routes>{TYPES}</routes>"


@pytest.mark.parametrize(
    ("routes", "changes", "message"),
    [
        (NO_ROUTES, {"network": "merge.ner.xml"}, "the file 'merge.ner.xml' cannot be read .*did you mean 'merge.net"),
        (NO_ROUTES, {"network": "merge.rou.xml"}, "begins with <routes> and is not a SUMO network"),
        ("<routes", {}, "my.rou.xml' is not a SUMO file of routes or additional elements"),
        (NO_ROUTES, {"network": "/"}, "'/' is not a regular file"),
        (NO_ROUTES, {"agents": {"type": "lerner", "count": 2}}, "no such vehicle type; did you mean 'learner'"),
        (NO_ROUTES, {"agents": {"ids": ("one",)}}, "agents.ids: no vehicle 'one' enters"),
        (NO_ROUTES, {"agents": {"ids": ("one", "one")}}, "'one' is there twice"),
        (NO_ROUTES, {"agents": {"type": "learner"}}, "give {type: …, count: …}"),
        (NO_ROUTES, {"observation": ("sped",)}, "no observation piece 'sped'; did you mean 'speed'"),
        (NO_ROUTES, {"reward": {"colision": -1.0}}, "no reward piece 'colision'; did you mean 'collision'"),
        (LEAVING.replace("ramp out", "ramp outt"), {}, "the edge 'outt', which .* does not have; did you mean 'out'"),
        (NO_ROUTES, {"horizon": 1_000_000, "agents": {"type": "learner", "count": 30}}, "are too many commands"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(
    routes: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        envs.spec(**({"of": "sumo"} | {k: v for k, v in own(tmp_path, routes, **changes).items() if k != "name"}))


def test_a_refusal_by_sumo_is_reported_in_its_words(tmp_path: Path) -> None:
    backwards = f'<routes>{TYPES}<route id="r" edges="out road"/><flow id="f" route="r" end="9" number="1"/></routes>'
    with pytest.raises(ValueError, match=r"SUMO refuses the network or its traffic: .*[Nn]o connection"):
        envs.make(num_envs=1, **own(tmp_path, backwards))


def test_a_network_alone_is_not_mixed_with_the_examples_traffic() -> None:
    with pytest.raises(ValueError, match="agents must be given for network = 'merge.net.xml'"):
        envs.spec("sumo", network="merge.net.xml")
