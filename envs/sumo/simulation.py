"""Simulation of many copies of a road in one SUMO, driven by speed commands.

SUMO decides every speed. A copy is put back to any state by new vehicles in its place, never by restarting SUMO.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Protocol, Self
from xml.sax.saxutils import quoteattr

import numpy as np

from envs.selection import selection
from envs.sumo.speeds import Speeds, VehicleIds
from envs.types import Bools, Floats, SimulationError

STEP_SECONDS = 0.1
WINDOW_PROGRAM = "sumo-gui"


class Vehicles(NamedTuple):
    """Places of the M vehicles of a copy in SUMO, those that do not learn included; each (M,).

    ``x`` and ``y`` in m are the middle of the front bumper, ``heading`` is in radians counterclockwise from the x
    axis, ``speed`` in m/s, ``length`` in m.
    """

    x: Floats
    y: Floats
    heading: Floats
    speed: Floats
    length: Floats


class RoadSimulation(Protocol):
    """Simulation of E copies of M vehicles, as measures and pictures of any road scenario need it."""

    def emissions(self) -> tuple[Floats, Floats]:
        """Fuel and CO2 (E, M) in mg/s of the last step."""
        ...

    def lengths(self, env: int) -> Floats:
        """Lengths (M,) in m of one copy's vehicles."""
        ...

    def vehicles(self, env: int) -> Vehicles:
        """Places of one copy's vehicles."""
        ...

    def lane_shape(self, lane: str) -> Floats:
        """Points (P, 2) in m of the middle line of a lane."""
        ...

    def close(self) -> None:
        """End SUMO."""
        ...


@dataclass(frozen=True)
class Network:
    """SUMO network with a road of its own for each of E copies.

    Attributes:
        net_file: the network's file.
        routes: by name, the edges that a vehicle drives on, in order, further than any vehicle comes.
    """

    net_file: Path
    routes: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Driving:
    """Vehicle type and step method of a simulation.

    Attributes:
        vehicle_type: attributes of SUMO's ``vType`` element, such as ``length`` (m) or ``minGap`` (m).
        speed_mode: bit set of ``vehicle.setSpeedMode``: 1 caps a command at the safe speed, 0 obeys every command.
        ballistic: whether positions follow the trapezoid rule instead of SUMO's default Euler step.
        report_collisions: whether SUMO looks for collisions (it never moves a vehicle because of one).
    """

    vehicle_type: Mapping[str, str]
    speed_mode: int
    ballistic: bool = False
    report_collisions: bool = True


@dataclass(frozen=True)
class OtherVehicles:
    """H vehicles of each copy that differ from the rest of its M.

    Attributes:
        which: their numbers in ascending order.
        vehicle_type: attributes of SUMO's ``vType`` in which they differ.
        left_to_sumo: whether SUMO's car-following model drives them, with all its checks, instead of commands.
    """

    which: Sequence[int]
    vehicle_type: Mapping[str, str]
    left_to_sumo: bool


def use_packaged_sumo() -> Path:
    """Make SUMO's tools use the SUMO of the Python package, and return its folder."""
    import sumo

    # An installation of the user's own may be another version, with other numbers.
    os.environ["SUMO_HOME"] = str(sumo.SUMO_HOME)
    return Path(sumo.SUMO_HOME)


class Simulation:
    """Simulation of E copies of M vehicles in one SUMO; one per process, because libsumo holds global state.

    Args:
        network: the roads.
        num_envs: E, the number of copies.
        num_vehicles: M, the number of vehicles in each.
        driving: vehicle type and step method.
        others: vehicles of another kind.

    Attributes:
        window: whether the simulations of this process are shown in SUMO's own window, at the speed of real time.

    Raises:
        SimulationError: SUMO did not accept the network, or found no display for its window.
    """

    window: ClassVar[bool] = False

    def __init__(
        self, network: Network, num_envs: int, num_vehicles: int, driving: Driving, others: OtherVehicles | None = None
    ) -> None:
        self._speed_mode = driving.speed_mode
        self._num_envs, self._num_vehicles = num_envs, num_vehicles
        self._ids: list[list[str]] = [[] for _ in range(num_envs)]
        others = others or OtherVehicles((), {}, left_to_sumo=False)
        self._others = frozenset(others.which)
        self._free = self._others if others.left_to_sumo else frozenset()
        self._rest = [i for i in range(num_vehicles) if i not in self._others]
        self._commanded = selection(np.array(self._rest))
        self._named: tuple[VehicleIds, VehicleIds, VehicleIds] | None = None
        self._placements = 0
        with tempfile.TemporaryDirectory(prefix="dmpo-sumo-") as folder:
            types = Path(folder) / "types.add.xml"
            others_type = {**driving.vehicle_type, **others.vehicle_type}
            kinds = _type("vehicle", driving.vehicle_type) + _type("other", others_type)
            types.write_text(f"<additional>{kinds}</additional>")
            try:
                self._sumo = start_sumo(_options(network.net_file, types, driving), self.window)
                for name, edges in network.routes.items():
                    self._sumo.route.add(name, list(edges))
            except Exception as error:
                if type(error).__name__ not in ("TraCIException", "FatalTraCIError"):  # of a module not loaded before
                    raise
                refused = "SUMO opened no window for" if self.window else "SUMO refused"
                raise SimulationError(f"{refused} the network {network.net_file}: {error}") from error
        self._speeds = Speeds(self._sumo)
        self._speed_factors = self._draw_speed_factors(next(iter(network.routes)))

    def _draw_speed_factors(self, route: str) -> list[float]:
        """Speed factors (M) that SUMO draws for the vehicles of a simulation with one copy.

        Every copy gets them in every episode, so that all are the same road.
        """
        vehicle = self._sumo.vehicle
        ids = [f"drawn.{i}" for i in range(self._num_vehicles)]
        for identity in ids:
            vehicle.add(identity, route, typeID="vehicle")
        factors = [vehicle.getSpeedFactor(identity) for identity in ids]
        for identity in ids:
            vehicle.remove(identity)
        return factors

    def place(self, env: int, route: str, lanes: Sequence[str], offsets: Floats, speeds: Floats) -> None:
        """Put M vehicles on one copy's lanes (M names) of a route, at offsets (M,) in m and speeds (M,) in m/s."""
        vehicle = self._sumo.vehicle
        for identity in self._ids[env]:
            vehicle.remove(identity)
        # New vehicles, because present ones remember what TraCI cannot reset: whether they had to wait at the next
        # junction, when they entered the last, whether they braked. That would make an episode depend on the last.
        self._placements += 1
        self._ids[env] = [f"{env}.{i}.{self._placements}" for i in range(self._num_vehicles)]
        self._named = None
        factors = zip(self._ids[env], self._speed_factors, strict=True)
        places = zip(lanes, offsets.tolist(), speeds.tolist(), strict=True)
        for i, ((identity, factor), (lane, offset, speed)) in enumerate(zip(factors, places, strict=True)):
            vehicle.add(identity, route, typeID="other" if i in self._others else "vehicle")
            vehicle.setSpeedFactor(identity, factor)
            if i not in self._free:
                vehicle.setSpeedMode(identity, self._speed_mode)
            vehicle.moveTo(identity, lane, offset)
            vehicle.setPreviousSpeed(identity, speed)

    def command_others(self, commands: Floats) -> None:
        """Command speeds (E, H) in m/s to the vehicles of another kind, for the next step."""
        self._speeds.command(self._vehicles()[2], commands.ravel())

    def step(self, commands: Floats) -> Floats:
        """Simulate one step of 0.1 s.

        Args:
            commands: commanded speeds (E, M) in m/s; those of vehicles of another kind are ignored, see
                ``command_others``.

        Returns:
            Speeds (E, M) in m/s that SUMO made of the commands.
        """
        all_vehicles, commanded, _ = self._vehicles()
        self._speeds.command(commanded, commands[:, self._commanded].ravel())
        self._sumo.simulationStep()
        return self._speeds.read(all_vehicles).reshape(self._num_envs, self._num_vehicles)

    def _vehicles(self) -> tuple[VehicleIds, VehicleIds, VehicleIds]:
        """Vehicles of all copies, those among them that ``step`` commands, and those of another kind."""
        if self._named is None:
            numbers = range(self._num_vehicles), self._rest, sorted(self._others)
            all_vehicles, commanded, others = (
                VehicleIds([copy[i] for copy in self._ids if copy for i in which]) for which in numbers
            )
            self._named = all_vehicles, commanded, others
        return self._named

    def emissions(self) -> tuple[Floats, Floats]:
        """Fuel and CO2 (E, M) in mg/s of the last step, from the emission model of SUMO's vehicle class."""
        vehicle, shape = self._sumo.vehicle, (self._num_envs, self._num_vehicles)
        ids = self._vehicles()[0].ids
        fuel, co2 = (
            np.fromiter(map(rate, ids), np.float64, len(ids)).reshape(shape)
            for rate in (vehicle.getFuelConsumption, vehicle.getCO2Emission)
        )
        return fuel, co2

    def lengths(self, env: int) -> Floats:
        """Lengths (M,) in m of one copy's vehicles."""
        return np.array([self._sumo.vehicle.getLength(identity) for identity in self._ids[env]])

    def vehicles(self, env: int) -> Vehicles:
        """Places of one copy's vehicles."""
        vehicle, ids = self._sumo.vehicle, self._ids[env]
        x, y = np.array([vehicle.getPosition(identity) for identity in ids]).T
        # SUMO counts clockwise from north.
        heading = np.radians(90.0 - np.array([vehicle.getAngle(identity) for identity in ids]))
        speed = np.array([vehicle.getSpeed(identity) for identity in ids])
        return Vehicles(x, y, heading, speed, self.lengths(env))

    def lane_shape(self, lane: str) -> Floats:
        """Points (P, 2) in m of the middle line of a lane."""
        return np.array(self._sumo.lane.getShape(lane))

    def collided(self) -> Bools:
        """Vehicles (E, M) in a collision at the end of the last step, those that were hit among them."""
        result = np.zeros((self._num_envs, self._num_vehicles), dtype=np.bool_)
        for collision in self._sumo.simulation.getCollisions():
            for identity in (collision.collider, collision.victim):
                env, vehicle, _ = identity.split(".")
                result[int(env), int(vehicle)] = True
        return result

    def lane_length(self, lane: str) -> float:
        """Length of a lane in m."""
        return float(self._sumo.lane.getLength(lane))

    def next_lane(self, lane: str) -> tuple[str, str]:
        """The lane inside the junction at the end of ``lane``, and the lane after it."""
        link = self._sumo.lane.getLinks(lane)[0]
        return str(link[4]), str(link[0])

    def close(self) -> None:
        """End SUMO."""
        self._sumo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_sumo(options: list[str], window: bool) -> Any:
    """Start SUMO and return libsumo or, with a window, which needs a process of its own, traci.

    Both are modules with the same functions.
    """
    home = use_packaged_sumo()
    if not window:
        import libsumo

        libsumo.start(["sumo", *options])
        return libsumo
    import traci
    from sumolib.miscutils import getFreeSocketPort

    program = [str(home / "bin" / WINDOW_PROGRAM), "--start", "--quit-on-end", "--delay", f"{1000 * STEP_SECONDS:g}"]
    # Without a port traci starts it again and again where there is no display.
    traci.start([*program, *options], port=getFreeSocketPort())
    return traci


def _type(name: str, attributes: Mapping[str, str]) -> str:
    return f'<vType id="{name}" {" ".join(f"{key}={quoteattr(value)}" for key, value in attributes.items())}/>'


def _options(net_file: Path, types: Path, driving: Driving) -> list[str]:
    options = {
        "net-file": net_file,
        "additional-files": types,
        "step-length": STEP_SECONDS,
        "step-method.ballistic": driving.ballistic,
        "time-to-teleport": -1,
        "collision.action": "warn" if driving.report_collisions else "none",
        "collision.check-junctions": True,
        "no-warnings": True,
        "no-step-log": True,
        "xml-validation": "never",
    }
    words = []
    for name, value in options.items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words
