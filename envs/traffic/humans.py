"""Driving of the vehicles that do not learn: by SUMO, or by a classical controller with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from envs import controllers
from envs.controllers.acceleration_env import DriverSlots, Situation
from envs.selection import selection
from envs.sumo.simulation import STEP_SECONDS
from envs.types import Floats
from graphs.spelling import check_names

#: Stands instead of a controller's name for SUMO's own car-following model.
SUMO = "sumo"

# Steps whose noise is drawn at once: a call costs more than the numbers.
_BLOCK = 32

_Defaults = Mapping[str, Mapping[str, Any]]


def human_controllers() -> list[str]:
    """Names of the controllers that can drive humans in every scenario."""
    return controllers.drivers()


class HumanParameters(BaseModel):
    """Driving of the vehicles that do not learn."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    controller: str = Field(
        default="idm",
        description="Name of the classical controller that drives them, or sumo for SUMO's own car-following model.",
        json_schema_extra=lambda schema: schema.update(enum=[SUMO, *human_controllers()]),
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Parameters of the controller, where they differ from those it has in this scenario.",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        description="Size of the noise on a controller's acceleration: its standard deviation is this times √0.1 m/s².",
    )

    @field_validator("controller")
    @classmethod
    def _known_controller(cls, name: str) -> str:
        check_names("controller of humans", [name], [SUMO, *human_controllers()])
        return name

    @model_validator(mode="after")
    def _possible_parameters(self) -> Self:
        if self.controller != SUMO:
            self.controller_parameters({})
        elif self.parameters:
            raise ValueError(f"parameters = {self.parameters}: sumo has none; leave them out or choose a controller")
        return self

    def controller_parameters(self, scenario_defaults: _Defaults) -> Any:
        """All parameters of the controller, checked.

        Args:
            scenario_defaults: by controller, the parameters that the scenario sets to other values than the
                controller's own defaults.

        Raises:
            ValueError: the controller refuses them.
        """
        model = controllers.parameters(self.controller)
        known = [key for key in model.model_fields if key != "name"]
        try:
            check_names(f"parameter of {self.controller}", self.parameters, known)
            return model(**{**scenario_defaults.get(self.controller, {}), **self.parameters})
        except ValidationError as error:
            problem = error.errors()[0]
            given = f"{'.'.join(map(str, problem['loc']))} = {problem['input']!r}"
            raise ValueError(f"parameters: {given} of {self.controller}: {problem['msg']}") from None
        except ValueError as error:
            raise ValueError(f"parameters: {error}") from None


class Humans:
    """Drivers of H vehicles in each of E environments: a controller with noise.

    acceleration = controller(situation) + noise √0.1 N(0, 1), drawn from each environment's own random stream, so that
    the same seed gives the same drivers however the environments are spread. Source: Flow's ``BaseController``.

    Args:
        parameters: parameters of their driving, with another controller than ``SUMO``.
        scenario_defaults: as in ``HumanParameters.controller_parameters``.
        places: numbers (H,) of their vehicles.
        num_envs: E.
    """

    def __init__(
        self, parameters: HumanParameters, scenario_defaults: _Defaults, places: NDArray[np.int64], num_envs: int
    ) -> None:
        self._places, self._deviation = selection(places), parameters.noise * STEP_SECONDS**0.5
        slots = DriverSlots(num_envs, len(places), STEP_SECONDS)
        self._driver = controllers.make_driver(parameters.controller_parameters(scenario_defaults), slots)
        self._seconds = np.zeros((num_envs, len(places)))
        self._noise = np.zeros((num_envs, _BLOCK, len(places)))  # of the next steps
        self._used = _BLOCK  # of these

    def accelerations(
        self, state: Mapping[str, Floats], seconds: NDArray[Any], random: Sequence[np.random.Generator]
    ) -> Floats:
        """Commands (E, H) in m/s².

        Args:
            state: ``headway``, ``speed`` and ``front_speed`` of all M vehicles, each (E, M), in m and m/s.
            seconds: time (E,) in s since the episodes began.
            random: E generators; only noise is drawn from them, for several steps at once.
        """
        headway, speed, front = (state[name][:, self._places] for name in ("headway", "speed", "front_speed"))
        self._seconds[:] = seconds[:, None]
        command = self._driver.accelerations(Situation(headway, speed, front, self._seconds))
        if self._deviation:
            command = command + self._next_noise(random)
        return command

    def _next_noise(self, random: Sequence[np.random.Generator]) -> Floats:
        # (E, H)
        if self._used == _BLOCK:
            for block, generator in zip(self._noise, random, strict=True):
                generator.standard_normal(out=block)
            self._noise *= self._deviation
            self._used = 0
        self._used += 1
        return self._noise[:, self._used - 1]

    def draw_anew(self) -> None:
        """Discard the noise that is drawn ahead, because the generators have changed or it is not in a saved state."""
        self._used = _BLOCK

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Memory of the controller, arrays (E, …)."""
        return self._driver.get_state()

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the memory that ``get_state`` returned."""
        self._driver.set_state(state)
