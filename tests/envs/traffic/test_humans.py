"""Humans: a classical controller with noise."""

import numpy as np
import pytest

from envs.controllers.acceleration_env import DriverSlots, Situation
from envs.controllers.classical import IDM, IDMParameters
from envs.traffic.humans import HumanParameters, Humans
from tests.envs.helpers import Array


def test_noise_is_flows_and_every_environments_own() -> None:
    state = {name: np.full((50, 22), value) for name, value in (("headway", 9.0), ("speed", 3.0), ("front_speed", 3.0))}
    places, seconds = np.arange(21), np.zeros(50)

    def drawn(numbers: range) -> Array:
        humans = Humans(HumanParameters(noise=0.2), {}, places, len(numbers))
        mine = {name: array[: len(numbers)] for name, array in state.items()}
        random = [np.random.default_rng(number) for number in numbers]
        return np.stack([humans.accelerations(mine, seconds[: len(numbers)], random) for _ in range(40)])

    known = Situation(*(state[name][:1, :1] for name in ("headway", "speed", "front_speed")), np.zeros((1, 1)))
    noise = drawn(range(50)) - IDM(IDMParameters(), DriverSlots(1, 1, 0.1)).accelerations(known)
    assert len(np.unique(noise)) == noise.size  # no number is used twice, however many are drawn at once
    # Mean and deviation within five standard errors.
    assert abs(noise.mean()) < 5 * 0.2 * np.sqrt(0.1 / noise.size)
    assert noise.std() == pytest.approx(0.2 * np.sqrt(0.1), rel=5 / np.sqrt(2 * noise.size))
    np.testing.assert_array_equal(drawn(range(3, 5)), drawn(range(50))[:, 3:5])
