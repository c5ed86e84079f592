"""Switches of mechanisms name what exists, and reach the processes of simulations."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

from benchmarks.switches import SWITCHES


@pytest.mark.parametrize("name", SWITCHES)
def test_what_is_replaced_is_there(name: str) -> None:
    assert SWITCHES[name]
    for change in SWITCHES[name]:
        assert hasattr(import_module(change.module), change.name)


def test_a_name_that_is_gone_is_refused() -> None:
    [change] = SWITCHES["kernels"]
    with pytest.raises(AttributeError, match="gone"):
        type(change)(change.module, "gone", 0).apply()


def test_switches_reach_the_processes_that_are_started() -> None:
    begin = "from benchmarks.switches import switch_off; switch_off('speeds in one call')"
    worker = "import benchmarks.switches; from envs.sumo import speeds; print(speeds._library())"
    program = f"import subprocess, sys; {begin}; subprocess.run([sys.executable, '-c', {worker!r}], check=True)"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["None"]
