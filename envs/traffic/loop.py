"""Closed loops with vehicles one behind the other: the common part of the ring and the figure eight.

Speeds are SUMO's. Positions are their sum, x += 0.1 v, which is SUMO's own Euler step: reading them back would cost a
third more and add nothing (a test compares the two).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import gymnasium
import networkx as nx
import numpy as np
from pydantic import Field, field_validator

from envs.scenario import Spec
from envs.starts import StartField
from envs.sumo.lanes import Lanes, Places
from envs.sumo.simulation import STEP_SECONDS, Driving, Network, OtherVehicles, Simulation
from envs.traffic.fleet import Fleet, FleetParameters
from envs.traffic.humans import SUMO, HumanParameters
from envs.traffic.observations import Observations
from envs.types import Actions, Bools, Floats, State

VEHICLE_LENGTH = 5.0
SPEED_LIMIT = 30.0


@dataclass(frozen=True)
class Traffic:
    """State of the vehicles on loops, from which observations are made; speeds in m/s, lengths in m, each (E, M).

    Attributes:
        speed: own speed.
        position: position along the loop, as the published environment counts it.
        driven: position along the loop, as it is driven.
        loop_length: length of the loop, (E, 1).
        gap: free road to the vehicle in front.
        relative_speed: speed of the vehicle in front minus the own speed.
    """

    speed: Floats
    position: Floats
    driven: Floats
    loop_length: Floats
    gap: Floats
    relative_speed: Floats


#: ``@observations.register("my_own", size=3)`` adds one.
observations: Observations[Traffic] = Observations()


@observations.register("published", size=2)
def _published(traffic: Traffic) -> Floats:
    return np.stack([traffic.speed / SPEED_LIMIT, traffic.position / traffic.loop_length], axis=-1)


@observations.register("relative", size=5)
def _relative(traffic: Traffic) -> Floats:
    phase = 2 * np.pi * traffic.position / traffic.loop_length
    # With a gap of 90 m or more the road is free.
    gap = np.minimum(traffic.gap, 90.0) / 30.0
    return np.stack([traffic.speed / 10.0, np.sin(phase), np.cos(phase), gap, traffic.relative_speed / 10.0], axis=-1)


@observations.register("relative_harmonics", size=11)
def relative_harmonics(traffic: Traffic) -> Floats:
    """``relative`` with three higher harmonics of the phase, (E, M, 11)."""
    phase = 2 * np.pi * traffic.position / traffic.loop_length
    waves = [wave(k * phase) for k in (2, 3, 4) for wave in (np.sin, np.cos)]
    return np.concatenate([_relative(traffic), np.stack(waves, axis=-1)], axis=-1)


class LoopHumans(HumanParameters):
    """Driving of the vehicles that do not learn on a loop.

    SUMO's car-following model caps their commands, as it does those of learners.
    """

    noise: float = Field(default=0.2, ge=0, description=HumanParameters.model_fields["noise"].description)
    min_gap: float = Field(default=2.5, ge=0, description="Their minGap in SUMO, in m.")
    deceleration: float = Field(default=4.5, gt=0, description="Their decel in SUMO, in m/s².")


class LoopParameters(FleetParameters):
    """Parameters of the loops."""

    known_observations: ClassVar[Observations[Traffic]] = observations

    observation: str = Field(
        "published",
        description="Name of the observation of an agent's own state.",
        json_schema_extra=observations.list_in,
    )
    min_gap: float = Field(2.5, ge=0, description="Standing gap of the car-following model (SUMO's minGap), in m.")
    target_speed: float = Field(20.0, gt=0, description="Speed that the reward asks for, in m/s.")
    humans: LoopHumans = Field(default_factory=LoopHumans, description="Driving of the vehicles that do not learn.")

    @property
    def room(self) -> float:
        """Length in m that all vehicles need to stand one behind the other."""
        gaps = len(self.places) * self.min_gap + len(self.human_places) * self.humans.min_gap
        return self.num_vehicles * VEHICLE_LENGTH + gaps

    @field_validator("observation")
    @classmethod
    def _known_observation(cls, name: str) -> str:
        return cls.known_observations.check(name)


P = TypeVar("P", bound=LoopParameters)


class Loop(Fleet[P]):
    """Scenario of vehicles on E loops; vehicle i + 1 drives in front of vehicle i.

    A loop may come in several lengths, side by side in the network; an episode chooses one of them.
    """

    simulation: Simulation
    undriven_reward: ClassVar = 0.0  # as a vehicle at rest that does not accelerate
    edges: ClassVar[tuple[str, ...]]
    max_acceleration: ClassVar[float]
    state_names: ClassVar = ("speed", "position", "acceleration", "headway", "front_speed")

    def __init__(self, parameters: P, numbers: range, seed: int, folder: Path) -> None:
        super().__init__(parameters, numbers, seed, folder)
        driving, others = _driving(parameters.min_gap), _others(parameters)
        self.simulation = Simulation(self._network(folder), self.num_envs, self.num_vehicles, driving, others)
        self._lanes: dict[tuple[int, int], Lanes] = {}
        self._min_gap = np.full(self.num_vehicles, parameters.humans.min_gap)
        # The action space limits learners; a human may brake as hard as its controller wants.
        self._bound = np.full(self.num_vehicles, np.inf)
        self._min_gap[self.places], self._bound[self.places] = parameters.min_gap, self.max_acceleration
        shape = (self.num_envs, self.num_vehicles)
        self.speed, self.position, self.acceleration = np.zeros((3, *shape))
        self.variant = np.zeros(self.num_envs, dtype=np.int64)
        self.loop_length = np.ones((self.num_envs, 1))
        self._placed = np.ones(self.num_envs, dtype=np.bool_)
        self._ahead: tuple[Floats, Floats] | None = None
        self._others_commanded = False

    @classmethod
    def spec(cls, parameters: P) -> Spec:
        """See :class:`~envs.scenario.Spec`; the graph is the cycle of the learners in the order of driving."""
        m, n, bound = parameters.num_vehicles, len(parameters.places), cls.max_acceleration
        size = parameters.known_observations.size(parameters.observation)
        return Spec(
            num_entities=m,
            places=tuple(parameters.places.tolist()),
            graph=nx.cycle_graph(n) if n > 2 else nx.path_graph(n),
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32),
            action_space=gymnasium.spaces.Box(-bound, bound, (1,), np.float32),
            reference_starts=cls._reference_starts(parameters),
            state_names=cls._reported_names(cls.state_names, parameters),
            step_seconds=STEP_SECONDS,
            start={"edge": StartField(m, cls.edges), "offset": StartField(m), "speed": StartField(m)},
        )

    @classmethod
    @abstractmethod
    def _reference_starts(cls, parameters: P) -> int: ...

    @abstractmethod
    def _network(self, folder: Path) -> Network:
        """Network of the E loops in every variant; a route round a loop has the name of the loop's first edge."""

    @abstractmethod
    def _edge(self, name: str, variant: int, env: int) -> str:
        """SUMO's name of an edge of one loop."""

    @abstractmethod
    def _choose_variant(self, env: int) -> int: ...

    @abstractmethod
    def _start_places(self, lanes: Lanes, variant: int) -> Places:
        """Places of the M vehicles at the start."""

    @abstractmethod
    def _reward(self, acceleration: Floats) -> Floats:
        """Reward (E, M) for the commanded accelerations and the speeds that they led to."""

    def _published_position(self) -> Floats:
        return self.position

    def _begin(self, env: int, start: State | None) -> None:
        variant = self._choose_variant(env)
        lanes = self._lanes_of(env, variant)
        if start is None:
            places, speed = self._start_places(lanes, variant), np.zeros(self.num_vehicles)
        else:
            roads = [self.edges.index(edge) for edge in start["edge"]]
            places, speed = lanes.on_roads(roads, start["offset"]), start["speed"]
        self._put(env, variant, places, speed)
        self.acceleration[env] = 0.0

    def _put(self, env: int, variant: int, places: Places, speed: Floats) -> None:
        lanes = self._lanes_of(env, variant)
        names = [lanes.names[k] for k in places.lane]
        self.simulation.place(env, self._edge(self.edges[0], variant, env), names, places.offset, speed)
        self.variant[env], self.loop_length[env] = variant, lanes.length
        self.position[env], self.speed[env] = lanes.starts[places.lane] + places.offset, speed
        self._placed[env], self._ahead, self._others_commanded = True, None, False

    def _lanes_of(self, env: int, variant: int) -> Lanes:
        key = (env, variant)
        if key not in self._lanes:
            self._lanes[key] = Lanes.walk(self.simulation, self._edge(self.edges[0], variant, env))
        return self._lanes[key]

    def _command(self, actions: Actions) -> Floats:
        return actions[..., 0]

    def prepare(self) -> None:
        """Let the humans decide, and pass their commands to SUMO."""
        super().prepare()
        if self._decisions is not None and not self._others_commanded:
            self.simulation.command_others(_next_speed(self.speed[:, self._others], self._decisions))
            self._others_commanded = True

    def _drive(self, acceleration: Floats) -> tuple[Floats, Bools, Bools]:
        command = np.minimum(np.maximum(acceleration, -self._bound), self._bound)
        overlapping = self._overlapping() if self._placed.any() else np.zeros_like(self.speed, dtype=np.bool_)
        speed = self.simulation.step(_next_speed(self.speed, command))
        self.acceleration[:] = (speed - self.speed) / STEP_SECONDS
        self.speed[:] = speed
        self.position += speed * STEP_SECONDS
        self.position -= self.loop_length * (self.position >= self.loop_length)
        self._ahead, self._others_commanded = None, False
        # SUMO looks for collisions on the lanes that were in use before a step. Right after vehicles were placed these
        # are the lanes of the episode before, and the result would depend on it.
        collided: Bools = np.where(self._placed[:, None], overlapping, self.simulation.collided())
        self._placed[:] = False
        return self._reward(command), np.logical_or.reduce(collided, axis=1), collided

    def _overlapping(self) -> Bools:
        """Vehicles (E, M), both of a pair, that are closer than SUMO allows IDM vehicles, a tenth of minGap."""
        order = np.argsort(self.position, axis=1)
        position = np.take_along_axis(self.position, order, axis=1)
        ahead = np.diff(position, append=position[:, :1] + self.loop_length, axis=1)
        close = ahead < VEHICLE_LENGTH + 0.1 * self._min_gap[order]
        found = np.empty_like(close)
        # The next in order is the one that each is too close to; the last one's is the first.
        np.put_along_axis(found, order, close | np.roll(close, 1, axis=1), axis=1)
        return found

    def observe(self) -> Floats:
        """See :class:`~envs.traffic.road_scenario.RoadScenario`."""
        parameters = self.parameters
        return parameters.known_observations.observe(parameters.observation, self.traffic())

    def traffic(self) -> Traffic:
        """The present state, for observations."""
        headway, front_speed = self._look_ahead()
        return Traffic(
            speed=self.speed,
            position=self._published_position(),
            driven=self.position,
            loop_length=self.loop_length,
            gap=headway,
            relative_speed=front_speed - self.speed,
        )

    def _look_ahead(self) -> tuple[Floats, Floats]:
        """Free road to the vehicle in front and that one's speed, each (E, M); computed once for every state."""
        if self._ahead is None:
            gap = (_in_front(self.position) - self.position - VEHICLE_LENGTH) % self.loop_length
            # Vehicles that overlap are not a loop apart.
            gap -= self.loop_length * (gap > self.loop_length - VEHICLE_LENGTH)
            self._ahead = gap, _in_front(self.speed)
        return self._ahead

    def state(self) -> dict[str, Floats]:
        """See :class:`~envs.traffic.road_scenario.RoadScenario`."""
        headway, front_speed = self._look_ahead()
        return {
            "speed": self.speed,
            "position": self.position,
            "acceleration": self.acceleration,
            "headway": headway,
            "front_speed": front_speed,
        }

    def _lane_names(self, env: int) -> Sequence[str]:
        return self._lanes_of(env, int(self.variant[env])).names

    def _snapshot(self) -> dict[str, Any]:
        return {name: getattr(self, name).copy() for name in ("variant", "speed", "position", "acceleration")}

    def _restore(self, env: int, snapshot: State) -> None:
        variant = int(snapshot["variant"][env])
        places = self._lanes_of(env, variant).locate(snapshot["position"][env])
        self._put(env, variant, places, snapshot["speed"][env])
        self.acceleration[env] = snapshot["acceleration"][env]


def _in_front(rows: Floats) -> Floats:
    """Values (E, M) of the vehicle in front of each vehicle, from the values (E, M) of all."""
    found = np.empty_like(rows)
    found[:, :-1], found[:, -1] = rows[:, 1:], rows[:, 0]
    return found


def _next_speed(speed: Floats, acceleration: Floats) -> Floats:
    return np.maximum(speed + acceleration * STEP_SECONDS, 0.0)


def laps(edges: Sequence[str], lap_length: float, horizon: int) -> list[str]:
    """Edges of a route round a loop whose end no episode of ``horizon`` steps reaches."""
    # SUMO looks 3,000 m ahead along the route; the end must stay out of sight at the speed limit.
    meters = horizon * STEP_SECONDS * SPEED_LIMIT + 3000.0
    return list(edges) * (int(meters / lap_length) + 2)


def _others(parameters: LoopParameters) -> OtherVehicles:
    """The humans as vehicles of another kind in SUMO."""
    humans = parameters.humans
    vehicle_type = {"minGap": str(humans.min_gap), "decel": str(humans.deceleration)}
    return OtherVehicles(parameters.human_places.tolist(), vehicle_type, humans.controller == SUMO)


def _driving(min_gap: float) -> Driving:
    return Driving(
        vehicle_type={
            "carFollowModel": "IDM",
            "length": str(VEHICLE_LENGTH),
            "accel": "2.6",
            "decel": "4.5",
            "tau": "1",
            "minGap": str(min_gap),
            "maxSpeed": str(SPEED_LIMIT),
            "speedFactor": "1",
            "speedDev": "0.1",
            "impatience": "0.5",
        },
        # Obey the safe speed: the car-following model caps what a learner commands.
        speed_mode=1,
    )
