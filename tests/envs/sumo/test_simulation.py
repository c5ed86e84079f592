"""Roads as netconvert builds them, and what SUMO makes of commands."""

from pathlib import Path

import numpy as np
import pytest

from envs.sumo.road_network import Connection, Edge, Junction, write_network
from envs.sumo.simulation import Driving, Network, Simulation, SimulationError
from tests.envs.helpers import Array, in_own_process, lane_positions

PLAIN = Driving({"length": "5", "maxSpeed": "50", "minGap": "0"}, speed_mode=0, ballistic=True, report_collisions=False)


def triangle(folder: Path) -> Network:
    """A triangle, whose routes go round it twice."""
    junctions = [Junction("a", 0, 0), Junction("b", 100, 0), Junction("c", 50, 80)]
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    edges = [Edge(start + end, start, end, length=100.005, speed=20) for start, end in pairs]
    connections = [Connection("ab", "bc"), Connection("bc", "ca"), Connection("ca", "ab")]
    return Network(write_network(folder, junctions, edges, connections), {"ab": ["ab", "bc", "ca"] * 2})


def drive_round(folder: Path) -> tuple[tuple[str, str], float, Array, list[str], Array]:
    """Lanes behind the first, the first's length, speeds and places of two vehicles that were told their speeds."""
    with Simulation(triangle(folder), 1, 2, PLAIN) as simulation:
        simulation.place(0, "ab", ["ab_0", "ca_0"], np.array([10.0, 20.0]), np.array([4.0, 6.0]))
        speeds = simulation.step(np.array([[5.0, 6.5]]))
        return simulation.next_lane("ab_0"), simulation.lane_length("ab_0"), speeds, *lane_positions(simulation, 0)


def test_vehicles_obey_and_move_by_the_trapezoid_rule(tmp_path: Path) -> None:
    (junction, following), length, speeds, lanes, offsets = in_own_process(drive_round, tmp_path)
    assert junction.startswith(":b_") and following == "bc_0"
    assert length == pytest.approx(100.0, abs=0.011)
    np.testing.assert_array_equal(speeds, [[5.0, 6.5]])
    assert lanes == ["ab_0", "ca_0"]
    np.testing.assert_allclose(offsets, [10.45, 20.625], rtol=0, atol=1e-12)


def start_without_a_network(folder: Path) -> None:
    Simulation(Network(folder / "none.net.xml", {}), 1, 1, PLAIN)


def test_a_network_that_sumo_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"SUMO refused the network .*none.net.xml"):
        in_own_process(start_without_a_network, tmp_path)


def test_netconverts_own_words_reach_the_user(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"netconvert could not build the road network: .*nowhere"):
        write_network(tmp_path, [Junction("a", 0, 0)], [Edge("e", "a", "nowhere", 10, 10)])
