"""Places on the lanes of a loop."""

import numpy as np

from envs.sumo.lanes import Lanes
from tests.envs.helpers import Array


def lane_places() -> tuple[Lanes, Array]:
    """The lanes of a figure eight, and places on them."""
    lanes = Lanes(("a", "ab", "b", "ba"), np.array([0.0, 10.0, 10.5, 30.5]), 31.0)
    return lanes, np.array([0.0, 9.999, 10.0, 10.5, 30.75])


def test_positions_are_located_on_lanes() -> None:
    lanes, positions = lane_places()
    places = lanes.locate(positions)
    assert places.lane.tolist() == [0, 0, 1, 2, 3]
    np.testing.assert_allclose(lanes.starts[places.lane] + places.offset, positions, rtol=0, atol=1e-12)


def test_a_spread_that_meets_a_junction_moves_on_to_the_road_behind_it() -> None:
    lanes, _ = lane_places()
    places = lanes.spread(3, 10.25)
    assert places.lane.tolist() == [0, 2, 2]
    # The third is counted from where the second moved to.
    np.testing.assert_allclose(places.offset, [0.0, 0.0, 10.25])
