"""Progress of a run on the standard error: a bar on a terminal, elsewhere a line for each evaluation."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SHOWN = ("eval/reward", "eval/reward_sampled", "eval/speed", "eval/collisions")


def format_metrics(metrics: dict[str, float]) -> str:
    """Text of the main metrics of an evaluation."""
    return ", ".join(
        f"{key.removeprefix('eval/')} {metrics[key]:.4g}" for key in _SHOWN if metrics.get(key) is not None
    )


class ProgressBar:
    """Progress bar of a run with steps per second, the time left and the last evaluation.

    Args:
        name: of the run.
        console: where to show it; standard error if left out.
    """

    def __init__(self, name: str, console: Console | None = None) -> None:
        self.name = name
        self.console = console or Console(stderr=True)
        self._live = self.console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("[green]{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("[cyan]{task.fields[evaluation]}"),
            console=self.console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(name, total=None, rate="", evaluation="")
        self._began = (0.0, 0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, env_steps: int, total: int) -> None:
        """Start the clock, with training at `env_steps` of `total`."""
        self._began = (time.monotonic(), env_steps)
        self._bar.update(self._task, total=total, completed=env_steps)

    def advance(self, env_steps: int) -> None:
        """Move the bar to `env_steps`."""
        self._bar.update(self._task, completed=env_steps, rate=f"{self._rate(env_steps):,.0f} steps/s")

    def evaluated(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Show an evaluation."""
        words = format_metrics(metrics)
        self._bar.update(self._task, evaluation=words)
        if not self._live:
            rate = self._rate(env_steps)
            speed = f" ({rate:,.0f} steps/s)" if rate else ""
            self.console.print(f"{self.name}: {env_steps:,} steps{speed}: {words}", markup=False, soft_wrap=True)

    def _rate(self, env_steps: int) -> float:
        start, before = self._began
        return (env_steps - before) / max(time.monotonic() - start, 1e-9)
