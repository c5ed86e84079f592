"""Figure Eight: 14 vehicles on a loop that crosses itself; a collision ends the episode.

Source: DMPO paper, appendix A; numbers from Flow's environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from envs.registry import register
from envs.scenario import MAX_HORIZON
from envs.sumo.lanes import Lanes, Places
from envs.sumo.road_network import Connection, Edge, Junction, Point, write_network
from envs.sumo.simulation import Network
from envs.traffic import loop
from envs.traffic.loop import SPEED_LIMIT, Loop, LoopHumans, LoopParameters, Traffic, laps, relative_harmonics
from envs.traffic.observations import Observations
from envs.types import Floats

RADIUS = 30.0
ARC = 1.5 * np.pi * RADIUS
# SUMO keeps lengths to the centimeter.
NAMED_LENGTH = 4 * RADIUS + 2 * round(ARC, 2)
_ARC_POINTS = 40
_CENTER_RADIUS = 3.1
# Flow's own table of positions along the loop, in m: an offset at every junction, and the width of the crossing.
_INNER, _CROSSING = 0.28, 5.92
# Beginning of each lane in the table, in driving order.
_TABLE = np.array(
    [
        _INNER,  # bottom
        RADIUS + _INNER,  # the crossing, northwards
        RADIUS + 2 * _INNER + _CROSSING,  # top
        2 * RADIUS + 2 * _INNER + _CROSSING,
        2 * RADIUS + 3 * _INNER + _CROSSING,  # upper ring
        2 * RADIUS + ARC + 3 * _INNER + _CROSSING,
        2 * RADIUS + ARC + 4 * _INNER + _CROSSING,  # right
        3 * RADIUS + ARC + 4 * _INNER + _CROSSING,  # the crossing, westwards
        3 * RADIUS + ARC + 5 * _INNER + 2 * _CROSSING,  # left
        4 * RADIUS + ARC + 5 * _INNER + 2 * _CROSSING,
        4 * RADIUS + ARC + 6 * _INNER + 2 * _CROSSING,  # lower ring
        0.0,
    ]
)
#: Where the driven loop leaves the crossing northwards and westwards, in m.
CROSSING_ENDS = (39.4, 250.37)
# Meters that the table counts for each meter of a lane: the four small junctions have one position only.
_TABLE_METERS = np.array([0.0 if lane in (3, 5, 9, 11) else 1.0 for lane in range(len(_TABLE))])

#: Road and offset in m at which the published environment starts its 14 vehicles, as recorded, to the last digit: where
#: two streams cross, a difference of 1e-14 m has grown to one of 1e-6 m/s after 30 s.
PUBLISHED_START = (
    ("bottom", 0.0),
    ("top", 0.0),
    ("top", 28.767142857142858),
    ("upper_ring", 27.254285714285714),
    ("upper_ring", 56.02142857142857),
    ("upper_ring", 84.78857142857144),
    ("upper_ring", 113.5557142857143),
    ("right", 0.6711877313165076),
    ("right", 29.438330588459365),
    ("left", 22.005473445602206),
    ("lower_ring", 20.49261630274509),
    ("lower_ring", 49.25975915988795),
    ("lower_ring", 78.0269020170308),
    ("lower_ring", 106.79404487417366),
)


#: Observations of all loops, and those that know of the crossing.
observations: Observations[Traffic] = Observations(loop.observations)


@observations.register("crossing", size=14)
def _crossing(traffic: Traffic) -> Floats:
    ways = np.stack([(end - traffic.driven) % traffic.loop_length for end in CROSSING_ENDS])  # (2, E, M), m to each
    road, first = ways.argmin(axis=0), ways.argmin(axis=2)  # (E, M), next road; (2, E), next vehicle on each
    envs = np.arange(len(road))
    nearest = np.take_along_axis(ways, first[:, :, None], axis=2)[..., 0]  # (2, E)
    speed = np.stack([traffic.speed[envs, vehicle] for vehicle in first])  # (2, E)
    other = 1 - road, envs[:, None]
    # 100 m is farther than a vehicle can see there.
    distances = np.minimum(np.stack([ways.min(axis=0), nearest[other]], axis=-1), 100.0) / 50.0
    return np.concatenate([relative_harmonics(traffic), distances, speed[other][..., None] / 10.0], axis=-1)


class FigureEightHumans(LoopHumans):
    """Driving of the vehicles that do not learn on the figure eight: by default as in Flow's, with decel 1.5."""

    deceleration: float = Field(default=1.5, gt=0, description=LoopHumans.model_fields["deceleration"].description)


class FigureEightParameters(LoopParameters):
    """Figure Eight: vehicles on a loop that crosses itself; a collision at the crossing ends the episode."""

    known_observations: ClassVar = observations

    name: Literal["figure_eight"] = "figure_eight"
    num_vehicles: int = Field(len(PUBLISHED_START), gt=0, le=40, description="Vehicles on the figure.")
    horizon: int = Field(1500, gt=0, le=MAX_HORIZON, description="Simulated steps of 0.1 s in an episode.")
    observation: str = Field(
        "published",
        description="Name of the observation of an agent's own state. The one called crossing adds to "
        "relative_harmonics the distance to the end of the crossing, and the distance and speed of the next "
        "vehicle on the other road.",
        json_schema_extra=observations.list_in,
    )
    humans: FigureEightHumans = Field(
        default_factory=FigureEightHumans, description="Driving of the vehicles that do not learn."
    )

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.room >= NAMED_LENGTH:
            raise ValueError(
                f"num_vehicles = {self.num_vehicles} need more than {self.room:g} m to stand in, with their min_gap; "
                f"the figure eight has {NAMED_LENGTH:g} m; take fewer vehicles or smaller gaps"
            )
        return self


@register("figure_eight")
class FigureEight(Loop[FigureEightParameters]):
    """See :class:`FigureEightParameters`. North-south traffic has right of way at the crossing."""

    Parameters = FigureEightParameters
    edges = ("bottom", "top", "upper_ring", "right", "left", "lower_ring")
    max_acceleration = 3.0
    constant_actions: ClassVar = {"acceleration 0.5": 0.5, "acceleration 1": 1.0, "acceleration 3": 3.0}

    @classmethod
    def _reference_starts(cls, parameters: FigureEightParameters) -> int:
        return 1

    def _edge(self, name: str, variant: int, env: int) -> str:
        return f"{name}.{env}"

    def _network(self, folder: Path) -> Network:
        junctions: list[Junction] = []
        edges: list[Edge] = []
        connections: list[Connection] = []
        routes = {}
        for env in range(self.num_envs):
            junctions += _junctions(env)
            edges += _edges(env)
            connections += [Connection(f"bottom.{env}", f"top.{env}"), Connection(f"right.{env}", f"left.{env}")]
            names = [self._edge(name, 0, env) for name in self.edges]
            routes[names[0]] = laps(names, NAMED_LENGTH, self.parameters.horizon)
        return Network(write_network(folder, junctions, edges, connections), routes)

    def _choose_variant(self, env: int) -> int:
        return 0

    def _start_places(self, lanes: Lanes, variant: int) -> Places:
        if self.num_vehicles != len(PUBLISHED_START):
            return lanes.spread(self.num_vehicles, NAMED_LENGTH / self.num_vehicles)
        roads, offsets = zip(*PUBLISHED_START, strict=True)
        return Places(2 * np.array([self.edges.index(road) for road in roads]), np.array(offsets))

    def _published_position(self) -> Floats:
        lanes = self._lanes_of(0, 0)
        lane, offset = lanes.locate(self.position)
        return _TABLE[lane] + _TABLE_METERS[lane] * offset

    def _reward(self, acceleration: Floats) -> Floats:
        target = self.parameters.target_speed
        return target - np.abs(target - self.speed)


def _junctions(env: int) -> list[Junction]:
    places = {"right": (RADIUS, 0.0), "top": (0.0, RADIUS), "left": (-RADIUS, 0.0), "bottom": (0.0, -RADIUS)}
    center = Junction(f"center.{env}", 0.0, 0.0, kind="priority", radius=_CENTER_RADIUS)
    return [center, *(Junction(f"{name}.{env}", x, y, kind="priority") for name, (x, y) in places.items())]


def _edges(env: int) -> list[Edge]:
    def edge(
        name: str, start: str, end: str, length: float, priority: int | None = None, shape: list[Point] | None = None
    ) -> Edge:
        return Edge(f"{name}.{env}", f"{start}.{env}", f"{end}.{env}", length, SPEED_LIMIT, priority, shape)

    upper = np.linspace(0.0, 1.5 * np.pi, _ARC_POINTS)
    lower = np.linspace(0.5 * np.pi, 2.0 * np.pi, _ARC_POINTS)
    upper_shape = [(RADIUS * float(1 - np.cos(t)), RADIUS * float(1 + np.sin(t))) for t in upper]
    lower_shape = [(RADIUS * float(np.cos(t) - 1), RADIUS * float(np.sin(t) - 1)) for t in lower]
    return [
        edge("bottom", "bottom", "center", RADIUS, priority=78),
        edge("top", "center", "top", RADIUS, priority=78),
        edge("upper_ring", "top", "right", ARC, shape=upper_shape),
        edge("right", "right", "center", RADIUS, priority=46),
        edge("left", "center", "left", RADIUS, priority=46),
        edge("lower_ring", "left", "bottom", ARC, shape=lower_shape),
    ]
