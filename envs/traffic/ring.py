"""Ring Attenuation: 22 vehicles on a one-lane ring whose length is drawn anew for every episode.

Source: DMPO paper, appendix A; numbers from Flow's environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from envs.registry import register
from envs.scenario import MAX_HORIZON
from envs.sumo.lanes import Lanes, Places
from envs.sumo.road_network import Edge, Junction, write_network
from envs.sumo.simulation import Network
from envs.traffic.loop import SPEED_LIMIT, VEHICLE_LENGTH, Loop, LoopHumans, LoopParameters, laps
from envs.traffic.road_scenario import MAX_VEHICLES
from envs.types import Floats

_Length = Annotated[int, Field(gt=0, le=100_000)]
_MAX_LENGTHS = 1_000  # each has a ring of its own in every environment
_ARC_POINTS = 40


class RingHumans(LoopHumans):
    """Driving of the vehicles that do not learn on the ring: by default as in Flow's, with minGap 0."""

    min_gap: float = Field(default=0.0, ge=0, description=LoopHumans.model_fields["min_gap"].description)


class RingParameters(LoopParameters):
    """Ring Attenuation: vehicles on a one-lane ring, whose length is drawn anew for every episode."""

    name: Literal["ring"] = "ring"
    num_vehicles: int = Field(22, gt=0, le=MAX_VEHICLES, description="Vehicles on the ring.")
    horizon: int = Field(3000, gt=0, le=MAX_HORIZON, description="Simulated steps of 0.1 s in an episode.")
    ring_length: _Length | tuple[_Length, _Length] = Field(
        (220, 270),
        description="Length of the ring in m: one whole number, or [low, high] to draw from for each episode.",
    )
    humans: RingHumans = Field(default_factory=RingHumans, description="Driving of the vehicles that do not learn.")

    @property
    def lengths(self) -> range:
        """Lengths in m that an episode may have."""
        low, high = (self.ring_length,) * 2 if isinstance(self.ring_length, int) else self.ring_length
        return range(low, high + 1)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if not self.lengths:
            raise ValueError(f"ring_length = {list(self.ring_length)} is empty; give [low, high] with low <= high")  # type: ignore[arg-type]
        if len(self.lengths) > _MAX_LENGTHS:
            raise ValueError(
                f"ring_length = {list(self.ring_length)} has {len(self.lengths):,} lengths, each with a ring of its "  # type: ignore[arg-type]
                f"own; allowed: at most {_MAX_LENGTHS:,}"
            )
        if self.lengths[0] <= self.room:
            like_published = [10 * self.num_vehicles, 270 * self.num_vehicles // 22]
            raise ValueError(
                f"ring_length = {self.lengths[0]} is too short for num_vehicles = {self.num_vehicles}, which need more "
                f"than {self.room:g} m (cars of {VEHICLE_LENGTH:g} m with their min_gap); "
                f"lengthen the ring, {like_published} is as dense as the published one, or take fewer vehicles"
            )
        return self


@register("ring")
class Ring(Loop[RingParameters]):
    """See :class:`RingParameters`. Each length has a ring of its own in the network; an episode chooses one."""

    Parameters = RingParameters
    edges = ("bottom", "right", "top", "left")
    max_acceleration = 1.0
    constant_actions: ClassVar = {"acceleration 0.05": 0.05, "acceleration 1": 1.0}
    # The speed of uniform flow on the shortest ring: desiring more makes waves.
    controller_parameters: ClassVar = {"follower_stopper": {"desired_speed": 2.5}}

    @classmethod
    def _reference_starts(cls, parameters: RingParameters) -> int:
        return len(_reference_lengths(parameters))

    @classmethod
    def bounds(cls, parameters: RingParameters) -> dict[str, float]:
        """Reward of vehicles that hold the speed of uniform flow from the first step on, without accelerating.

        It is empty where vehicles drive that do not learn, because no bound is known.
        """
        if len(parameters.human_places):
            return {}
        n, target = parameters.num_vehicles, parameters.target_speed
        speeds = [uniform_flow_speed(length, n, parameters.min_gap) for length in _reference_lengths(parameters)]
        desired = [(target - abs(target - min(speed, target))) / target for speed in speeds]
        return {"uniform flow": 4.0 * float(np.mean(desired)) / n}

    def _edge(self, name: str, variant: int, env: int) -> str:
        return f"{name}.{variant}.{env}"

    def _network(self, folder: Path) -> Network:
        junctions: list[Junction] = []
        edges: list[Edge] = []
        routes = {}
        for env in range(self.num_envs):
            for variant, length in enumerate(self.parameters.lengths):
                names = [self._edge(name, variant, env) for name in self.edges]
                ring_junctions, ring_edges = _ring(names, length)
                junctions += ring_junctions
                edges += ring_edges
                routes[names[0]] = laps(names, length, self.parameters.horizon)
        return Network(write_network(folder, junctions, edges), routes)

    def _choose_variant(self, env: int) -> int:
        start = self.reference_start(env)
        if start is None:
            return int(self.random[env].integers(len(self.parameters.lengths)))
        return _reference_lengths(self.parameters)[start] - self.parameters.lengths[0]

    def _start_places(self, lanes: Lanes, variant: int) -> Places:
        return lanes.spread(self.num_vehicles, self.parameters.lengths[variant] / self.num_vehicles)

    def _reward(self, acceleration: Floats) -> Floats:
        target = self.parameters.target_speed
        desired = (target - np.abs(target - self.speed)) / target
        return 4.0 * (desired - np.abs(acceleration)) / self.num_agents


def uniform_flow_speed(length: float, num_vehicles: int, min_gap: float = 2.5) -> float:
    """Speed in m/s at which IDM vehicles, equally spaced on a ring of ``length`` m, neither gain nor lose speed.

    It solves gap = (min_gap + v tau) / sqrt(1 - (v / v0)^4) with tau = 1 s and v0 = 30 m/s (Treiber et al., 2000,
    eq. 7): no learner under SUMO's safe-speed check can hold more.
    """
    gap = length / num_vehicles - VEHICLE_LENGTH
    # Squared, a polynomial in v whose coefficients change sign once: one of its roots is positive (Descartes).
    roots = np.roots([gap**2 / SPEED_LIMIT**4, 0.0, 1.0, 2 * min_gap, min_gap**2 - gap**2])
    return float(roots.real[np.isclose(roots.imag, 0.0)].max())


def _reference_lengths(parameters: RingParameters) -> range:
    """Every tenth meter from the shortest ring to the longest."""
    return parameters.lengths[::10]


def _ring(names: list[str], length: int) -> tuple[list[Junction], list[Edge]]:
    """Ring of four quarter circles; each edge starts at the junction that carries its name."""
    radius = length / (2 * np.pi)
    junctions, edges = [], []
    for quarter, name in enumerate(names):
        angles = np.linspace(quarter - 1, quarter, _ARC_POINTS) * np.pi / 2
        shape = [(radius * float(np.cos(angle)), radius * float(np.sin(angle))) for angle in angles]
        junctions.append(Junction(name, *shape[0]))
        edges.append(Edge(name, name, names[(quarter + 1) % 4], length / 4, SPEED_LIMIT, shape=shape))
    return junctions, edges
