"""One call for all vehicles does what a call for each does."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.sumo.simulation import Simulation
from envs.sumo.speeds import Speeds, VehicleIds
from tests.envs.helpers import Array, in_own_process
from tests.envs.sumo.test_simulation import PLAIN, triangle

STEPS = 40


def drive(folder: Path, together: bool) -> tuple[bool, Array]:
    """Whether one call commanded all vehicles, and the speeds that two of them had."""
    import libsumo

    random = np.random.default_rng(0)
    with Simulation(triangle(folder), 1, 2, PLAIN) as simulation:
        simulation._speeds = Speeds(libsumo, together)
        simulation.place(0, "ab", ["ab_0", "ca_0"], np.array([10.0, 20.0]), np.array([4.0, 6.0]))
        found = np.array([simulation.step(random.uniform(0, 12, (1, 2))) for _ in range(STEPS)])
        return simulation._speeds.together, found


def speak(folder: Path, together: bool) -> tuple[bool, list[str], Array]:
    """Errors where the second of three vehicles does not exist, and the speeds of the others."""
    import libsumo

    with Simulation(triangle(folder), 1, 2, PLAIN) as simulation:
        speeds = Speeds(libsumo, together)
        simulation.place(0, "ab", ["ab_0", "ca_0"], np.array([10.0, 20.0]), np.array([4.0, 6.0]))
        first, last = simulation._ids[0]
        said = []
        for act in (lambda v: speeds.command(v, np.array([5.0, 6.0, 7.0])), speeds.read):
            with pytest.raises(libsumo.TraCIException) as refused:
                act(VehicleIds([first, "nobody", last]))
            said.append(str(refused.value))
        libsumo.simulationStep()
        return speeds.together, said, speeds.read(VehicleIds([first, last]))


def both_ways(function: Any, folder: Path) -> tuple[Any, Any]:
    """Results of a function with one call for all vehicles, and with one call each."""
    (together, *found), (apart, *expected) = (in_own_process(function, folder, way) for way in (True, False))
    assert not apart
    if not together:
        assert find_spec("envs.sumo.native_speeds") is None, "it was built, but libsumo's functions were not found"
        pytest.skip("nothing was built that speaks to all vehicles in one call")
    return found, expected


def test_vehicles_commanded_in_one_call_drive_to_the_last_digit_as_those_commanded_one_by_one(tmp_path: Path) -> None:
    found, expected = both_ways(drive, tmp_path)
    np.testing.assert_array_equal(found[0], expected[0])
    assert len(np.unique(found[0])) == 2 * STEPS


def test_a_vehicle_that_is_not_there_is_named_and_those_before_it_were_commanded(tmp_path: Path) -> None:
    (said, speeds), (expected, others) = both_ways(speak, tmp_path)
    assert said == expected and all("nobody" in words for words in said)
    np.testing.assert_array_equal(speeds, others)
    assert speeds[0] == 5.0


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_speeds_as_vehicles_are_needed(count: int) -> None:
    with pytest.raises(ValueError, match=rf"speeds.shape=\({count},\) is not possible: allowed: \(2,\)"):
        Speeds(SimpleNamespace(vehicle=SimpleNamespace(setSpeed=None, getSpeed=None))).command(
            VehicleIds(["a", "b"]), np.ones(count)
        )
