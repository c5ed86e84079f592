"""The folder of a run: where things stand in it, and files that are whole or not there at all."""

import fcntl
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import dmpo
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
        """What the final policy is worth."""
        return self.path / "evaluation.json"

    def evaluation_on(self, label: str) -> Path:
        """What the final policy is worth elsewhere."""
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

    def create(self, config: str) -> None:
        """Make the folder and write the configuration.

        Raises:
            ConfigError: the folder cannot be made.
        """
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            self.plots.mkdir(exist_ok=True)
            write_whole(self.config, config)
        except OSError as error:
            raise _unusable(self.path, error) from error

    def load_state(self) -> dict[str, Any]:
        """What the newest checkpoint holds.

        Raises:
            dmpo.CheckpointError: there is none, or it is not one of a run.
        """
        state = dmpo.load_checkpoint(self.checkpoint)
        missing = [key for key in ("env_steps", "metrics_bytes", "wall_seconds", "trainer") if key not in state]
        if missing:
            raise dmpo.CheckpointError(f"{self.checkpoint} is not a run's checkpoint: it lacks {', '.join(missing)}")
        return state

    def is_being_written(self) -> bool:
        """Whether a process is at work on the run."""
        try:
            with self.metrics.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read_metrics(self) -> list[dict[str, Any]]:
        """The complete lines of `metrics.jsonl`; the last may be in the making."""
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def read_report(self) -> dict[str, Any]:
        """What `evaluation.json` holds.

        Raises:
            RunError: the run has none yet.
        """
        if not self.evaluation.is_file():
            raise RunError(f"{self.path} is not finished; go on with: dmpo train --resume {self.path}")
        report: dict[str, Any] = json.loads(self.evaluation.read_text(encoding="utf-8"))
        return report

    def write_trajectory(self, states: Mapping[str, NDArray[Any]], step_seconds: float) -> None:
        """Keep an episode.

        Args:
            states: arrays (T, N) by name, which are kept in single precision: for pictures, not for resumption.
            step_seconds: between two rows.
        """
        partial = self.trajectory.with_name(self.trajectory.name + ".partial")
        small: dict[str, Any] = {name: np.asarray(x, dtype=np.float32) for name, x in states.items()}
        with partial.open("wb") as file:
            np.savez_compressed(file, step_seconds=step_seconds, **small)
        partial.replace(self.trajectory)

    def read_trajectory(self) -> dict[str, NDArray[Any]] | None:
        """What `write_trajectory` kept, `step_seconds` among it; None in folders older than that file."""
        if not self.trajectory.is_file():
            return None
        with np.load(self.trajectory, allow_pickle=False) as file:
            return dict(file)


class MetricsLog:
    """`metrics.jsonl`, opened by one process at a time, from `size` bytes on: what lies behind is taken back.

    Args:
        path: of the file.
        size: bytes that the checkpoint knows of.

    Raises:
        RunError: another process writes to it, or there are fewer bytes than that.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self._file = path.open("ab")
        try:
            self._lock()
            there = path.stat().st_size
            if there < size:
                raise RunError(
                    f"{path} has {there:,} bytes, but had {size:,} when the checkpoint was written: lines are lost. "
                    "Put a complete copy in its place, or start the run again elsewhere"
                )
            self._file.truncate(size)
        except BaseException:
            self._file.close()
            raise

    def write(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Add a line and return it as it stands there: numbers that are not finite become null."""
        plain = {key: _plain(value) for key, value in metrics.items()}
        self._file.write(json.dumps(plain).encode() + b"\n")
        self._file.flush()
        return plain

    def sync(self) -> int:
        """See to it that all lines are on the disk, and give their bytes."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{self._file.name} is being written by another process: the run is going on") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write_whole(path: Path, text: str) -> None:
    """Write a file beside the old one and put it in its place, so that a kill leaves one of them whole."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unusable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--output: {shown(str(path), 300)} cannot be used: {error.strerror}")
