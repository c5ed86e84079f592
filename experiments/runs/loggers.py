"""Loggers that copy the lines of `metrics.jsonl` to TensorBoard and Weights & Biases.

When a run starts or resumes, each logger first receives every line the file already holds. Lines after the last
checkpoint, which training writes again, therefore reach it once, and lines that it missed are added.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from experiments.config.schema import Experiment, Log, WandB
from experiments.errors import ConfigError, refusal
from experiments.runs.folder import RunFolder

Line = dict[str, Any]
_log = logging.getLogger(__name__)


class Logger(Protocol):
    """Takes lines as they stand in `metrics.jsonl`; a number that was not finite is null there."""

    def write(self, line: Line) -> None:
        """Take a line."""

    def close(self, failed: bool) -> None:
        """The run ends, or stops before its end."""


class TensorBoardLogger:
    """Scalars in a file of TensorBoard's, which takes the place of those of earlier starts.

    The time of a scalar is as long after the run's beginning as `wall_seconds` says; its step is `env_steps`.

    Args:
        folder: of the file.
        seconds: that the run has taken so far.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        self._began = time.time() - seconds
        folder.mkdir(exist_ok=True)
        # The newest stays: a TensorBoard that is reading it finds the way to this one, but not from one that is gone.
        for earlier in sorted(folder.glob("events.out.tfevents.*"))[:-1]:
            earlier.unlink()
        # PyTorch's writer hands over to a thread of its own, where a full disk ends in a traceback.
        self._records = RecordWriter((folder / f"events.out.tfevents.{time.time_ns()}").open("xb"))
        self._add(file_version="brain.Event:2")
        # Whoever has read that one forgets its steps, all from 0 on.
        self._add(step=0, session_log=SessionLog(status=SessionLog.START))

    def write(self, line: Line) -> None:
        """See :class:`Logger`."""
        scalars = {name: x for name, x in line.items() if name not in ("env_steps", "wall_seconds") and x is not None}
        values = [self._summary.Value(tag=name, simple_value=x) for name, x in scalars.items()]
        self._add(line["env_steps"], line["wall_seconds"], summary=self._summary(value=values))

    def close(self, failed: bool) -> None:
        """See :class:`Logger`."""
        self._records.close()

    def _add(self, step: int = 0, seconds: float = 0.0, **what: Any) -> None:
        event = self._event(wall_time=self._began + seconds, step=step, **what)
        self._records.write(event.SerializeToString())
        self._records.flush()


class WandbLogger:
    """A run on Weights & Biases, or in a folder for `wandb sync`; it stays the same one when training goes on.

    Args:
        settings: project and mode.
        experiment: becomes the run's configuration.
        folder: of the run; what is not uploaded yet lies in `wandb/` there, with the run's id.
    """

    def __init__(self, settings: WandB, experiment: Experiment, folder: Path) -> None:
        import wandb

        kept = folder / "wandb" / "id"
        self._run = wandb.init(
            **settings.model_dump(),
            name=experiment.name,
            config=experiment.model_dump(mode="json"),
            allow_val_change=True,
            dir=str(folder),
            id=kept.read_text(encoding="utf-8") if kept.is_file() else None,
            resume="allow" if settings.mode == "online" else None,
            settings=wandb.Settings(console="off"),  # the progress bar is no log
        )
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(self._run.id, encoding="utf-8")
        self._first = self._run.step  # what is below has arrived; offline nothing has, and the newest folder holds all

    def write(self, line: Line) -> None:
        """See :class:`Logger`."""
        if line["env_steps"] >= self._first:
            metrics = {name: value for name, value in line.items() if value is not None}
            self._run.log(metrics, step=line["env_steps"], commit=True)

    def close(self, failed: bool) -> None:
        """See :class:`Logger`."""
        self._run.finish(exit_code=int(failed))


class Loggers:
    """All loggers of a run. One that fails is closed with a warning, and the run goes on without it.

    Args:
        experiment: says in `log` which.
        folder: of the run.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder) -> None:
        self._experiment, self._folder = experiment, folder
        self._open: dict[str, Logger] = {}

    def open(self) -> None:
        """Begin each logger with the lines there are."""
        lines = self._folder.read_metrics()
        for key, opener in self._wanted(lines[-1]["wall_seconds"] if lines else 0.0).items():
            with self._guarded(key):
                self._open[key] = opener()
                for line in lines:
                    self._open[key].write(line)

    def write(self, line: Line) -> None:
        """Give a line to each logger."""
        for key, logger in list(self._open.items()):
            with self._guarded(key):
                logger.write(line)

    def _wanted(self, seconds: float) -> dict[str, Callable[[], Logger]]:
        log, path, wanted = self._experiment.log, self._folder.path, dict[str, Callable[[], Logger]]()
        if log.tensorboard is True or (log.tensorboard == "auto" and _installed("tensorboard")):
            wanted["log.tensorboard"] = lambda: TensorBoardLogger(path / "tensorboard", seconds)
        if (settings := log.wandb) is not None:
            wanted["log.wandb"] = lambda: WandbLogger(settings, self._experiment, path)
        return wanted

    @contextmanager
    def _guarded(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            _log.warning("%s: %s: %s; the run goes on without it, metrics.jsonl has every line, and resuming the run "
                         "begins anew with it", key, type(error).__name__, error)  # fmt: skip
            if (logger := self._open.pop(key, None)) is not None:
                with suppress(Exception):
                    logger.close(failed=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key, logger in list(self._open.items()):
            with self._guarded(key):
                logger.close(failed=kind is not None)


def check_installed(log: Log) -> None:
    """Refuse loggers that are not installed.

    Raises:
        ConfigError: naming what to install.
    """
    missing = 'after pip install "dmpo[{}]" also what is given here'
    problems = []
    if log.tensorboard is True and not _installed("tensorboard"):
        problems.append(refusal("log.tensorboard", True, f"auto or false; {missing.format('tensorboard')}"))
    if log.wandb is not None and not _installed("wandb"):
        problems.append(refusal("log.wandb", log.wandb.model_dump(), f"null; {missing.format('wandb')}"))
    if problems:
        raise ConfigError(problems)


def _installed(package: str) -> bool:
    # A mere folder of that name, as a run has two, is found as well, but has no file to load.
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
