"""Classical controllers: IDM, the optimal-velocity model, FollowerStopper, PI with saturation, and random actions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from envs.controllers.acceleration_env import DriverSlots, Situation
from envs.controllers.base import Controller, ControllerParameters, Driver, register
from envs.controllers.car_following import (
    GO_HEADWAY,
    MAX_SPEED,
    STOP_HEADWAY,
    follower_stopper,
    intelligent_driver,
    optimal_velocity,
    optimal_velocity_model,
    saturated,
)
from envs.types import Floats
from envs.vector.vector_env import VectorEnv

_Positive = Annotated[float, Field(gt=0)]


class IDMParameters(ControllerParameters):
    """Intelligent driver model (Treiber, Hennecke and Helbing, 2000), with the defaults of Flow's IDMController."""

    name: Literal["idm"] = "idm"
    desired_speed: float = Field(30.0, gt=0, description="Speed v0 on a free road, in m/s.")
    time_gap: float = Field(1.0, ge=0, description="Time gap T kept to the vehicle in front, in s.")
    min_gap: float = Field(2.0, ge=0, description="Gap s0 kept at rest, in m.")
    acceleration: float = Field(1.0, gt=0, description="Largest acceleration a, in m/s².")
    deceleration: float = Field(1.5, gt=0, description="Comfortable deceleration b, in m/s².")
    exponent: float = Field(
        4.0,
        gt=0,
        description="Exponent δ: the larger it is, the closer to the desired speed acceleration begins to fall.",
    )


@register("idm")
class IDM(Driver[IDMParameters]):
    """See :class:`IDMParameters`."""

    Parameters = IDMParameters

    def accelerations(self, situation: Situation) -> Floats:
        """See :class:`~envs.controllers.Driver`."""
        return intelligent_driver(situation.headway, situation.speed, situation.front_speed, **self.law)


class OVMParameters(ControllerParameters):
    """Optimal-velocity model with relative speed (Bando et al., 1995; Jin and Orosz, 2014), as in deeprl_network."""

    name: Literal["ovm"] = "ovm"
    alpha: float = Field(0.5, ge=0, description="Gain α towards the optimal velocity, in 1/s.")
    beta: float = Field(0.5, ge=0, description="Gain β towards the speed of the vehicle in front, in 1/s.")
    stop_headway: float = Field(STOP_HEADWAY, ge=0, description="Headway up to which the optimal velocity is 0, in m.")
    go_headway: float = Field(
        GO_HEADWAY, gt=0, description="Headway from which the optimal velocity is at its largest, in m."
    )
    max_speed: float = Field(MAX_SPEED, gt=0, description="Largest optimal velocity, in m/s.")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.go_headway <= self.stop_headway:
            raise ValueError(
                f"go_headway = {self.go_headway:g} must be above stop_headway = {self.stop_headway:g}: the optimal "
                "velocity grows between the two"
            )
        return self


@register("ovm")
class OVM(Driver[OVMParameters]):
    """See :class:`OVMParameters`."""

    Parameters = OVMParameters

    def accelerations(self, situation: Situation) -> Floats:
        """See :class:`~envs.controllers.Driver`."""
        stop, go, max_speed = (self.law[name] for name in ("stop_headway", "go_headway", "max_speed"))
        wanted = optimal_velocity(situation.headway, stop, go, max_speed)
        alpha, beta = self.parameters.alpha, self.parameters.beta
        return optimal_velocity_model(wanted, situation.speed, situation.front_speed, alpha, beta)


class FollowerStopperParameters(ControllerParameters):
    """FollowerStopper (Stern et al., 2018): a desired speed, slower only where the gap asks for it."""

    name: Literal["follower_stopper"] = "follower_stopper"
    desired_speed: float = Field(15.0, ge=0, description="Speed U commanded where there is room, in m/s.")
    gaps: tuple[_Positive, _Positive, _Positive] = Field(
        (4.5, 5.25, 6.0),
        description="Three gaps at equal speeds, in m: the vehicle stops below the first, follows at the second and "
        "drives at the desired speed from the third.",
    )
    decelerations: tuple[_Positive, _Positive, _Positive] = Field(
        (1.5, 1.0, 0.5),
        description="Decelerations d by which the three gaps grow with the closing speed Δv, by Δv²/(2d), in m/s².",
    )

    @model_validator(mode="after")
    def _order(self) -> Self:
        if any(far <= near for near, far in pairwise(self.gaps)):
            raise ValueError(f"gaps = {list(self.gaps)} must grow from one to the next")
        if any(far > near for near, far in pairwise(self.decelerations)):
            raise ValueError(
                f"decelerations = {list(self.decelerations)} may not grow from one to the next, or the gaps would cross"
            )
        return self


@register("follower_stopper")
class FollowerStopper(Driver[FollowerStopperParameters]):
    """See :class:`FollowerStopperParameters`. It commands the acceleration that reaches its speed within a step."""

    Parameters = FollowerStopperParameters

    def accelerations(self, situation: Situation) -> Floats:
        """See :class:`~envs.controllers.Driver`."""
        command = follower_stopper(situation.headway, situation.speed, situation.front_speed, **self.law)
        return (command - situation.speed) / self.step_seconds


class PIParameters(ControllerParameters):
    """PI with saturation (Stern et al., 2018): the mean of its own past speed, and more where the gap is wide."""

    name: Literal["pi_saturation"] = "pi_saturation"
    window: float = Field(
        38.0, gt=0, le=3600, description="Time over which the vehicle takes the mean of its own speed, in s."
    )
    catch_up: float = Field(1.0, ge=0, description="Speed v_catch added to the mean where the gap is wide, in m/s.")
    gap_low: float = Field(7.0, ge=0, description="Gap g_l from which a part of v_catch is added, in m.")
    gap_high: float = Field(30.0, gt=0, description="Gap g_u from which all of v_catch is added, in m.")
    safe_gap: float = Field(
        4.0, ge=0, description="Smallest safe gap, within which only the speed of the vehicle in front counts, in m."
    )
    safe_time: float = Field(
        2.0, ge=0, description="Safe gap for each m/s by which the vehicle in front is faster, in s."
    )
    transition: float = Field(
        2.0, gt=0, description="Width γ of the transition from the speed in front to the mean, in m."
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.gap_high <= self.gap_low:
            raise ValueError(f"gap_high = {self.gap_high:g} must be above gap_low = {self.gap_low:g}")
        return self


@register("pi_saturation")
class PIWithSaturation(Driver[PIParameters]):
    """See :class:`PIParameters`.

    With the mean U of the own speed over the window, Δx the headway and Δv = v_front − v:
    v_target = U + v_catch sat(Δx; g_l, g_u), α = sat(Δx; Δx_s, Δx_s + γ) with Δx_s = max(2 s Δv, 4 m), β = 1 − α/2,
    v_cmd ← β (α v_target + (1 − α) v_front) + (1 − β) v_cmd.

    Each environment has a memory of its own, the speeds and the last command, which begins anew with every episode;
    the command before the first is the vehicle's speed.
    """

    Parameters = PIParameters

    def __init__(self, parameters: PIParameters, env: VectorEnv | DriverSlots) -> None:
        super().__init__(parameters, env)
        agents = (env.num_envs, env.num_agents)
        steps = max(1, round(parameters.window / self.step_seconds))
        self._past = np.zeros((steps, *agents))  # (W, E, N), a ring buffer
        self._next, self._known = 0, np.zeros((env.num_envs, 1))
        self._command = np.zeros(agents)

    def accelerations(self, situation: Situation) -> Floats:
        """See :class:`~envs.controllers.Driver`."""
        parameters = self.parameters
        mean = self._mean_speed(situation)
        target = mean + parameters.catch_up * saturated(situation.headway, parameters.gap_low, parameters.gap_high)
        safe = np.maximum(parameters.safe_time * (situation.front_speed - situation.speed), parameters.safe_gap)
        alpha = saturated(situation.headway, safe, safe + parameters.transition)
        beta = 1 - 0.5 * alpha
        follow = alpha * target + (1 - alpha) * situation.front_speed
        self._command = beta * follow + (1 - beta) * self._command
        return (self._command - situation.speed) / self.step_seconds

    def _mean_speed(self, situation: Situation) -> Floats:
        """Store the speeds and return their mean over the window, or over the episode where that is shorter."""
        begun = situation.seconds[:, 0] == 0
        self._past[:, begun], self._known[begun] = 0.0, 0.0
        self._command[begun] = situation.speed[begun]
        self._past[self._next] = situation.speed
        self._next = (self._next + 1) % len(self._past)
        self._known = np.minimum(self._known + 1, len(self._past))
        mean: Floats = self._past.sum(axis=0) / self._known
        return mean

    def get_state(self) -> dict[str, NDArray[Any]]:
        """See :class:`~envs.controllers.Driver`; the speeds begin with the oldest."""
        past = np.roll(self._past, -self._next, axis=0).swapaxes(0, 1)
        return {"past": past, "known": self._known.copy(), "command": self._command.copy()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See :class:`~envs.controllers.Driver`."""
        self._past[:], self._next = state["past"].swapaxes(0, 1), 0
        self._known[:], self._command[:] = state["known"], state["command"]


class RandomParameters(ControllerParameters):
    """Actions drawn uniformly from the action space."""

    name: Literal["random"] = "random"
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the draws.")


@register("random")
class RandomActions(Controller[RandomParameters]):
    """See :class:`RandomParameters`."""

    Parameters = RandomParameters

    def __init__(self, parameters: RandomParameters, env: VectorEnv) -> None:
        super().__init__(parameters, env)
        self._random = np.random.default_rng(parameters.seed)
        self._space, self._agents = env.action_space, (env.num_envs, env.num_agents)

    def __call__(self, observations: NDArray[Any]) -> NDArray[Any]:
        """See :class:`~envs.controllers.Controller`."""
        if isinstance(self._space, gymnasium.spaces.Discrete):
            return self._random.integers(self._space.n, size=self._agents)
        return self._random.uniform(self._space.low, self._space.high, (*self._agents, *self._space.shape))
