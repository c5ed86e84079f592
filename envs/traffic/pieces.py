"""Pieces of which the YAML composes observations and rewards on a road network of the user's own.

A piece is a function from the agents' :class:`AgentVehicles` to one number for each of them, (N,)::

    from envs.traffic.pieces import AgentVehicles, observations

    @observations.register("slope", scale=10.0)
    def slope(vehicles: AgentVehicles) -> Floats:
        return vehicles.read("getSlope")  # degrees

Where a slot is empty, the value is replaced by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from envs import plugins
from envs.types import Bools, Floats
from graphs.registration import Registry
from graphs.spelling import check_names

#: Distance in m up to which a vehicle in front is seen.
LOOK_AHEAD = 100.0


class AgentVehicles:
    """Present state of the vehicles in the slots of N agents; speeds in m/s, lengths in m, each (N,).

    Args:
        sumo: ``libsumo``.
        target_speed: target speed of the scenario, in m/s.

    Attributes:
        sumo: ``libsumo``, for what cannot be read of a single vehicle.
        ids: SUMO's names of the vehicles, None for an empty slot.
        colliding: whether each vehicle collides.
        target_speed: as above.
    """

    def __init__(self, sumo: Any, target_speed: float) -> None:
        self.sumo, self.target_speed = sumo, target_speed
        self._route_lengths: dict[tuple[str, str], float] = {}
        self.update((), ())

    def update(self, ids: Sequence[str | None], colliding: Collection[str]) -> None:
        """Begin the next step, with these vehicles in the slots: everything is read anew."""
        self.ids = tuple(ids)
        self.colliding = np.array([identity in colliding for identity in self.ids], dtype=np.bool_)
        self._read: dict[str, Floats] = {}
        self._leaders: tuple[Floats, Floats] | None = None

    @property
    def present(self) -> Bools:
        """Whether each slot holds a vehicle, (N,)."""
        return np.array([identity is not None for identity in self.ids], dtype=np.bool_)

    def read(self, getter: str) -> Floats:
        """Values of a function of ``libsumo.vehicle``, such as ``getSlope``, for each vehicle; read once a step.

        Raises:
            ValueError: SUMO has no such function.
        """
        if getter not in self._read:
            function: Any = getattr(self.sumo.vehicle, getter, None)
            if function is None:
                known = [name for name in dir(self.sumo.vehicle) if name.startswith("get")]
                check_names("function of libsumo.vehicle", [getter], known)
            self._read[getter] = self.each(function)
        return self._read[getter]

    def each(self, function: Callable[[str], float]) -> Floats:
        """Values of a function of a vehicle's name, (N,); zero where a slot is empty."""
        return np.array([0.0 if identity is None else float(function(identity)) for identity in self.ids])

    @property
    def gap(self) -> Floats:
        """Free road to the vehicle in front, bumper to bumper; at most LOOK_AHEAD, also where none is in sight."""
        return self._in_front()[0]

    @property
    def front_speed(self) -> Floats:
        """Speed of the vehicle in front; the own speed where none is in sight."""
        return self._in_front()[1]

    def _in_front(self) -> tuple[Floats, Floats]:
        if self._leaders is None:
            gap, speed = np.full(len(self.ids), LOOK_AHEAD), self.read("getSpeed").copy()
            vehicle = self.sumo.vehicle
            for slot, identity in enumerate(self.ids):
                found = None if identity is None else vehicle.getLeader(identity, LOOK_AHEAD)
                if found and found[0]:
                    # SUMO counts up to minGap behind the vehicle in front.
                    gap[slot] = min(found[1] + vehicle.getMinGap(identity), LOOK_AHEAD)
                    speed[slot] = vehicle.getSpeed(found[0])
            self._leaders = gap, speed
        return self._leaders

    def route_length(self, identity: str) -> float:
        """Length of a vehicle's route."""
        key = identity, self.sumo.vehicle.getRouteID(identity)
        if key not in self._route_lengths:
            edges = self.sumo.vehicle.getRoute(identity)
            self._route_lengths[key] = sum(self.sumo.lane.getLength(f"{edge}_0") for edge in edges)
        return self._route_lengths[key]


Piece = Callable[[AgentVehicles], Floats]


class Pieces:
    """Pieces of one kind by name.

    Args:
        kind: the kind as error messages call it, in the singular.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._functions: Registry[Piece] = Registry(kind, modules=plugins.MODULES)
        self._scales: dict[str, float] = {}

    def register(self, name: str, scale: float = 1.0) -> Callable[[Piece], Piece]:
        """Decorator that registers a function under a name, for the YAML.

        Args:
            name: the name.
            scale: divisor of its values, so that a network sees numbers of about 1.

        Raises:
            ValueError: another function has this name already.
        """

        def decorator(function: Piece) -> Piece:
            self._functions.register(name)(function)
            self._scales[name] = scale
            return function

        return decorator

    def check(self, names: Collection[str]) -> None:
        """Refuse names that are not known.

        Raises:
            ValueError: for the first unknown name, with the nearest one and all there are.
        """
        check_names(self._kind, names, self.names())

    def names(self) -> list[str]:
        """All names there are now, in alphabetical order."""
        return self._functions.names()

    def read(self, name: str, vehicles: AgentVehicles) -> Floats:
        """Values (N,) of a piece, divided by its scale; zero where a slot is empty.

        Raises:
            ValueError: there is no such piece, or it gave something else than a finite number for each slot.
        """
        values = np.asarray(self._functions.get(name)(vehicles))
        if values.shape != (len(vehicles.ids),):
            raise ValueError(f"the {self._kind} '{name}' gave shape {values.shape}; (N,) = ({len(vehicles.ids)},) is "
                             "needed, a number for each slot")  # fmt: skip
        values = np.where(vehicles.present, values, 0.0) / self._scales[name]
        if not np.isfinite(values).all():
            raise ValueError(f"the {self._kind} '{name}' gave {values[~np.isfinite(values)][0]}; finite numbers are "
                             "needed")  # fmt: skip
        return values


#: ``@observations.register("my_own", scale=10.0)`` adds one.
observations = Pieces("observation piece")
#: ``@rewards.register("my_own")`` adds one; its weight stands in the YAML.
rewards = Pieces("reward piece")


def weighted(weights: Mapping[str, float], vehicles: AgentVehicles) -> Floats:
    """Sum of reward pieces, each times its weight, (N,)."""
    return sum((weight * rewards.read(name, vehicles) for name, weight in weights.items()), np.zeros(len(vehicles.ids)))


@observations.register("present")
def _present(vehicles: AgentVehicles) -> Floats:
    return vehicles.present.astype(np.float64)


@observations.register("speed", scale=10.0)
def _speed(vehicles: AgentVehicles) -> Floats:
    return vehicles.read("getSpeed")


@observations.register("acceleration", scale=3.0)
def _acceleration(vehicles: AgentVehicles) -> Floats:
    return vehicles.read("getAcceleration")


@observations.register("gap", scale=30.0)
def _gap(vehicles: AgentVehicles) -> Floats:
    return vehicles.gap


@observations.register("relative_speed", scale=10.0)
def _relative_speed(vehicles: AgentVehicles) -> Floats:
    return vehicles.front_speed - vehicles.read("getSpeed")


@observations.register("position")
def position(vehicles: AgentVehicles) -> Floats:
    """Share of its route that a vehicle has driven, from 0 to 1."""
    length = np.maximum(vehicles.each(vehicles.route_length), 1.0)
    return np.minimum(vehicles.read("getDistance") / length, 1.0)


@observations.register("edge_position")
def edge_position(vehicles: AgentVehicles) -> Floats:
    """Share of its lane that a vehicle has driven, from 0 to 1; for loops, where routes are long."""
    lane = vehicles.sumo.lane
    length = vehicles.each(lambda identity: lane.getLength(vehicles.sumo.vehicle.getLaneID(identity)))
    return vehicles.read("getLanePosition") / np.maximum(length, 1e-9)


@observations.register("lane")
def _lane(vehicles: AgentVehicles) -> Floats:
    return vehicles.read("getLaneIndex")


@observations.register("speed_limit", scale=10.0)
def _speed_limit(vehicles: AgentVehicles) -> Floats:
    return vehicles.read("getAllowedSpeed")


@rewards.register("speed_towards_target")
def speed_towards_target(vehicles: AgentVehicles) -> Floats:
    """max(v* - |v* - v|, 0) / v*: 1 at the target speed v*, 0 at rest and from twice the target on."""
    target = vehicles.target_speed
    return np.maximum(target - np.abs(target - vehicles.read("getSpeed")), 0.0) / target


@rewards.register("acceleration_cost")
def acceleration_cost(vehicles: AgentVehicles) -> Floats:
    """|a| in m/s², of the vehicle's actual acceleration rather than the commanded one."""
    return np.abs(vehicles.read("getAcceleration"))


@rewards.register("standing")
def standing(vehicles: AgentVehicles) -> Floats:
    """1 below 0.1 m/s, where SUMO counts a vehicle as waiting."""
    return (vehicles.read("getSpeed") < 0.1).astype(np.float64)


@rewards.register("headway_cost")
def headway_cost(vehicles: AgentVehicles) -> Floats:
    """max(1 - h, 0) for a time headway of h seconds: 1 at the bumper in front, 0 from a second on."""
    return np.maximum(1.0 - vehicles.gap / np.maximum(vehicles.read("getSpeed"), 1.0), 0.0)


@rewards.register("co2")
def co2(vehicles: AgentVehicles) -> Floats:
    """CO₂ in g/s by SUMO's emission model of the vehicle's emission class."""
    return vehicles.read("getCO2Emission") / 1000.0


@rewards.register("fuel")
def fuel(vehicles: AgentVehicles) -> Floats:
    """Fuel in g/s by SUMO's emission model of the vehicle's emission class."""
    return vehicles.read("getFuelConsumption") / 1000.0


@rewards.register("collision")
def collision(vehicles: AgentVehicles) -> Floats:
    """1 in a step at whose end the vehicle collides."""
    return vehicles.colliding.astype(np.float64)
