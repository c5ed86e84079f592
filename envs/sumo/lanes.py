"""Lanes of a loop in driving order, and places on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.sumo.simulation import Simulation
from envs.types import Floats


class Places(NamedTuple):
    """Places of M vehicles: number of the lane in driving order (M,), and offset on it (M,) in m.

    Starts are places rather than positions along the loop, because at a crossing a difference in the last digit grows
    to a micrometer within 300 steps.
    """

    lane: NDArray[np.int64]
    offset: Floats


@dataclass(frozen=True)
class Lanes:
    """Lanes of one loop in driving order, junction lanes included.

    Attributes:
        names: SUMO's names of the lanes.
        starts: distance of each lane's beginning from that of the first, in m.
        length: length of the whole loop, in m.
    """

    names: tuple[str, ...]
    starts: Floats
    length: float

    @classmethod
    def walk(cls, simulation: Simulation, first_edge: str) -> Lanes:
        """The lanes that lead from an edge round the loop back to it."""
        names: list[str] = []
        lane = f"{first_edge}_0"
        while lane not in names:
            junction, following = simulation.next_lane(lane)
            names += [lane, junction]
            lane = following
        # SUMO keeps lengths to the centimeter; rounding keeps the digits of the sum from drifting.
        ends = np.round(np.cumsum([simulation.lane_length(name) for name in names]), 2)
        return cls(tuple(names), np.concatenate([[0.0], ends[:-1]]), float(ends[-1]))

    def locate(self, position: Floats) -> Places:
        """Places at positions (M,) in m along the loop."""
        lane = np.searchsorted(self.starts, position, side="right") - 1
        return Places(lane, position - self.starts[lane])

    def on_roads(self, roads: Sequence[int], offsets: Floats) -> Places:
        """Places ``offsets`` (M,) in m behind the beginnings of roads, which are counted in driving order.

        Raises:
            ValueError: an offset beyond the end of its road.
        """
        # Roads and junction lanes alternate.
        lane = 2 * np.array(roads)
        lengths = np.diff(self.starts, append=self.length)[lane]
        for i in np.flatnonzero(offsets > lengths):
            raise ValueError(f"offset = {offsets[i]:g}: the road {self.names[lane[i]]} is {lengths[i]:g} m long")
        return Places(lane, offsets.astype(np.float64))

    def spread(self, count: int, spacing: float) -> Places:
        """Places ``spacing`` m apart; one that would fall inside a junction moves to the start of the next road.

        The vehicles behind it are counted from where it moved to, as in the published environments.
        """
        places = []
        position = 0.0
        for _ in range(count):
            lane = int(np.searchsorted(self.starts, position, side="right")) - 1
            if lane % 2:
                lane = (lane + 1) % len(self.starts)
                position = float(self.starts[lane])
            places.append((lane, position - self.starts[lane]))
            position = (position + spacing) % self.length
        lanes, offsets = zip(*places, strict=True)
        return Places(np.array(lanes), np.array(offsets))
