"""The command line run in this process, in an empty folder."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Before PyTorch is loaded, here and in what tests start: beside a worker on every core, a second thread only waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from experiments import cli

pytest_plugins = ("tests.durations", "pytester")


class Result(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def dmpo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`dmpo("train", …)` in this process: exit status and what was printed."""

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["dmpo", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code
        return Result(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.fixture
def threads() -> Iterator[None]:
    """PyTorch has as many threads after the test as before it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
