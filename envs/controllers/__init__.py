"""Classical controllers: baselines for learners, and drivers of the vehicles that do not learn."""

from envs.controllers import classical as classical
from envs.controllers.base import (
    ActionFunction,
    Controller,
    ControllerParameters,
    Driver,
    constants,
    drivers,
    make,
    make_driver,
    names,
    parameters,
    register,
    scenario_defaults,
)

__all__ = [
    "ActionFunction",
    "Controller",
    "ControllerParameters",
    "Driver",
    "constants",
    "drivers",
    "make",
    "make_driver",
    "names",
    "parameters",
    "register",
    "scenario_defaults",
]
