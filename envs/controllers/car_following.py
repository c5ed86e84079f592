"""Car-following laws as published: functions of the free road ahead and two speeds.

Arguments are arrays of any shape that broadcast together. The headway is the free road to the vehicle in front, in m;
speeds are in m/s, accelerations in m/s².
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from envs.types import Floats

STOP_HEADWAY, GO_HEADWAY, MAX_SPEED = 5.0, 35.0, 30.0
# The law divides by the headway, which is 0 or less in a collision.
_SHORTEST_HEADWAY = 1e-3


def optimal_velocity(
    headway: Floats, stop: float = STOP_HEADWAY, go: float = GO_HEADWAY, max_speed: float = MAX_SPEED
) -> Floats:
    """v°(h) = max_speed/2 (1 − cos(π (h − stop)/(go − stop))) between ``stop`` and ``go``; 0 below, max_speed above.

    Source: Bando et al. (1995), with the range policy of Jin and Orosz (2014), which deeprl_network uses.
    """
    phase = np.pi * (headway - stop) / (go - stop)
    between = 0.5 * max_speed * (1 - np.cos(phase))
    return np.where(headway <= stop, 0.0, np.where(headway >= go, max_speed, between))


def optimal_velocity_model(
    wanted: Floats, speed: Floats, front_speed: Floats, alpha: float | Floats, beta: float | Floats
) -> Floats:
    """u = α (v° − v) + β (v_front − v), the acceleration towards the optimal velocity ``wanted``.

    Source: Jin and Orosz (2014), eq. 3, without delay.
    """
    return alpha * (wanted - speed) + beta * (front_speed - speed)


def intelligent_driver(
    headway: Floats,
    speed: Floats,
    front_speed: Floats,
    *,
    desired_speed: float,
    time_gap: float,
    min_gap: float,
    acceleration: float,
    deceleration: float,
    exponent: float,
) -> Floats:
    """u = a (1 − (v/v0)^δ − (s*/h)²) with s* = s0 + max(0, v T + v (v − v_front)/(2 √(a b))).

    Source: Treiber, Hennecke and Helbing (2000), eqs. 3 and 4.
    """
    closing = speed * (speed - front_speed) / (2 * math.sqrt(acceleration * deceleration))
    wanted_gap = min_gap + np.maximum(speed * time_gap + closing, 0.0)
    crowding = wanted_gap / np.maximum(headway, _SHORTEST_HEADWAY)
    result: Floats = acceleration * (1 - (speed / desired_speed) ** exponent - crowding**2)
    return result


def follower_stopper(
    headway: Floats,
    speed: Floats,
    front_speed: Floats,
    *,
    desired_speed: float,
    gaps: Sequence[float],
    decelerations: Sequence[float],
) -> Floats:
    """Commanded speed in m/s: 0 up to the first of three gaps, then rising to the desired speed at the third.

    It is min(max(v_front, 0), U) at the second gap and U from the third on, and linear in the headway between. Each
    gap grows with the square of the closing speed, Δx_k = Δx_k⁰ + min(v_front − v, 0)²/(2 d_k).

    Source: Stern et al. (2018), eqs. 1 and 2.
    """
    closing = np.minimum(front_speed - speed, 0.0)
    first, second, third = (gap + closing**2 / (2 * d) for gap, d in zip(gaps, decelerations, strict=True))
    follow = np.clip(front_speed, 0.0, desired_speed)
    nearer, farther = saturated(headway, first, second), saturated(headway, second, third)
    return follow * nearer + (desired_speed - follow) * farther


def saturated(headway: Floats, low: float | Floats, high: float | Floats) -> Floats:
    """sat(h; low, high) = (h − low)/(high − low), held between 0 and 1."""
    share: Floats = np.clip((headway - low) / (high - low), 0.0, 1.0)
    return share
