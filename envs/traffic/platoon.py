"""Platoons under cooperative adaptive cruise control: vehicles follow a leader that drives a given profile.

Source: DMPO paper, appendix A; numbers from deeprl_network (Chu et al., 2020). SUMO's ballistic step is that
environment's trapezoid rule, so positions and headways are summed by it from SUMO's speeds.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import gymnasium
import networkx as nx
import numpy as np
from pydantic import Field, field_validator

from envs.controllers.car_following import MAX_SPEED, optimal_velocity, optimal_velocity_model
from envs.registry import register
from envs.scenario import MAX_HORIZON, Spec
from envs.starts import StartField
from envs.sumo.road_network import Edge, Junction, write_network
from envs.sumo.simulation import STEP_SECONDS, Driving, Network, Simulation
from envs.traffic.fleet import Fleet, FleetParameters
from envs.traffic.humans import SUMO, HumanParameters, human_controllers
from envs.traffic.observations import Observations
from envs.types import Actions, Bools, Floats, State

TARGET_HEADWAY, TARGET_SPEED = 20.0, 15.0
MAX_ACCELERATION = 2.5
COLLISION_HEADWAY, COLLISION_REWARD = 1.0, -1000.0
UNSAFE_HEADWAY, UNSAFE_WEIGHT = 10.0, 5.0
#: Gains (alpha, beta) of the four actions.
GAINS = np.array([(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
SLOWDOWN_STEPS = 300
REFERENCE_STARTS = 20
_VEHICLE_LENGTH = 5.0
# No vehicle may be slowed by the lane; the fastest start at 2.5 times the target speed.
_LANE_SPEED = 50.0


@dataclass(frozen=True)
class Platoon:
    """State of the vehicles of platoons, from which observations are made; each (E, M).

    Attributes:
        headway: free road to the vehicle in front, in m.
        speed: own speed, in m/s.
        front_speed: speed of the vehicle in front, in m/s.
        acceleration: own acceleration in the last step, in m/s².
    """

    headway: Floats
    speed: Floats
    front_speed: Floats
    acceleration: Floats


#: ``@observations.register("my_own", size=3)`` adds one.
observations: Observations[Platoon] = Observations()


@observations.register("published", size=5)
def _published(platoon: Platoon) -> Floats:
    closing = platoon.front_speed - platoon.speed
    wanted = optimal_velocity(platoon.headway) - platoon.speed
    return np.stack(
        [
            (platoon.speed - TARGET_SPEED) / TARGET_SPEED,
            np.clip(closing / 5.0, -2.0, 2.0),
            np.clip(wanted / 5.0, -2.0, 2.0),
            (platoon.headway + closing * STEP_SECONDS - TARGET_HEADWAY) / TARGET_HEADWAY,
            platoon.acceleration / MAX_ACCELERATION,
        ],
        axis=-1,
    )


class PlatoonHumans(HumanParameters):
    """Driving of the vehicles that do not learn in a platoon: by default the law whose gains learners choose."""

    controller: str = Field(
        default="ovm",
        description="Name of the classical controller that drives them.",
        json_schema_extra=lambda schema: schema.update(enum=[*human_controllers()]),
    )

    @field_validator("controller")
    @classmethod
    def _not_sumo(cls, name: str) -> str:
        if name == SUMO:
            raise ValueError(
                "sumo drives nobody in a platoon, whose dynamics are the scenario's own; there are: "
                + ", ".join(human_controllers())
            )
        return name


class PlatoonParameters(FleetParameters):
    """Parameters of the platoons."""

    num_vehicles: int = Field(8, gt=0, le=1_000, description="Vehicles behind the leader.")
    humans: PlatoonHumans = Field(
        default_factory=PlatoonHumans, description="Driving of the followers that do not learn."
    )
    horizon: int = Field(600, gt=0, le=MAX_HORIZON, description="Simulated steps of 0.1 s in an episode.")
    observation: str = Field(
        "published",
        description="Name of the observation of an agent's own state.",
        json_schema_extra=observations.list_in,
    )
    target_speed: Literal["profile", "final"] = Field(
        "profile",
        description="Speed that the reward asks for: the leader's at the time (profile) or its last, 15 m/s (final).",
    )
    collision_steps: int | None = Field(
        None,
        gt=0,
        le=10_000,
        description="Steps that a collision costs in training. With a number, the episode ends and every agent pays "
        "1000 for each of so many steps at once; with null, the platoon stands still and every agent pays 1000 a "
        "step to the end of the episode.",
    )

    @field_validator("observation")
    @classmethod
    def _known_observation(cls, name: str) -> str:
        return observations.check(name)


P = TypeVar("P", bound=PlatoonParameters)


class PlatoonScenario(Fleet[P]):
    """Scenario of E platoons, each on a straight road; vehicle 0 follows the leader, vehicle i + 1 follows i."""

    simulation: Simulation
    constant_actions: ClassVar = {f"constant ({a:g}, {b:g})": k for k, (a, b) in enumerate(GAINS.tolist())}
    state_names: ClassVar = ("speed", "position", "acceleration", "headway", "front_speed", "leader_speed")
    followers: ClassVar = slice(1, None)  # vehicle 0 is the leader

    def __init__(self, parameters: P, numbers: range, seed: int, folder: Path) -> None:
        super().__init__(parameters, numbers, seed, folder)
        self.simulation = Simulation(self._network(folder), self.num_envs, self.num_vehicles + 1, _DRIVING)
        shape = (self.num_envs, self.num_vehicles)
        self.speed, self.headway, self.acceleration = np.zeros((3, *shape))
        self.leader_position = np.zeros(self.num_envs)
        self.profile = np.zeros((self.num_envs, parameters.horizon + 1))
        self.collided, self._standing = np.zeros((2, self.num_envs), dtype=np.bool_)

    @classmethod
    def spec(cls, parameters: P) -> Spec:
        """See :class:`~envs.scenario.Spec`; the graph is the path of the learners in the order of driving."""
        n, size = len(parameters.places), observations.size(parameters.observation)
        return Spec(
            num_entities=parameters.num_vehicles,
            places=tuple(parameters.places.tolist()),
            graph=nx.path_graph(n),
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32),
            action_space=gymnasium.spaces.Discrete(len(GAINS)),
            reference_starts=REFERENCE_STARTS,
            state_names=cls._reported_names(cls.state_names, parameters),
            step_seconds=STEP_SECONDS,
            start={
                "headway": StartField(parameters.num_vehicles),
                "speed": StartField(parameters.num_vehicles),
                "leader_speed": StartField(parameters.horizon + 1),
            },
        )

    @abstractmethod
    def _start(self, factor: float) -> tuple[Floats, Floats, Floats]:
        """Headways (M,) in m, speeds (M,) and leader speeds (T+1,) in m/s for a start factor in [1.5, 2.5)."""

    def _network(self, folder: Path) -> Network:
        junctions: list[Junction] = []
        edges: list[Edge] = []
        road = self._start_room() + self.parameters.horizon * STEP_SECONDS * _LANE_SPEED + 100.0
        for env in range(self.num_envs):
            junctions += [Junction(f"start.{env}", 0.0, 0.0), Junction(f"end.{env}", road, 0.0)]
            edges.append(Edge(f"road.{env}", f"start.{env}", f"end.{env}", road, _LANE_SPEED))
        return Network(write_network(folder, junctions, edges), {edge.id: [edge.id] for edge in edges})

    def _start_room(self) -> float:
        """Length in m of the road behind the leader's start, for the longest platoon."""
        return 100.0 + self.num_vehicles * (5 * TARGET_HEADWAY + _VEHICLE_LENGTH)

    def _begin(self, env: int, start: State | None) -> None:
        if start is None:
            reference = self.reference_start(env)
            draw = self.random[env].random() if reference is None else (reference + 0.5) / REFERENCE_STARTS
            headway, speed, profile = self._start(1.5 + draw)
        else:
            headway, speed, profile = start["headway"], start["speed"], start["leader_speed"]
        self.profile[env] = profile
        self._put(env, headway, speed, self._start_room(), float(profile[0]))
        self.acceleration[env], self.collided[env], self._standing[env] = 0.0, False, False

    def _put(self, env: int, headway: Floats, speed: Floats, leader_position: float, leader_speed: float) -> None:
        self.headway[env], self.speed[env], self.leader_position[env] = headway, speed, leader_position
        fronts = np.concatenate([[leader_position], self._positions()[env]])
        if fronts[-1] < 0:
            raise ValueError(
                f"headway = {headway.tolist()}: the platoon is longer than the {leader_position:g} m of road behind "
                "its leader; start with smaller headways"
            )
        road = f"road.{env}"
        speeds = np.concatenate([[leader_speed], speed])
        self.simulation.place(env, road, [f"{road}_0"] * len(fronts), fronts, speeds)

    def _positions(self) -> Floats:
        return self.leader_position[:, None] - np.cumsum(self.headway + _VEHICLE_LENGTH, axis=1)

    def _command(self, actions: Actions) -> Floats:
        alpha, beta = np.moveaxis(GAINS[actions], -1, 0)
        headway, speed, front = map(self.of_agents, (self.headway, self.speed, self._front_speed()))
        return optimal_velocity_model(optimal_velocity(headway), speed, front, alpha, beta)

    def _simulate(self, commands: Iterable[Floats]) -> None:
        # A step in which a platoon collides reports the moment of the collision; from the next one on it stands still.
        self._standing[:] = self.collided
        super()._simulate(commands)

    def _drive(self, acceleration: Floats) -> tuple[Floats, Bools, Bools]:
        leader, next_leader = self._leader_speed(), self._leader_speed(later=1)
        front = self._front_speed()
        change = STEP_SECONDS * np.clip(acceleration, -MAX_ACCELERATION, MAX_ACCELERATION)
        command = np.clip(self.speed + change, 0.0, MAX_SPEED)
        speed = self._obeyed(next_leader, command)
        headway = self.headway + 0.5 * STEP_SECONDS * (front + _behind(next_leader, speed) - self.speed - speed)
        going = ~self.collided
        self.leader_position[going] += (0.5 * STEP_SECONDS * (leader + next_leader))[going]
        self.acceleration[going] = ((speed - self.speed) / STEP_SECONDS)[going]
        self.speed[going], self.headway[going] = speed[going], headway[going]
        close = self.headway < COLLISION_HEADWAY
        self.collided |= close.any(axis=1)
        reward, charge = self._reward(next_leader), self.parameters.collision_steps
        if charge is None or self.parameters.mode == "evaluate":
            return reward, np.zeros_like(self.collided), close
        return np.where(self.collided[:, None], charge * COLLISION_REWARD, reward), self.collided, close

    def _leader_speed(self, later: int = 0) -> Floats:
        """The leader's speed (E,), now or some simulated steps later."""
        return self.profile[np.arange(self.num_envs), self.clock + later]

    def _front_speed(self) -> Floats:
        return _behind(self._leader_speed(), self.speed)

    def _obeyed(self, leader: Floats, command: Floats) -> Floats:
        """Speeds (E, M) that SUMO gives the followers; a collided platoon stands still."""
        speeds = np.concatenate([leader[:, None], command], axis=1)
        return self.simulation.step(np.where(self.collided[:, None], 0.0, speeds))[:, 1:]

    def _reward(self, leader: Floats) -> Floats:
        target = leader[:, None] if self.parameters.target_speed == "profile" else TARGET_SPEED
        reward = -((self.headway - TARGET_HEADWAY) ** 2) - (self.speed - target) ** 2 - 0.1 * self.acceleration**2
        if self.parameters.mode == "train":
            reward -= UNSAFE_WEIGHT * np.minimum(self.headway - UNSAFE_HEADWAY, 0.0) ** 2
        return np.where(self.collided[:, None], COLLISION_REWARD, reward)

    def observe(self) -> Floats:
        """See :class:`~envs.traffic.road_scenario.RoadScenario`."""
        return observations.observe(
            self.parameters.observation, Platoon(self.headway, self.speed, self._front_speed(), self.acceleration)
        )

    def state(self) -> dict[str, Floats]:
        """See :class:`~envs.traffic.road_scenario.RoadScenario`; speeds are 0 in the steps after a collision."""
        moves = ~self._standing[:, None]  # (E, 1)
        return {
            "speed": self.speed * moves,
            "position": self._positions(),
            "acceleration": self.acceleration * moves,
            "headway": self.headway,
            "front_speed": self._front_speed() * moves,
            "leader_speed": np.broadcast_to(self._leader_speed()[:, None] * moves, self.speed.shape),
        }

    def _lane_names(self, env: int) -> Sequence[str]:
        return [f"road.{env}_0"]

    def _snapshot(self) -> dict[str, Any]:
        names = ("headway", "speed", "acceleration", "leader_position", "profile", "collided")
        return {name: getattr(self, name).copy() for name in names}

    def _restore(self, env: int, snapshot: State) -> None:
        for name in ("acceleration", "profile", "collided"):
            getattr(self, name)[env] = snapshot[name][env]
        self._standing[env] = self.collided[env]
        leader = float(self.profile[env, self.clock[env]])
        self._put(env, snapshot["headway"][env], snapshot["speed"][env], snapshot["leader_position"][env], leader)


class CatchupParameters(PlatoonParameters):
    """CACC Catch-up: a platoon whose first vehicle starts 1.5 to 2.5 times too far behind the leader."""

    name: Literal["cacc_catchup"] = "cacc_catchup"


@register("cacc_catchup")
class Catchup(PlatoonScenario[CatchupParameters]):
    """See :class:`CatchupParameters`. All vehicles start at the target speed."""

    Parameters = CatchupParameters

    def _start(self, factor: float) -> tuple[Floats, Floats, Floats]:
        headway = np.full(self.num_vehicles, TARGET_HEADWAY)
        headway[0] *= factor
        speed = np.full(self.num_vehicles, TARGET_SPEED)
        return headway, speed, np.full(self.parameters.horizon + 1, TARGET_SPEED)


class SlowdownParameters(PlatoonParameters):
    """CACC Slow-down: a platoon that starts 1.5 to 2.5 times too fast, behind a leader that slows to 15 m/s."""

    name: Literal["cacc_slowdown"] = "cacc_slowdown"


@register("cacc_slowdown")
class Slowdown(PlatoonScenario[SlowdownParameters]):
    """See :class:`SlowdownParameters`. The leader is at the target speed within 30 s."""

    Parameters = SlowdownParameters

    def _start(self, factor: float) -> tuple[Floats, Floats, Floats]:
        first = TARGET_SPEED * factor
        falling = np.linspace(first, TARGET_SPEED, SLOWDOWN_STEPS)
        steps = self.parameters.horizon + 1
        profile = np.concatenate([falling, np.full(max(steps - SLOWDOWN_STEPS, 0), TARGET_SPEED)])[:steps]
        return np.full(self.num_vehicles, TARGET_HEADWAY), np.full(self.num_vehicles, first), profile


def _behind(leader: Floats, speed: Floats) -> Floats:
    """Speed (E, M) of the vehicle in front of each, from the leader's (E,) and the followers' (E, M)."""
    return np.concatenate([leader[:, None], speed[:, :-1]], axis=1)


_DRIVING = Driving(
    vehicle_type={
        "length": str(_VEHICLE_LENGTH),
        "maxSpeed": str(_LANE_SPEED),
        "minGap": "0",
        "speedFactor": "1",
        "speedDev": "0",
    },
    # Every command is obeyed: the scenario has its own limits and its own collisions.
    speed_mode=0,
    ballistic=True,
    report_collisions=False,
)
