"""The laws against the same written for one vehicle, with if and else, from their sources."""

import math

import numpy as np
import pytest

from envs.controllers.car_following import (
    follower_stopper,
    intelligent_driver,
    optimal_velocity,
    optimal_velocity_model,
    saturated,
)

GAPS, DECELERATIONS = (4.5, 5.25, 6.0), (1.5, 1.0, 0.5)


def situations(count: int = 2_000) -> np.ndarray:
    """Headways, speeds and front speeds (3, count), so that every branch of every law is met."""
    random = np.random.default_rng(0)
    return random.uniform([[0.0], [0.0], [-1.0]], [[40.0], [30.0], [30.0]], (3, count))


def idm(h: float, v: float, front: float) -> float:
    """Treiber et al. (2000), eqs. 3 and 4, with v0 = 30, T = 1, s0 = 2, a = 1, b = 1.5, δ = 4."""
    wanted = 2.0 + max(0.0, v * 1.0 + v * (v - front) / (2 * math.sqrt(1.0 * 1.5)))
    return 1.0 * (1 - (v / 30.0) ** 4 - (wanted / max(h, 1e-3)) ** 2)


def ovm(h: float, v: float, front: float, alpha: float, beta: float) -> float:
    """Jin and Orosz (2014), eqs. 3 and 5, with h_stop = 2, h_go = 15, v_max = 20."""
    if h <= 2:
        wanted = 0.0
    elif h < 15:
        wanted = 20 / 2 * (1 - math.cos(math.pi * (h - 2) / (15 - 2)))
    else:
        wanted = 20.0
    return alpha * (wanted - v) + beta * (front - v)


def stopper(h: float, v: float, front: float, desired: float) -> float:
    """Stern et al. (2018), eqs. 1 and 2."""
    closing = min(front - v, 0.0)
    first, second, third = (
        gap + closing**2 / (2 * deceleration) for gap, deceleration in zip(GAPS, DECELERATIONS, strict=True)
    )
    follow = min(max(front, 0.0), desired)
    if h <= first:
        return 0.0
    if h <= second:
        return follow * (h - first) / (second - first)
    if h <= third:
        return follow + (desired - follow) * (h - second) / (third - second)
    return desired


def test_the_intelligent_driver_is_that_of_its_source() -> None:
    expected = [idm(*situation) for situation in situations().T]
    found = intelligent_driver(
        *situations(), desired_speed=30.0, time_gap=1.0, min_gap=2.0, acceleration=1.0, deceleration=1.5, exponent=4.0
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_intelligent_driver_at_rest_and_one_that_has_closed_the_gap() -> None:
    still = {"desired_speed": 30.0, "time_gap": 1.0, "min_gap": 2.0, "acceleration": 1.0, "deceleration": 1.5}
    at_rest = intelligent_driver(np.array([2.0, 4.0]), np.zeros(2), np.zeros(2), **still, exponent=4.0)
    np.testing.assert_allclose(at_rest, [0.0, 0.75])
    assert np.isfinite(intelligent_driver(np.array([0.0, -3.0]), np.ones(2), np.zeros(2), **still, exponent=4.0)).all()


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.5, 0.5), (0.6, 0.9)])
def test_the_optimal_velocity_model_is_that_of_its_source(alpha: float, beta: float) -> None:
    headway, speed, front = situations()
    expected = [ovm(*situation, alpha, beta) for situation in situations().T]
    found = optimal_velocity_model(optimal_velocity(headway, 2.0, 15.0, 20.0), speed, front, alpha, beta)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("desired", [0.0, 7.5, 15.0])
def test_the_follower_stopper_is_that_of_its_source(desired: float) -> None:
    headway, speed, front = situations()
    # Most headways are beyond all gaps otherwise.
    headway = np.where(np.arange(len(headway)) % 2, 4.0 + headway / 10, headway)
    expected = [stopper(*situation, desired) for situation in zip(headway, speed, front, strict=True)]
    found = follower_stopper(headway, speed, front, desired_speed=desired, gaps=GAPS, decelerations=DECELERATIONS)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_saturation_is_a_share() -> None:
    np.testing.assert_allclose(saturated(np.array([6.0, 7.0, 18.5, 30.0, 31.0]), 7.0, 30.0), [0.0, 0.0, 0.5, 1.0, 1.0])
