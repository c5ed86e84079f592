"""Classical controllers: what a learner has to beat, and how people drive."""

from envs.controllers import classical as classical
from envs.controllers.base import (
    Controller,
    ControllerParameters,
    Driver,
    Policy,
    constants,
    drivers,
    make,
    names,
    parameters,
    register,
    seated,
    suited,
)

__all__ = [
    "Controller",
    "ControllerParameters",
    "Driver",
    "Policy",
    "constants",
    "drivers",
    "make",
    "names",
    "parameters",
    "register",
    "seated",
    "suited",
]
