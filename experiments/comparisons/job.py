"""One run of a comparison in a process of its own, and the supervisor of these processes.

The process reads its job from standard input and exits, with its simulations, when that pipe closes, for example
because the supervisor was killed. The next attempt resumes from the checkpoint.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import dmpo
from experiments.config import loading, yaml_io
from experiments.errors import ConfigError, RunError
from experiments.runs import runner
from experiments.runs.evaluation import evaluate_run
from experiments.runs.folder import RunFolder, write_whole

_LAST_SECONDS = 30.0  # that the run's earlier process may take to end
_MAX_DETAILS = 20_000  # characters


@dataclass(frozen=True)
class RunJob:
    """A run to be made, gone on with or completed.

    Attributes:
        folder: of the run; an absolute path.
        config: what its `config.yaml` holds.
        evaluate_on: overrides with which its policies are evaluated as well, by their label.
        modules: to be imported first, for what they register.
        directory: that relative paths in the experiment begin at.
    """

    folder: str
    config: str
    evaluate_on: dict[str, list[str]]
    modules: list[str]
    directory: str

    @property
    def run(self) -> RunFolder:
        """The folder of the run."""
        return RunFolder(Path(self.folder))


@dataclass(frozen=True)
class Failure:
    """Why a run could not be finished: in one line, and all that its process said."""

    message: str
    details: str


class Supervisor:
    """Runs jobs, each in a process of its own, from any number of threads; its own end is theirs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def __reduce__(self) -> tuple[type["Supervisor"], tuple[()]]:
        return Supervisor, ()  # on another machine it begins with nothing to look after

    def run(self, job: RunJob) -> Failure | None:
        """Do a job in a new process and wait for its end."""
        with tempfile.TemporaryFile() as stderr:
            try:
                process = self._start(job, stderr)
            except OSError as error:
                return Failure(f"its process did not start: {error}", "")
            if process is None:
                return Failure("stopped before it began", "")
            try:
                process.wait()
            finally:
                self._end(process)
            stderr.seek(0)
            return _failure(process.returncode, stderr.read().decode(errors="replace"))

    def stop(self) -> None:
        """End all processes, and start no more."""
        with self._lock:
            self._stopped = True
            processes = list(self._processes)
        for process in processes:
            self._end(process)

    def _start(self, job: RunJob, stderr: IO[bytes]) -> "subprocess.Popen[bytes] | None":
        imports = [word for module in job.modules for word in ("--import", module)]
        command = [sys.executable, "-P", "-m", "experiments", *imports, "job"]
        # The child finds the modules that this process found, in the same order.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=stderr, stderr=stderr, cwd=job.directory, env=environment
            )
            self._processes.add(process)
        assert process.stdin is not None
        with suppress(OSError):  # if it is gone already, its status says why
            process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            process.stdin.flush()  # and left open: its end is the process's
        return process

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        with self._lock:
            self._processes.discard(process)
        assert process.stdin is not None
        with suppress(OSError):  # the rest of a job that a dead process never read
            process.stdin.close()


class SilentCallback:
    """Training callback that does nothing: the run's metrics file tells its progress."""

    def begin(self, env_steps: int, total: int) -> None:
        """Training starts."""

    def advance(self, env_steps: int) -> None:
        """Some steps are done."""

    def evaluated(self, env_steps: int, metrics: dict[str, float]) -> None:
        """An evaluation was made."""


def run_job_from_stdin() -> None:
    """Do the job that the standard input tells of, in this process, and end with the one at its other end.

    Raises:
        ConfigError, RunError, dmpo.TrainingError, dmpo.CheckpointError, envs.SimulationError: as in `dmpo train`.
    """
    job = RunJob(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    experiment = loading.check(yaml_io.read_text(job.config, "config.yaml")).experiment
    _wait_for_the_last(job.run)
    job.run.create(loading.dump(experiment))
    runner.resume(experiment, job.run, SilentCallback())
    for label, overrides in job.evaluate_on.items():
        if not is_evaluated_on(job.run, label, overrides):
            _evaluate_on(job.run, label, overrides)


def is_done(job: RunJob) -> bool:
    """True if the run is finished, and evaluated in every setting of `evaluate_on`."""
    run = job.run
    if not run.config.is_file():
        return False
    try:
        if not runner.is_finished(loading.load(run.config).experiment, run):
            return False
    except dmpo.CheckpointError:
        return False  # the run's own process will say what is wrong with it
    return all(is_evaluated_on(run, label, overrides) for label, overrides in job.evaluate_on.items())


def is_evaluated_on(run: RunFolder, label: str, overrides: list[str]) -> bool:
    """True if the final policies were evaluated with these overrides."""
    path = run.evaluation_on(label)
    if not path.is_file():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    return bool(found["overrides"] == overrides and found["env_steps"] == run.read_report()["env_steps"])


def _evaluate_on(run: RunFolder, label: str, overrides: list[str]) -> None:
    """Write the evaluation with overrides or, as these were checked before, that the policies do not fit."""
    found: dict[str, Any] = {"overrides": overrides, "env_steps": run.read_report()["env_steps"]}
    try:
        found |= evaluate_run(run, overrides, lambda note: None)
    except ConfigError as error:
        found["misfit"] = str(error)
    write_whole(run.evaluation_on(label), json.dumps(found, indent=1) + "\n")


def _wait_for_the_last(run: RunFolder) -> None:
    """The process that made this run before may have been killed a moment ago."""
    deadline = time.monotonic() + _LAST_SECONDS
    while run.is_being_written():
        if time.monotonic() > deadline:
            raise RunError(f"{run.metrics} is being written by another process, which goes on with the run")
        time.sleep(0.1)


def _end_with_the_pipe() -> NoReturn:
    while os.read(sys.stdin.fileno(), 1):
        pass
    for simulation in multiprocessing.active_children():
        simulation.kill()  # one that hangs would not notice
    os._exit(1)


def _failure(status: int, stderr: str) -> Failure | None:
    """Failure of a process by its exit status and standard error; None if it succeeded."""
    if status == 0:
        return None
    errors = [line.removeprefix("error: ") for line in stderr.splitlines() if line.startswith("error: ")]
    if status < 0:
        message = f"its process was ended by {signal.Signals(-status).name}"
    elif errors:
        message = "; ".join(errors)
    else:
        message = next((line for line in reversed(stderr.splitlines()) if line.strip()), f"status {status}")
    return Failure(message, stderr[-_MAX_DETAILS:])
