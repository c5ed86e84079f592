"""Many copies of a road in one SUMO simulation, driven by speed commands.

SUMO decides every speed. A copy is put back to any state by new vehicles in its place, never by restarting SUMO.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

STEP_SECONDS = 0.1

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class SimulationError(RuntimeError):
    """SUMO could not be started, or stopped answering and could not be restarted."""


@dataclass(frozen=True)
class Network:
    """A SUMO network that holds a road of its own for each of E copies, and the ways to drive on it.

    ``routes`` lists by name the edges that a vehicle drives, in order, further than any vehicle comes.
    """

    net_file: Path
    routes: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Driving:
    """How SUMO moves the vehicles.

    Attributes:
        vehicle_type: attributes of SUMO's ``vType`` element, such as ``length`` (m) or ``minGap`` (m).
        speed_mode: the bit set of ``vehicle.setSpeedMode``; 1 caps a command at the safe speed, 0 obeys every command.
        ballistic: positions by the trapezoid rule instead of SUMO's default Euler step.
        report_collisions: whether SUMO looks for collisions (it never moves a vehicle because of one).
    """

    vehicle_type: Mapping[str, str]
    speed_mode: int
    ballistic: bool = False
    report_collisions: bool = True


def use_packaged_sumo() -> Path:
    """Point SUMO's tools at the SUMO that came with the Python package, and return its folder."""
    import sumo

    # An installation of the user's own may be another version, with other numbers.
    os.environ["SUMO_HOME"] = str(sumo.SUMO_HOME)
    return Path(sumo.SUMO_HOME)


class Simulation:
    """E copies of M vehicles in one SUMO simulation; one per process, because libsumo holds global state.

    Args:
        network: the roads.
        num_envs: E.
        num_vehicles: M, vehicles per copy.
        driving: vehicle type and step method.

    Raises:
        SimulationError: SUMO did not accept the network.
    """

    def __init__(self, network: Network, num_envs: int, num_vehicles: int, driving: Driving) -> None:
        use_packaged_sumo()
        import libsumo

        self._sumo, self._speed_mode = libsumo, driving.speed_mode
        self._num_envs, self._num_vehicles = num_envs, num_vehicles
        self._ids: list[list[str]] = [[] for _ in range(num_envs)]
        self._all_ids: list[str] = []
        self._placements = 0
        with tempfile.TemporaryDirectory(prefix="dmpo-sumo-") as folder:
            types = Path(folder) / "types.add.xml"
            attributes = " ".join(f"{key}={quoteattr(value)}" for key, value in driving.vehicle_type.items())
            types.write_text(f'<additional><vType id="vehicle" {attributes}/></additional>')
            try:
                libsumo.start(_command_line(network.net_file, types, driving))
                for name, edges in network.routes.items():
                    libsumo.route.add(name, list(edges))
            except (libsumo.TraCIException, libsumo.FatalTraCIError) as error:
                raise SimulationError(f"SUMO refused the network {network.net_file}: {error}") from error
        self._speed_factors = self._draw_speed_factors(next(iter(network.routes)))

    def _draw_speed_factors(self, route: str) -> list[float]:
        """The factors (M) that SUMO draws for the vehicles of a simulation with one copy.

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
        # New vehicles, because SUMO's own remember what TraCI cannot take from them: whether they had to wait at the
        # next junction, when they entered the last, whether they braked. That would make an episode depend on the last.
        self._placements += 1
        self._ids[env] = [f"{env}.{i}.{self._placements}" for i in range(self._num_vehicles)]
        self._all_ids = [identity for copy in self._ids for identity in copy]
        places = zip(self._ids[env], self._speed_factors, lanes, offsets.tolist(), speeds.tolist(), strict=True)
        for identity, factor, lane, offset, speed in places:
            vehicle.add(identity, route, typeID="vehicle")
            vehicle.setSpeedFactor(identity, factor)
            vehicle.setSpeedMode(identity, self._speed_mode)
            vehicle.moveTo(identity, lane, offset)
            vehicle.setPreviousSpeed(identity, speed)

    def step(self, commands: Floats) -> Floats:
        """Drive one step of 0.1 s. Commanded speeds (E, M) in m/s in; the speeds (E, M) that SUMO made of them out."""
        set_speed, get_speed = self._sumo.vehicle.setSpeed, self._sumo.vehicle.getSpeed
        for identity, speed in zip(self._all_ids, commands.ravel().tolist(), strict=True):
            set_speed(identity, speed)
        self._sumo.simulationStep()
        speeds = np.fromiter(map(get_speed, self._all_ids), np.float64, len(self._all_ids))
        return speeds.reshape(self._num_envs, self._num_vehicles)

    def collided(self) -> Bools:
        """Which copies (E,) hold a collision at the end of the last step."""
        result = np.zeros(self._num_envs, dtype=np.bool_)
        for collision in self._sumo.simulation.getCollisions():
            result[int(collision.collider.split(".")[0])] = True
        return result

    def lane_length(self, lane: str) -> float:
        """Length of a lane in m."""
        return float(self._sumo.lane.getLength(lane))

    def next_lane(self, lane: str) -> tuple[str, str]:
        """The lane inside the junction at the end of ``lane``, and the lane behind it."""
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


def _command_line(net_file: Path, types: Path, driving: Driving) -> list[str]:
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
    words = ["sumo"]
    for name, value in options.items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words
