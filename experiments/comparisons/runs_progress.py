"""Progress of a comparison on the standard error: a bar for each run at work, and one for all of them.

Progress is read from each run's `metrics.jsonl`, wherever the process that writes it may be.
"""

import json
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiments.progress import format_metrics

_UPDATE_SECONDS = 1.0
_RATE_LINES = 20


class Tail:
    """Reader of the newest numbers in a `metrics.jsonl`, which is read from where the last read ended.

    Attributes:
        evaluation: the line of the last one.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RATE_LINES)
        self.evaluation: dict[str, Any] = {}

    @property
    def env_steps(self) -> int:
        """Environment steps of the last line."""
        return self._recent[-1][0] if self._recent else 0

    @property
    def rate(self) -> float:
        """Steps per second over the last lines; 0 where there are too few."""
        if len(self._recent) < 2:
            return 0.0
        (first, began), (last, ended) = self._recent[0], self._recent[-1]
        return (last - first) / max(ended - began, 1e-9)

    def read_new(self) -> bool:
        """Read the lines that were appended; true if there were any."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:  # a resumed run took lines back
                    self._offset = 0
                    self._recent.clear()
                file.seek(self._offset)
                lines = file.read().split(b"\n")[:-1]
        except OSError:  # not begun yet
            return False
        self._offset += sum(len(line) + 1 for line in lines)
        for line in lines:
            self._take(line)
        return bool(lines)

    def _take(self, line: bytes) -> None:
        try:
            metrics = json.loads(line)
        except ValueError:
            return  # lines were taken back, and others written, since the last read
        self._recent.append((metrics["env_steps"], metrics["wall_seconds"]))
        if "eval/reward" in metrics:
            self.evaluation = metrics


class RunsProgress:
    """Display of the runs' progress; away from a terminal, a line for each that ends.

    Args:
        runs: where each run's `metrics.jsonl` is, and how many steps it is to make, by its name.
        console: where to show it; standard error if left out.
    """

    def __init__(self, runs: Mapping[str, tuple[Path, int]], console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._live = self.console.is_terminal
        self._tails = {name: Tail(path) for name, (path, _) in runs.items()}
        self._totals = {name: steps for name, (_, steps) in runs.items()}
        self._ended: set[str] = set()
        self._bars: dict[str, TaskID] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("[green]{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("[cyan]{task.fields[evaluation]}", markup=True),
            console=self.console,
            disable=not self._live,
        )
        self._all = self._progress.add_task("all", total=sum(self._totals.values()), rate="", evaluation="")

    def __enter__(self) -> Self:
        for tail in self._tails.values():
            tail.read_new()
        self._progress.start()
        if self._live:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live:
            self._thread.join()
        self._progress.stop()

    def finished(self, run: str) -> None:
        """Show that a run has finished."""
        tail = self._end(run)
        self._say(f"{run}: finished, {tail.env_steps:,} steps: {format_metrics(tail.evaluation)}")

    def failed(self, run: str, message: str) -> None:
        """Show that a run has failed."""
        tail = self._end(run)
        self._say(f"{run}: failed after {tail.env_steps:,} steps: {message}")

    def update(self) -> None:
        """Show what was appended; on a terminal this is done every second."""
        with self._lock:
            for run, tail in self._tails.items():
                if run not in self._ended and tail.read_new():
                    self._show(run, tail)
            self._show_all()
            self._progress.refresh()

    def _end(self, run: str) -> Tail:
        with self._lock:
            self._ended.add(run)
            self._tails[run].read_new()
            if run in self._bars:
                self._progress.remove_task(self._bars.pop(run))
            self._show_all()
            return self._tails[run]

    def _say(self, line: str) -> None:
        self.console.print(f"{line} ({len(self._ended)} of {len(self._totals)} runs)", markup=False, soft_wrap=True)

    def _watch(self) -> None:
        while not self._over.wait(_UPDATE_SECONDS):
            self.update()

    def _show(self, run: str, tail: Tail) -> None:
        if run not in self._bars:
            self._bars[run] = self._progress.add_task(run, total=self._totals[run], rate="", evaluation="")
        self._progress.update(
            self._bars[run],
            completed=tail.env_steps,
            rate=f"{tail.rate:,.0f} steps/s",
            evaluation=format_metrics(tail.evaluation),
        )

    def _show_all(self) -> None:
        done = sum(tail.env_steps for tail in self._tails.values())
        rate = sum(self._tails[run].rate for run in self._bars)
        words = f"{len(self._ended)} of {len(self._totals)} runs"
        self._progress.update(self._all, completed=done, rate=f"{rate:,.0f} steps/s", evaluation=words)
