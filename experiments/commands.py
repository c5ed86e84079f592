"""Commands behind the command line: each checks what it is given, runs, and prints the result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

# Nothing that loads PyTorch, SUMO or matplotlib is imported before a command needs it.
from experiments.errors import ConfigError, RunError, shown
from experiments.exit_status import StoppedError, failure_message, interrupt_status, is_failure

if TYPE_CHECKING:
    from experiments.progress import ProgressBar
    from experiments.runs.runner import Outcome


@dataclass(frozen=True)
class Program:
    """Options before the command: the modules to import."""

    modules: list[str]

    @property
    def call(self) -> str:
        """The program as it was called, to be repeated by the user."""
        return " ".join(["dmpo", *(f"--import {module}" for module in self.modules)])


def train(file: str, values: list[str], output: Path | None, program: str) -> None:
    """Train an experiment in a new folder and print its report."""
    from experiments.config import loading
    from experiments.runs import runner

    loaded = loading.load(file, values)
    for text in loaded.notes:
        note(text)
    experiment = loaded.experiment
    folder = output or Path("runs") / f"{experiment.name}-seed{experiment.train.seed}"
    with _going_on(folder, program), _progress(experiment.name) as progress:
        outcome = runner.train(experiment, folder, progress)
    _report(outcome)


def resume(file: str | None, values: list[str], output: Path | None, path: Path, program: str) -> None:
    """Continue a run, perhaps with more steps, and print its report."""
    from experiments.config import loading
    from experiments.runs import runner
    from experiments.runs.folder import RunFolder

    if output is not None:
        raise ConfigError(f"--output: {shown(str(output))} is not possible with --resume, which keeps its folder")
    folder = RunFolder.existing(path)
    begun = loading.load(folder.config).experiment
    loaded = loading.load(file or folder.config, values)
    for text in loaded.notes:
        note(text)
    loading.check_unchanged(begun, loaded.experiment, runner.FREE_TO_CHANGE, "and going on with it may not change that")
    with _going_on(path, program), _progress(begun.name) as progress:
        outcome = runner.resume(loaded.experiment, folder, progress)
    if outcome.was_finished:
        steps = outcome.report["env_steps"]
        typer.echo(f"The run in {path} is finished ({steps:,} steps); with train.env_steps={2 * steps} it would go on.")
    _report(outcome)


def compare(
    files: list[str],
    values: list[str],
    seeds: int,
    output: Path | None,
    jobs: int | None,
    backend: str | None,
    program: Program,
) -> None:
    """Train every variant in the files with several seeds, print the result and raise if a run failed."""
    if not files:
        raise ConfigError(f"FILE: missing; {preset_hint()}")
    if output is None:
        raise ConfigError("--output: missing; give the folder of the comparison, a new one or one to go on with")
    from rich.console import Console

    from experiments.comparisons import compare as comparing
    from experiments.comparisons.runs_progress import RunsProgress

    plan = comparing.plan(files, values, seeds)
    for text in plan.notes:
        note(text)
    runs = zip(plan.wanted.runs, plan.experiments, strict=True)
    steps = {run.name: (output / run.folder / "metrics.jsonl", each.train.env_steps) for run, each in runs}
    try:
        with RunsProgress(steps) as progress:
            failed = comparing.run(plan, output, progress, program.modules, jobs, backend)
    except KeyboardInterrupt as error:
        raise StoppedError("stopped; the same command goes on with it", interrupt_status(error)) from None
    comparing.conclude(output, Console(), program.call)
    typer.echo(f"Everything is in {output}")
    if failed:
        lines = [f"{each.run.name}: {each.failure.message}" for each in failed]
        count = f"{len(failed)} of {len(plan.experiments)} runs failed; the same command tries them anew"
        raise RunError("\n".join([*lines, count]))


def evaluate_run(run: Path, values: list[str]) -> dict[str, Any]:
    """Evaluate a trained policy beside classical controllers, print it and return what was measured."""
    from experiments.runs import evaluation
    from experiments.runs.folder import RunFolder

    found = evaluation.evaluate_run(RunFolder.existing(run), values, note)
    _print_comparison(found, " ".join([f"{run} after {found['env_steps']:,} steps", *values]))
    return found


def evaluate_controllers(what: str, values: list[str]) -> dict[str, Any]:
    """Evaluate classical controllers alone, print it and return what was measured."""
    from rich.console import Console

    from experiments import tables
    from experiments.runs import controllers

    loaded = controllers.load(what, values)
    for text in loaded.notes:
        note(text)
    found = controllers.evaluate(loaded)
    Console().print(tables.controllers(found["controllers"], found["starts"], " ".join([what, *values])))
    return found


@contextmanager
def _going_on(folder: Path, program: str) -> Iterator[None]:
    """Say how to go on, with the program as it was called, when a run stops before its end."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(f"stopped; {_how_to_go_on(folder, program)}", interrupt_status(error)) from None
    except Exception as error:
        if not is_failure(error):
            raise
        raise RunError(f"{failure_message(error)}; {_how_to_go_on(folder, program)}") from error


def _how_to_go_on(folder: Path, program: str) -> str:
    begun = (folder / "config.yaml").is_file()
    return f"go on with: {program} train --resume {folder}" if begun else f"there is no run in {folder}"


def _progress(name: str) -> "ProgressBar":
    from experiments.progress import ProgressBar

    return ProgressBar(name)


def _report(outcome: "Outcome") -> None:
    _print_comparison(outcome.report, f"{outcome.folder.path} after {outcome.report['env_steps']:,} steps")
    typer.echo(f"Everything is in {outcome.folder.path}; the pictures are in {outcome.folder.plots}")


def _print_comparison(report: dict[str, Any], title: str) -> None:
    from rich.console import Console

    from experiments import tables

    console = Console()
    console.print(tables.comparison(report, title))
    console.print(tables.driving(report))


def preset_hint() -> str:
    """Hint of an error message: which files or presets can be given."""
    from experiments.config import loading

    return f"give a YAML file or one of the presets {', '.join(loading.presets())}"


def note(text: str) -> None:
    """Print a note to standard error."""
    typer.echo(f"note: {text}", err=True)
