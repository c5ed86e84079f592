"""Mechanisms that are there for speed only are measured with and without, in turn."""

import pytest

from benchmarks import mechanisms
from benchmarks.machine import in_fresh_process
from benchmarks.switches import SWITCHES
from experiments.config import loading


def test_every_switch_has_work_that_shows_what_its_mechanism_gains() -> None:
    assert set(SWITCHES) <= set(mechanisms.WORK)
    for name, work in mechanisms.WORK.items():
        assert name in SWITCHES or isinstance(work, mechanisms.Handing) or (name not in SWITCHES and work.without)


@pytest.mark.parametrize("name", [name for name, w in mechanisms.WORK.items() if isinstance(w, mechanisms.Training)])
def test_the_experiments_that_are_trained_exist(name: str) -> None:
    work = mechanisms.WORK[name]
    for overrides in (work.overrides, [*work.overrides, *work.without]):
        if "bfloat16" not in str(overrides):  # not every processor has it
            loading.load(work.preset, list(overrides))


def test_both_take_turns_and_medians_count() -> None:
    rates = iter([10.0, 4.0, 12.0, 5.0, 1_000.0, 6.0])
    asked = []

    def rate(_: object, off: str | None) -> float:
        asked.append(off)
        return next(rates)

    assert mechanisms.measure("kernels", 3, rate) == (12.0, 5.0)
    assert asked == [None, "kernels"] * 3


@pytest.mark.parametrize("off", [None, "speeds in one call"])
def test_environments_are_driven_with_and_without(off: str | None) -> None:
    assert in_fresh_process(mechanisms.Driving("cacc_catchup", num_envs=2).rate, off) > 0


@pytest.mark.parametrize("off", [None, "shared memory"])
def test_arrays_are_handed_with_and_without(off: str | None) -> None:
    assert mechanisms.Handing((2, 3, 4)).rate(off) > 0
