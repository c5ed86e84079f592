"""Folder of a run: the paths in it, and files that are written whole or not at all."""

import fcntl
import json
import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import dmpo
from dmpo.checkpoint import CheckpointVersionError
from dmpo.files import sync_folder, whole
from experiments.errors import ConfigError, RunError, shown


@dataclass(frozen=True)
class RunFolder:
    """Paths in the folder of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The experiment, resolved and complete."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, in order."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The newest complete checkpoint."""
        return self.path / "checkpoint" / "newest.pt"

    @property
    def evaluation(self) -> Path:
        """Evaluation of the final policy."""
        return self.path / "evaluation.json"

    def evaluation_on(self, label: str) -> Path:
        """Evaluation of the final policy under the overrides with this label."""
        return self.path / f"evaluation-{label}.json"

    @property
    def trajectory(self) -> Path:
        """The episode of the final policy from the first reference start."""
        return self.path / "trajectory.npz"

    @property
    def plots(self) -> Path:
        """Pictures."""
        return self.path / "plots"

    @classmethod
    def new(cls, path: Path) -> Self:
        """A folder for a new run, not created yet.

        Raises:
            ConfigError: something is there already.
        """
        try:
            if path.is_dir():
                if any(path.iterdir()):
                    started = (path / "config.yaml").exists()
                    go_on = f"go on with it (dmpo train --resume {path}), or " if started else ""
                    raise ConfigError(
                        f"--output: {shown(str(path), 300)} is not empty; {go_on}choose another with --output"
                    )
            elif path.exists():
                raise ConfigError(f"--output: {shown(str(path), 300)} is a file; choose a folder")
        except OSError as error:
            raise _unusable(path, error) from error
        return cls(path)

    @classmethod
    def existing(cls, path: Path) -> Self:
        """The folder of a run that was begun.

        Raises:
            ConfigError: it is none.
        """
        folder = cls(path)
        if not folder.config.is_file():
            what = "holds no config.yaml" if path.is_dir() else "does not exist"
            raise ConfigError(f"{shown(str(path), 300)} is not the folder of a run: it {what}")
        return folder

    def prepare(self) -> None:
        """Make the folder and those in it.

        Raises:
            ConfigError: one cannot be made.
        """
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            self.plots.mkdir(exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error

    def create(self, config: str) -> None:
        """Make the folder and write the configuration.

        Raises:
            ConfigError: the folder cannot be made.
        """
        self.prepare()
        try:
            write_whole(self.config, config)
        except OSError as error:
            raise _unusable(self.path, error) from error

    def load_state(self) -> dict[str, Any]:
        """Contents of the newest checkpoint.

        Raises:
            ConfigError: it was written by another version of the program.
            dmpo.CheckpointError: there is none, or it is not one of a run.
        """
        try:
            state = dmpo.load_checkpoint(self.checkpoint)
        except CheckpointVersionError as error:
            raise ConfigError(str(error).replace("RUN_DIR", shlex.quote(str(self.path)))) from error
        kinds = {"env_steps": int, "metrics_bytes": int, "wall_seconds": float, "trainer": dict}
        lacking = [key for key, kind in kinds.items() if not isinstance(state.get(key), kind)]
        if lacking:
            raise dmpo.CheckpointError(f"{self.checkpoint} is not a run's checkpoint: it lacks {', '.join(lacking)}")
        return state

    def is_being_written(self) -> bool:
        """True while a process holds the lock on the run's metrics."""
        try:
            with self.metrics.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read_metrics(self) -> list[dict[str, Any]]:
        """The complete lines of `metrics.jsonl`; the last may be in the making.

        Raises:
            RunError: one of them is damaged.
        """
        return read_lines(self.metrics, self.metrics.read_bytes()) if self.metrics.is_file() else []

    def read_report(self) -> dict[str, Any]:
        """Contents of `evaluation.json`.

        Raises:
            RunError: the run has none yet, or it is damaged.
        """
        if not self.evaluation.is_file():
            raise RunError(f"{self.path} is not finished; go on with: dmpo train --resume {self.path}")
        report = _object(self.evaluation.read_bytes())
        if report is None or "env_steps" not in report:
            remedy = f"delete it, and dmpo train --resume {self.path} makes it again"
            raise RunError(f"{self.evaluation} is damaged: it is no report of an evaluation; {remedy}")
        return report

    def read_evaluations_on(self) -> dict[str, dict[str, Any]]:
        """Contents of each `evaluation-LABEL.json`, by label; a damaged one is left out, since it is made again."""
        prefix = "evaluation-"
        files = {path.stem.removeprefix(prefix): path for path in sorted(self.path.glob(f"{prefix}*.json"))}
        read = {label: _object(path.read_bytes()) for label, path in files.items()}
        return {label: found for label, found in read.items() if found is not None}

    def write_trajectory(self, states: Mapping[str, NDArray[Any]], step_seconds: float) -> None:
        """Keep an episode.

        Args:
            states: arrays (T, N) by name, which are kept in single precision: for pictures, not for resumption.
            step_seconds: between two rows.
        """
        small: dict[str, Any] = {name: np.asarray(x, dtype=np.float32) for name, x in states.items()}
        with whole(self.trajectory) as file:
            np.savez_compressed(file, step_seconds=step_seconds, **small)

    def read_trajectory(self) -> dict[str, NDArray[Any]] | None:
        """Arrays that `write_trajectory` kept, with `step_seconds`; None in folders older than that file."""
        if not self.trajectory.is_file():
            return None
        with np.load(self.trajectory, allow_pickle=False) as file:
            return dict(file)


class MetricsLog:
    """`metrics.jsonl`, opened by one process at a time, after the `size` bytes that the checkpoint knows of.

    What lies behind them comes again, the same. It is taken back when asked for, or by the first line, not before: a
    run that cannot go on loses nothing. A line is there whole or not at all.

    Args:
        path: of the file.
        size: bytes that the checkpoint knows of.

    Raises:
        RunError: another process writes to it, there are fewer bytes than that, or a line in them is damaged.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        # Without a buffer, which would try to write the rest of a line once there is room on the disk again.
        self._file = path.open("ab", buffering=0)
        self._size = size
        try:
            self._lock()
            self._check(path)
        except BaseException:
            self._file.close()
            raise

    def take_back(self) -> None:
        """Remove what lies behind the lines that the checkpoint knows of."""
        self._file.truncate(self._size)

    def write(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Add a line and return it as it stands there: numbers that are not finite become null.

        Raises:
            OSError: the disk is full; the lines before are there, and no part of this one.
        """
        plain = {key: _plain(value) for key, value in metrics.items()}
        line = json.dumps(plain).encode() + b"\n"
        self._file.truncate(self._size)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            self._file.truncate(self._size)
            if isinstance(error, OSError):
                error.filename = self._file.name
            raise
        self._size += len(line)
        return plain

    def sync(self) -> int:
        """See to it that all lines are on the disk, and give their bytes.

        Raises:
            RunError: the file is not where it was.
        """
        path = Path(self._file.name)
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(self._file.fileno())):
            raise RunError(f"{path} was moved or deleted while the run was going on: nothing more can be kept there")
        os.fsync(self._file.fileno())
        sync_folder(path.parent)
        return self._size

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{self._file.name} is being written by another process: the run is going on") from error

    def _check(self, path: Path) -> None:
        content = path.read_bytes()
        remedy = "Put a complete copy in its place, or start the run again elsewhere"
        if len(content) < self._size:
            raise RunError(
                f"{path} has {len(content):,} bytes, but had {self._size:,} when the checkpoint was written: lines are "
                f"lost. {remedy}"
            )
        known = content[: self._size]
        if known and not known.endswith(b"\n"):
            raise RunError(f"{path} has no end of a line where it had one when the checkpoint was written. {remedy}")
        read_lines(path, known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_lines(path: Path, content: bytes) -> list[dict[str, Any]]:
    """The JSON objects in the complete lines of a file.

    Raises:
        RunError: a line holds none; the message names it and `path`.
    """
    lines = [_object(line) for line in content.split(b"\n")[:-1]]
    if None in lines:
        remedy = "Put a complete copy in its place, or start the run again elsewhere"
        raise RunError(f"{path} is damaged: line {lines.index(None) + 1} is no JSON object. {remedy}")
    return [line for line in lines if line is not None]


def write_whole(path: Path, text: str) -> None:
    """Write a text file; it holds all of it, or what it held before."""
    with whole(path) as file:
        file.write(text.encode())


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object in a text, None where it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unusable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--output: {shown(str(path), 300)} cannot be used: {error.strerror}")
