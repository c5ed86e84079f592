"""Controllers: policies that are programmed rather than learned.

    controller = controllers.make("idm", env, time_gap=1.2)
    found = dmpo.evaluate(controller.env, controller)

Those that come with the package are in ``envs/controllers/classical.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from envs import plugins
from envs.controllers.acceleration_env import AccelerationEnv, DriverSlots, Situation
from envs.registry import scenario
from envs.types import Floats
from envs.vector.vector_env import VectorEnv
from graphs.registration import Registry
from graphs.spelling import check_names

#: Function from observations (E, N, D) to actions.
ActionFunction = Callable[[NDArray[Any]], NDArray[Any]]


class ControllerParameters(BaseModel):
    """Parameters of every controller."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(description="Name of the controller: a Literal in every class that is registered.")


P = TypeVar("P", bound=ControllerParameters)


class Controller(ABC, Generic[P]):
    """Programmed policy for all agents of an environment, from observations (E, N, D) to actions.

    Args:
        parameters: an instance of the class's ``Parameters``.
        env: the environment.

    Attributes:
        env: the environment as this controller observes and drives it.
    """

    Parameters: ClassVar[type[ControllerParameters]]

    def __init__(self, parameters: P, env: VectorEnv) -> None:
        self.parameters = parameters
        self.env: VectorEnv | AccelerationEnv = env

    @abstractmethod
    def __call__(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions for observations of ``self.env``."""


class Driver(Controller[P]):
    """Controller that commands accelerations every 0.1 s.

    On the loops a learner does so as well. In the platoons a learner cannot: it chooses among four pairs of gains.
    A driver can also command the vehicles that do not learn.

    Args:
        parameters: an instance of the class's ``Parameters``.
        env: the environment; or slots for the vehicles that do not learn, with which the driver has no ``env``.
    """

    def __init__(self, parameters: P, env: VectorEnv | DriverSlots) -> None:
        self.parameters, self.step_seconds = parameters, env.step_seconds
        self.law = parameters.model_dump(exclude={"name"})  # kept, because it is needed ten times a second
        if not isinstance(env, DriverSlots):
            self.env = AccelerationEnv(env)

    def __call__(self, observations: NDArray[Any]) -> Floats:
        """See :class:`Controller`."""
        return self.accelerations(Situation(*np.moveaxis(observations, -1, 0)))

    @abstractmethod
    def accelerations(self, situation: Situation) -> Floats:
        """Commands (E, N) in m/s², which the scenario clips to what its vehicles can do."""

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Memory from one command to the next, arrays (E, …); empty, unless a subclass has some."""
        return {}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the memory that ``get_state`` returned."""


_controllers: Registry[type[Controller[Any]]] = Registry("controller", ControllerParameters, modules=plugins.MODULES)

#: Class decorator: ``@controllers.register("mine")`` makes a controller known for ``controllers.make("mine", env)`` and
#: for ``controller.name=mine`` on the command line. The class has an attribute ``Parameters``, a subclass of
#: ``ControllerParameters`` whose field ``name`` is ``Literal["mine"] = "mine"``. A name that is taken, or parameters
#: that do not say it, raise a ValueError.
register = _controllers.register


def names() -> list[str]:
    """Names of all controllers in alphabetical order."""
    return _controllers.names()


def drivers() -> list[str]:
    """Names of the controllers that command accelerations, in alphabetical order."""
    return [name for name in names() if issubclass(_controllers.get(name), Driver)]


def parameters(name: str) -> type[ControllerParameters]:
    """The pydantic model of a controller's parameters, ``name`` among its fields.

    Raises:
        ValueError: there is no such controller; the message names those there are.
    """
    return _controllers.get(name).Parameters


def make(name: str, env: VectorEnv, **changed: Any) -> Controller[Any]:
    """A controller of an environment.

    Args:
        name: the controller's name.
        env: the environment.
        changed: parameters that differ from those that the controller has in this scenario.

    Raises:
        ValueError: an unknown controller, or parameters that it refuses (pydantic's ``ValidationError`` is one).
    """
    model = parameters(name)
    check_names(f"parameter of {name}", changed, model.model_fields)
    return _controllers.get(name)(model(**{**env.scenario.controller_parameters.get(name, {}), **changed}), env)


def make_driver(parameters: ControllerParameters, slots: DriverSlots) -> Driver[Any]:
    """A driver with these parameters, for vehicles that do not learn."""
    kind: Any = _controllers.get(parameters.name)
    driver: Driver[Any] = kind(parameters, slots)
    return driver


def scenario_defaults(name: str, scenario_name: str) -> Mapping[str, Any]:
    """Parameters of a controller that a scenario sets to other values than the controller's own defaults.

    Raises:
        ValueError: there is no scenario of that name.
    """
    return scenario(scenario_name).controller_parameters.get(name, {})


def constants(scenario_name: str) -> dict[str, ActionFunction]:
    """Constant actions of a scenario by name, as policies: every agent does the same all the time.

    Raises:
        ValueError: there is no scenario of that name.
    """
    return {label: _constant(action) for label, action in scenario(scenario_name).constant_actions.items()}


def _constant(action: float | int) -> ActionFunction:
    def act(observations: NDArray[Any]) -> NDArray[Any]:
        agents = observations.shape[:2]
        # A discrete action is a number for each agent, an acceleration a vector of one component.
        return np.full(agents if isinstance(action, int) else (*agents, 1), action)

    return act
