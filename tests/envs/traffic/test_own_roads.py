"""Simulation of a user's own roads: it repeats exactly, and lists the agents before the other vehicles."""

from pathlib import Path
from typing import Any

import numpy as np

from envs.sumo.road_files import PACKAGED
from envs.traffic.own_roads import Files, OwnRoads
from envs.traffic.slots import AgentSelection
from tests.envs.helpers import Array, in_own_process

FILES = Files(PACKAGED / "merge.net.xml", PACKAGED / "merge.rou.xml", ())
STEPS = 80


def drive(roads: OwnRoads, seed: int, acceleration: float) -> Array:
    """Speeds (T, N) of an episode."""
    roads.load(seed)
    speeds = []
    for _ in range(STEPS):
        roads.drive(np.full(4, acceleration))
        speeds.append(roads.learning.read("getSpeed"))
    return np.stack(speeds)


def observe() -> dict[str, Any]:
    """Episodes of one simulation, and what it tells at the end of the last."""
    roads = OwnRoads(FILES, AgentSelection(type="learner", count=4), speed_mode=31, warm_up_steps=30, target_speed=15.0)
    try:
        episodes = [drive(roads, seed, a) for seed, a in ((3, 1.0), (3, 0.0), (4, 1.0), (3, 1.0))]
        ids, vehicles = roads.slots.ids, roads.vehicles(0)
        names = roads._sumo.vehicle.getIDList()
        places = {name: roads._sumo.vehicle.getPosition(name) for name in names}
        lengths, emissions = roads.lengths(0), roads.emissions()
        seen = {"episodes": episodes, "ids": ids, "vehicles": tuple(vehicles), "places": places}
        return seen | {"lengths": lengths, "emissions": emissions, "over": roads.is_over()}
    finally:
        roads.close()


def test_a_simulation_repeats_and_tells_of_agents_first() -> None:
    seen = in_own_process(observe)
    first, other_actions, other_seed, again = seen["episodes"]
    np.testing.assert_array_equal(again, first)
    assert (other_actions != first).any() and (other_seed != first).any()
    ids, (x, y, heading, speed, length) = seen["ids"], seen["vehicles"]
    there = [identity for identity in ids if identity is not None]
    assert there and None in ids
    assert len(x) == len(ids) + len(seen["places"]) - len(there)  # agents' slots, then the others
    for k, identity in enumerate(ids):
        rows = np.array([x[k], y[k], heading[k], speed[k]])
        assert np.isnan(rows).all() if identity is None else rows[:2].tolist() == list(seen["places"][identity])
    assert sorted(zip(x[len(ids) :], y[len(ids) :], strict=True)) == sorted(
        place for name, place in seen["places"].items() if name not in there
    )
    np.testing.assert_array_equal(np.where(np.isnan(speed[: len(ids)]), 0.0, speed[: len(ids)]), again[-1])
    assert (length == 5.0).all() and (seen["lengths"] == 5.0).all() and not seen["over"]
    for rate in seen["emissions"]:
        assert rate.shape == (1, 4) and ((rate[0] > 0) == [identity is not None for identity in ids]).all()


def test_sumo_is_given_additional_files_only_where_there_are_some() -> None:
    assert "--additional-files" not in FILES.options()
    options = Files(FILES.network, FILES.routes, (Path("a.xml"), Path("b.xml"))).options()
    assert options[options.index("--additional-files") + 1] == "a.xml,b.xml"
