"""Roads and traffic of a user's own in SUMO, loaded anew for every episode, with agents in slots."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.sumo.simulation import STEP_SECONDS, Simulation, Vehicles, start_sumo, use_packaged_sumo
from envs.traffic import pieces
from envs.traffic.slots import AgentSelection, Slots
from envs.types import Floats, SimulationError

_OPTIONS = (
    "--time-to-teleport -1 --collision.action warn --collision.check-junctions true "
    "--route-steps 0 --no-warnings true --no-step-log true --xml-validation never"
)
_USUAL_LENGTH = 5.0  # m, of SUMO's passenger cars


@dataclass(frozen=True)
class Files:
    """Files of a network, of the traffic on it, and further ones."""

    network: Path
    routes: Path
    additional: tuple[Path, ...]

    def options(self) -> list[str]:
        """Options of SUMO's command line."""
        words = ["--net-file", str(self.network), "--route-files", str(self.routes)]
        words += ["--additional-files", ",".join(map(str, self.additional))] if self.additional else []
        return [*words, "--step-length", str(STEP_SECONDS), *_OPTIONS.split()]


class OwnRoads:
    """Simulation of a user's own roads; the only one of its process, because libsumo holds global state.

    Args:
        files: the user's files.
        agents: selection of the vehicles that are agents.
        speed_mode: SUMO's ``setSpeedMode`` for agents.
        warm_up_steps: steps that SUMO drives alone before an episode.
        target_speed: target speed of the reward pieces, in m/s.

    Attributes:
        slots: slots of the agents' vehicles.
        learning: the same vehicles, as pieces of observations and rewards read them.

    Raises:
        ValueError: SUMO refuses the files; the message holds SUMO's own words.
        SimulationError: SUMO did not start.
    """

    def __init__(
        self, files: Files, agents: AgentSelection, speed_mode: int, warm_up_steps: int, target_speed: float
    ) -> None:
        self._options, self._agents = files.options(), agents
        self._speed_mode, self._warm_up_steps, self._target_speed = speed_mode, warm_up_steps, target_speed
        _check(self._options)
        try:
            self._sumo = start_sumo(self._options, Simulation.window)
        except Exception as error:
            if type(error).__name__ not in ("TraCIException", "FatalTraCIError"):  # of a module not loaded before
                raise
            raise SimulationError(f"SUMO did not start with the network {files.network}: {error}") from error
        self.load(0)

    def load(self, seed: int) -> None:
        """Restart from time 0 with a seed of SUMO's, and drive the steps before an episode."""
        self._sumo.load([*self._options, "--seed", str(seed)])
        self.slots = Slots(self._agents)
        self.learning = pieces.AgentVehicles(self._sumo, self._target_speed)
        self.learning.update(self.slots.ids, ())
        for _ in range(self._warm_up_steps):
            self._step()

    def drive(self, acceleration: Floats) -> None:
        """Simulate 0.1 s under accelerations (N,) in m/s²; those of empty slots are ignored."""
        speed = np.maximum(self.learning.read("getSpeed") + acceleration * STEP_SECONDS, 0.0)
        for identity, target in zip(self.slots.ids, speed.tolist(), strict=True):
            if identity is not None:
                self._sumo.vehicle.setSpeed(identity, target)
        self._step()

    def _step(self) -> None:
        self._sumo.simulationStep()
        simulation = self._sumo.simulation
        entered, left = simulation.getDepartedIDList(), simulation.getArrivedIDList()
        for identity in self.slots.update(entered, left, self._sumo.vehicle.getTypeID):
            self._sumo.vehicle.setSpeedMode(identity, self._speed_mode)
        self.learning.update(self.slots.ids, simulation.getCollidingVehiclesIDList())

    def is_over(self) -> bool:
        """Whether no vehicle is on the road and none is to come."""
        return not self._sumo.simulation.getMinExpectedNumber()

    def lanes(self) -> list[str]:
        """Names of all lanes, those in junctions included."""
        return [str(lane) for lane in self._sumo.lane.getIDList()]

    def emissions(self) -> tuple[Floats, Floats]:
        """Fuel and CO2 (1, N) in mg/s of the last step, from the emission model of each vehicle's class."""
        return self.learning.read("getFuelConsumption")[None], self.learning.read("getCO2Emission")[None]

    def lengths(self, env: int) -> Floats:
        """Lengths (N,) in m of the agents' vehicles."""
        return self._lengths(self.slots.ids)

    def vehicles(self, env: int) -> Vehicles:
        """Places of the vehicles: agents in the order of their slots, then the others; NaN for empty slots."""
        vehicle, mine = self._sumo.vehicle, set(self.slots.ids)
        ids = [*self.slots.ids, *(identity for identity in vehicle.getIDList() if identity not in mine)]
        rows = np.full((4, len(ids)), np.nan)
        for k, identity in enumerate(ids):
            if identity is not None:
                # SUMO counts angles clockwise from north.
                heading = np.radians(90.0 - vehicle.getAngle(identity))
                rows[:, k] = *vehicle.getPosition(identity), heading, vehicle.getSpeed(identity)
        x, y, heading, speed = rows
        return Vehicles(x, y, heading, speed, self._lengths(ids))

    def _lengths(self, ids: Iterable[str | None]) -> Floats:
        length = self._sumo.vehicle.getLength
        return np.array([_USUAL_LENGTH if identity is None else length(identity) for identity in ids])

    def lane_shape(self, lane: str) -> Floats:
        """Points (P, 2) in m of the middle line of a lane."""
        return np.array(self._sumo.lane.getShape(lane))

    def close(self) -> None:
        """End SUMO."""
        self._sumo.close()


def _check(options: Sequence[str]) -> None:
    """Let SUMO's program read the files first: the library only prints its complaints, where they cannot be caught."""
    program = use_packaged_sumo() / "bin" / "sumo"
    result = subprocess.run([str(program), *options, "--end", "0"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ValueError(f"SUMO refuses the network or its traffic: {' '.join(result.stderr.split())}")
