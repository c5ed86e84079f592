"""Roads and traffic of the user's own: any SUMO network, closed loops or vehicles that enter and leave.

Every environment is a SUMO of its own, loaded anew for every episode. What was set on vehicles and signals of an
arbitrary network cannot be put back in its place, so a saved state is the episode's seed and all commands since it
began, and going on from it drives them again: SUMO does the same on the same, to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import gymnasium
import networkx as nx
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from envs.registry import register
from envs.scenario import MAX_HORIZON, ScenarioParameters, Spec
from envs.starts import StartField
from envs.sumo import road_files
from envs.sumo.simulation import STEP_SECONDS
from envs.traffic import pieces
from envs.traffic.own_roads import Files, OwnRoads
from envs.traffic.road_scenario import RoadScenario
from envs.traffic.slots import AgentSelection
from envs.types import Actions, Bools, Floats, State
from graphs.spelling import hint

_File = Annotated[str, Field(min_length=1, max_length=400)]
_Piece = Annotated[str, Field(min_length=1, max_length=100)]
_MAX_COMMANDS = 20_000_000
_MAX_SEED = 2**31 - 1  # of SUMO's
_STATE = ("speed", "position", "acceleration", "headway", "front_speed", "vehicle")


def _list_observations(schema: dict[str, Any]) -> None:
    schema["items"] = {"type": "string", "enum": pieces.observations.names()}


def _list_rewards(schema: dict[str, Any]) -> None:
    schema["propertyNames"] = {"enum": pieces.rewards.names()}


class SumoParameters(ScenarioParameters):
    """A SUMO network and traffic of your own; left out, a road with an on-ramp."""

    name: Literal["sumo"] = "sumo"
    horizon: int = Field(600, gt=0, le=MAX_HORIZON, description="Simulated steps of 0.1 s in an episode.")
    network: _File = Field(
        "merge.net.xml",
        description="File of the SUMO network, relative to the working directory, or one that comes with the package.",
    )
    routes: _File = Field(
        "merge.rou.xml",
        description="File of the routes, vehicles and flows on the network, found in the same way as the network.",
    )
    additional: tuple[_File, ...] = Field(
        (), description="Further SUMO files, for instance of vehicle types or traffic lights."
    )
    agents: AgentSelection = Field(AgentSelection(type="learner", count=8), description="Vehicles that learn.")
    observation: tuple[_Piece, ...] = Field(
        ("present", "speed", "gap", "relative_speed", "position"),
        min_length=1,
        max_length=100,
        description="Names of the pieces of an agent's observation, in their order.",
        json_schema_extra=_list_observations,
    )
    reward: dict[_Piece, float] = Field(
        {"speed_towards_target": 1.0, "acceleration_cost": -0.1},
        min_length=1,
        max_length=100,
        description="Weights of the pieces of an agent's reward, by name; costs have negative weights.",
        json_schema_extra=_list_rewards,
    )
    target_speed: float = Field(15.0, gt=0, le=100, description="Speed that the reward asks for, in m/s.")
    max_acceleration: float = Field(
        3.0, gt=0, le=20, description="Largest acceleration and deceleration of an action, in m/s²."
    )
    speed_mode: int = Field(
        31,
        ge=0,
        le=127,
        description="SUMO's setSpeedMode for agents: 31 keeps all its checks, 0 obeys every command.",
    )
    end_on_collision: bool = Field(True, description="Whether an agent's collision ends the episode.")
    warm_up_steps: int = Field(
        1,
        ge=0,
        le=MAX_HORIZON,
        description="Simulated steps of 0.1 s before an episode, in which SUMO drives every vehicle.",
    )
    starts: int = Field(
        4,
        ge=1,
        le=256,
        description="Number of reference starts that an evaluation goes through, which are SUMO's seeds 0, 1, ….",
    )

    @field_validator("network")
    @classmethod
    def _is_network(cls, name: str) -> str:
        road_files.edges(name)
        return name

    @field_validator("routes")
    @classmethod
    def _is_traffic(cls, name: str) -> str:
        road_files.demand([name])
        return name

    @field_validator("additional")
    @classmethod
    def _are_traffic(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        road_files.demand(names)
        return names

    @field_validator("observation")
    @classmethod
    def _known_observations(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        pieces.observations.check(names)
        return names

    @field_validator("reward")
    @classmethod
    def _known_rewards(cls, weights: dict[str, float]) -> dict[str, float]:
        pieces.rewards.check(weights)
        return weights

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        own = {"network", "routes", "agents"}
        if "network" in self.model_fields_set and not own <= self.model_fields_set:
            lacking = min(own - self.model_fields_set)
            raise ValueError(f"{lacking} must be given for network = '{self.network}': without it is the example's")
        demand = road_files.demand([self.routes, *self.additional])
        stranger = road_files.missing(demand.edges, edges := road_files.edges(self.network))
        if stranger is not None:
            raise ValueError(f"routes = '{self.routes}': traffic is sent over the edge '{stranger}', which network = "
                             f"'{self.network}' does not have{hint(stranger, edges)}")  # fmt: skip
        self._check_agents(demand)
        if self.horizon * self.agents.size > _MAX_COMMANDS:
            raise ValueError(f"horizon = {self.horizon:,} steps of {self.agents.size:,} agents are too many commands "
                             f"to keep for resuming; allowed: {_MAX_COMMANDS:,} in all")  # fmt: skip
        return self

    def _check_agents(self, demand: road_files.Demand) -> None:
        strangers = [identity for identity in self.agents.ids or () if not demand.has_vehicle(identity)]
        if strangers:
            known = sorted(demand.vehicles | {f"{flow}.0" for flow in demand.flows})
            raise ValueError(f"agents.ids: no vehicle '{strangers[0]}' enters{_choices(strangers[0], known)}")
        kind = self.agents.type
        if kind in demand.mixtures:
            raise ValueError(f"agents.type = '{kind}' is a distribution; name one of the types in it"
                             f"{_choices('', demand.types)}")  # fmt: skip
        if kind is not None and kind not in demand.types:
            raise ValueError(f"agents.type = '{kind}': there is no such vehicle type{_choices(kind, demand.types)}")


def _choices(name: str, known: Any) -> str:
    """The nearest of the known names, and the first of them all."""
    listed = sorted(known)
    more = ", …" if len(listed) > 10 else ""
    return f"{hint(name, listed)} (there are: {', '.join(listed[:10])}{more})"


@register("sumo")
class SumoNetwork(RoadScenario[SumoParameters]):
    """See :class:`SumoParameters`.

    Raises:
        ValueError: SUMO refuses the files; the message holds SUMO's own words.
    """

    Parameters = SumoParameters
    simulation: OwnRoads
    undriven_reward: ClassVar = 0.0  # as an empty slot
    one_env_a_process = True

    def __init__(self, parameters: SumoParameters, numbers: range, seed: int, folder: Path) -> None:
        super().__init__(parameters, numbers, seed, folder)
        if len(numbers) != 1:
            raise ValueError(f"{len(numbers)} environments in one process; libsumo simulates one network a process")
        self.simulation = OwnRoads(
            Files(
                road_files.find(parameters.network),
                road_files.find(parameters.routes),
                tuple(map(road_files.find, parameters.additional)),
            ),
            parameters.agents,
            parameters.speed_mode,
            parameters.warm_up_steps,
            parameters.target_speed,
        )
        self._sumo_seed = np.zeros(1, dtype=np.int64)
        self._commands = np.zeros((1, parameters.horizon, self.num_agents), dtype=np.float32)

    @classmethod
    def spec(cls, parameters: SumoParameters) -> Spec:
        """See :class:`~envs.scenario.Spec`; the graph is the cycle of slots, one entered after the other."""
        n, bound = parameters.agents.size, parameters.max_acceleration
        return Spec(
            num_entities=n,
            places=tuple(range(n)),
            graph=nx.cycle_graph(n) if n > 2 else nx.path_graph(n),
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (len(parameters.observation),), np.float32),
            action_space=gymnasium.spaces.Box(-bound, bound, (1,), np.float32),
            reference_starts=parameters.starts,
            state_names=cls._reported_names(_STATE, parameters),
            step_seconds=STEP_SECONDS,
            start={"seed": StartField(1)},
        )

    def _begin(self, env: int, start: State | None) -> None:
        if start is not None:
            seed = int(start["seed"][0]) % (_MAX_SEED + 1)
        else:
            reference = self.reference_start(env)
            seed = int(self.random[env].integers(_MAX_SEED)) if reference is None else reference
        self._load(seed)

    def _load(self, seed: int) -> None:
        self._sumo_seed[:], self._commands[:] = seed, 0.0
        self.simulation.load(seed)

    def _command(self, actions: Actions) -> Floats:
        return actions[..., 0]

    def _drive(self, acceleration: Floats) -> tuple[Floats, Bools, Bools]:
        bound, roads = self.parameters.max_acceleration, self.simulation
        # What is kept is what is driven, to the last bit.
        self._commands[0, self.clock[0]] = np.clip(acceleration[0], -bound, bound)
        roads.drive(self._commands[0, self.clock[0]].astype(np.float64))
        colliding = roads.learning.colliding
        # With nobody on the road and nobody to come there is nothing left to earn.
        ended = bool(colliding.any() and self.parameters.end_on_collision) or roads.is_over()
        reward = pieces.weighted(self.parameters.reward, roads.learning)
        return reward[None], np.array([ended]), colliding[None]

    def _add_emissions(self) -> None:
        super()._add_emissions()
        self._length[0] = self.simulation.lengths(0)

    def observe(self) -> Floats:
        """See :class:`~envs.traffic.road_scenario.RoadScenario`."""
        seen = [pieces.observations.read(name, self.simulation.learning) for name in self.parameters.observation]
        return np.stack(seen, axis=-1)[None]  # (E, N, D) with E = 1

    def state(self) -> dict[str, Floats]:
        """See :class:`~envs.scenario.Scenario`.

        ``position`` is what was driven since entering; ``vehicle`` tells vehicles that had the same slot apart, and is
        0 where it is empty, as ``speed`` is.
        """
        vehicles = self.simulation.learning
        rows = (
            vehicles.read("getSpeed"),
            vehicles.read("getDistance"),
            vehicles.read("getAcceleration"),
            vehicles.gap,
            vehicles.front_speed,
            np.array(self.simulation.slots.numbers, dtype=np.float64),
        )
        return {name: row[None] for name, row in zip(_STATE, rows, strict=True)}

    def _lane_names(self, env: int) -> list[str]:
        return self.simulation.lanes()

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything needed to go on; commands that are driven again lead exactly to where this simulation is."""
        return self._written_down()

    def _snapshot(self) -> dict[str, NDArray[Any]]:
        return {"sumo_seed": self._sumo_seed.copy(), "commands": self._commands.copy()}

    def _restore(self, env: int, snapshot: State) -> None:
        self._load(int(snapshot["sumo_seed"][env]))
        self._commands[:] = snapshot["commands"]
        for command in self._commands[env, : int(snapshot["clock"][env])]:
            self.simulation.drive(command.astype(np.float64))
