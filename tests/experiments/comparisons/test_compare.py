"""Comparisons on real SUMO: processes that are killed, that fail, that are done already."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
from joblib._parallel_backends import ThreadingBackend

from experiments.comparisons import comparison
from experiments.config import loading
from experiments.runs import runner
from experiments.runs.folder import RunFolder
from tests.conftest import Command
from tests.experiments.conftest import TINY, metrics_of
from tests.experiments.runs.test_runner import RecordingCallback, assert_equal, environment, state_of

SHORT = TINY.replace("env_steps: 400", "env_steps: 200")  # a first checkpoint after 120 steps
AXES = SHORT + "compare:\n  algorithm.kappa: [0, 1, 2]\n"

# In the processes of the runs, one ends by SIGKILL and another by an error, each after its first checkpoint.
FAULTY = """
import os, signal, sys
import envs
from experiments.runs import runner

save = runner.Run._save

def faulty(run):
    save(run)
    if run.experiment.algorithm.kappa == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.experiment.algorithm.kappa == 2:
        raise envs.SimulationError("SUMO is out of fuel")

if sys.argv[-1] == "job":
    runner.Run._save = faulty
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """The run that `dmpo train` makes of another run's configuration, undisturbed, in this process."""
    folder = tmp_path_factory.mktemp("alone")

    def train(like: Path) -> Path:
        if not (folder / like.name).is_dir():
            runner.train(loading.load(like / "config.yaml").experiment, folder / like.name, RecordingCallback())
        return folder / like.name

    return train


def assert_same_run(one: Path, other: Path) -> None:
    """Equal to the last bit, times aside."""
    for name in ("config.yaml", "evaluation.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert metrics_of(one) == metrics_of(other)
    assert_equal(state_of(one), state_of(other))
    assert {path.name for path in (one / "plots").iterdir()} == {path.name for path in (other / "plots").iterdir()}


class Elsewhere(ThreadingBackend):  # type: ignore[misc]
    """A cluster, as far as what is sent to it has to survive being sent."""

    sent = 0

    def submit(self, func: Any, callback: Any = None) -> Any:
        Elsewhere.sent += 1
        return super().submit(pickle.loads(pickle.dumps(func)), callback)


def test_a_failing_run_stops_no_other_and_is_tried_anew(
    dmpo: Command, folder: Path, alone: Callable[[Path], Path]
) -> None:
    (folder / "axes.yaml").write_text(
        AXES + "evaluate_on:\n  near: [graph.name=empty, scenario.horizon=20]\n  more: [scenario.num_vehicles=4]\n",
        "utf-8",
    )
    (folder / "faulty_compare.py").write_text(FAULTY, "utf-8")
    result = dmpo("--import", "faulty_compare", "compare", "axes.yaml", "--seeds", 1, "--output", "all", "--jobs", 3)
    assert result.status == 1
    assert "error: kappa=1-seed0: its process was ended by SIGKILL\n" in result.err
    assert "error: kappa=2-seed0: SUMO is out of fuel\n" in result.err
    assert "error: 2 of 3 runs failed; the same command tries them anew\n" in result.err
    assert "kappa=0-seed0: finished, 200 steps: reward" in result.err
    failures = json.loads(Path("all/failures.json").read_text(encoding="utf-8"))
    assert {(each["label"], each["seed"]) for each in failures} == {("kappa=1", 0), ("kappa=2", 0)}
    assert [record.label for record in comparison.read(Path("all"))] == ["kappa=0"]

    finished = Path("all/runs/kappa=0-seed0")
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    near, more = (json.loads((finished / f"evaluation-{label}.json").read_text("utf-8")) for label in ("near", "more"))
    assert near["metrics"]["eval/length"] == 20
    assert near["overrides"] == ["graph.name=empty", "scenario.horizon=20"]
    assert "here are 4 agents" in more["misfit"]

    # Again, with a seed more, and on a cluster.
    joblib.register_parallel_backend("elsewhere", Elsewhere)
    (folder / "axes.yaml").write_text(AXES.replace("[0, 1, 2]", "[1]"), "utf-8")
    more = dmpo("compare", "axes.yaml", "--seeds", 2, "--output", "all", "--jobs", 2, "--backend", "elsewhere")
    assert more.status == 0
    assert Elsewhere.sent == 2
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    assert not Path("all/failures.json").exists()
    records = comparison.read(Path("all"))
    assert [record.folder.path.name for record in records] == ["kappa=0-seed0", "kappa=1-seed0", "kappa=1-seed1"]
    assert all(word in more.out for word in ("kappa=0", "kappa=1", "constant (0.5, 0.5)"))
    for record in records[:2]:
        assert_same_run(record.folder.path, alone(record.folder.path))


def test_killed_again_and_again_it_ends_as_if_left_alone_and_leaves_no_process_behind(
    folder: Path, dmpo: Command, alone: Callable[[Path], Path]
) -> None:
    (folder / "tiny.yaml").write_text(SHORT, "utf-8")
    command = ["compare", "tiny.yaml", "--seeds", "1", "--output", "out"]
    run = RunFolder(Path("out/runs/tiny-seed0"))
    moments: list[tuple[Callable[[], bool], Callable[[subprocess.Popen[str]], None], int]] = [
        (run.metrics.is_file, lambda parent: os.killpg(parent.pid, signal.SIGKILL), -signal.SIGKILL),
        (run.checkpoint.is_file, lambda parent: parent.kill(), -signal.SIGKILL),
        (lambda: run.metrics.stat().st_size > size, lambda parent: parent.terminate(), 128 + signal.SIGTERM),
    ]
    for reached, kill, status in moments:
        size = run.metrics.stat().st_size if run.metrics.is_file() else 0
        mark = {"DMPO_TEST_MARK": f"{folder}:{time.monotonic_ns()}"}
        parent = subprocess.Popen(
            [sys.executable, "-m", "experiments", *command],
            env={**environment(), **mark},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda reached=reached, parent=parent: reached() or parent.poll() is not None)  # type: ignore[misc]
        assert len(marked(mark)) >= 2
        kill(parent)
        _, told = parent.communicate(timeout=60)
        assert parent.returncode == status, told
        wait_for(lambda mark=mark: not marked(mark), seconds=10)  # type: ignore[misc]
        assert "Traceback" not in told
    assert told.endswith("error: stopped; the same command goes on with it\n")
    assert dmpo(*command).status == 0
    for record in comparison.read(Path("out")):
        assert_same_run(record.folder.path, alone(record.folder.path))


def marked(mark: dict[str, str]) -> list[str]:
    """The processes with this in their environment, which all that are started inherit."""
    ((key, value),) = mark.items()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{key}={value}".encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            pass  # it is gone, or another user's
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
