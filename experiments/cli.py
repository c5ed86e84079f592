"""The command line: `dmpo train`, `evaluate`, `render`, `compare`, `report`, `bench` and `list`.

Exit status 0 for success, 2 for a mistake in what the user gave, 1 for a failure, 130 when interrupted and
143 when terminated while training.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

# Nothing that loads PyTorch, SUMO or matplotlib is imported before a command needs it.
from experiments.bench import bench
from experiments.errors import ConfigError, RunError, shown, suggestion
from experiments.exit_status import StoppedError, Terminated, is_failure, said, status_of

if TYPE_CHECKING:
    from experiments.progress import ProgressBar
    from experiments.runs.runner import Outcome

app = typer.Typer(
    help="Multi-agent reinforcement learning of road users that talk to neighbors on a graph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to change, for instance train.seed=3.")
]


@dataclass(frozen=True)
class Program:
    """What goes before the command; `call` is how it was written."""

    modules: list[str]

    @property
    def call(self) -> str:
        """How the program was called."""
        return " ".join(["dmpo", *(f"--import {module}" for module in self.modules)])


@app.callback()
def options(
    context: typer.Context,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module, perhaps from this folder, that registers scenarios, graphs, observations or "
            "controllers; may be given several times.",
        ),
    ] = None,
) -> None:
    """What goes before the command."""
    context.obj = Program(modules or [])
    if modules:
        from experiments.imports import import_modules

        import_modules(modules)


@app.command()
def train(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A YAML file, or the name of a preset (see `dmpo list`).")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run; runs/NAME-seedSEED if left out.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on with the run in this folder instead of beginning one.")
    ] = None,
) -> None:
    """Train an experiment, evaluate it on the way and at the end, and write everything into a folder."""
    values = overrides or []
    if file is not None and "=" in file and not Path(file).is_file():
        values.insert(0, file)
        file = None
    if resume is not None:
        _resume(file, values, output, resume, context.obj.call)
    elif file is None:
        raise ConfigError(f"FILE: missing; {_presets()}")
    else:
        _train(file, values, output, context.obj.call)


@app.command()
def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="RUN_DIR", help="The folder of a run; for controllers alone, also a scenario.")
    ],
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what is found here, as JSON.")] = None,
) -> None:
    """Evaluate a trained policy beside classical controllers; also on another graph, size or scenario setting.

    Without a policy: `dmpo evaluate ring` compares the controllers in a scenario (or in that of a YAML file or preset),
    and `dmpo evaluate ring controller.name=idm controller.time_gap=1.2` evaluates one.
    """
    import json

    from experiments.runs.folder import write_whole

    values = overrides or []
    alone = not os.path.isdir(what) or any(value.startswith("controller.") for value in values)
    found = _evaluate_controllers(what, values) if alone else _evaluate_run(Path(what), values)
    if output is not None:
        write_whole(output, json.dumps(found, indent=1) + "\n")


@app.command()
def render(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of a run, finished or not.")],
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the pictures; RUN_DIR/film if left out.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, help="Simulated steps of 0.1 s to show; the whole episode if left out.")
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="Number of the reference start, as in evaluation.json.")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Simulated steps from one picture of the film to the next.")] = 3,
    fps: Annotated[int, typer.Option(min=1, max=50, help="Pictures a second.")] = 20,
    gui: Annotated[bool, typer.Option("--gui", help="Drive in SUMO's own window instead of making pictures.")] = False,
) -> None:
    """Draw one episode of a trained policy in time and space, and film it from above: MP4 with ffmpeg, else GIF."""
    from experiments.runs import rendering
    from experiments.runs.folder import RunFolder

    folder, shot = RunFolder.existing(run), rendering.RenderSettings(steps, start, every, fps)
    if gui:
        rendering.show(folder, overrides or [], shot, _note)
        return
    for path in rendering.render(folder, overrides or [], shot, output or run / "film", _note):
        typer.echo(str(path))


@app.command()
def compare(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE... [KEY=VALUE]...", help="YAML files or presets, and values for all of them."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Runs of each, from train.seed on.")] = 5,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the comparison; what is finished there stays.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Runs side by side; as many as cores if left out.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Joblib backend of a cluster: dask, ray, …; this machine if left out."),
    ] = None,
) -> None:
    """Train files, or the combinations in their part `compare:`, with several seeds each, side by side."""
    given = files or []
    values = [word for word in given if "=" in word and not Path(word).is_file()]
    _compare([word for word in given if word not in values], values, seeds, output, jobs, backend, context.obj)


@app.command(hidden=True)
def job() -> None:
    """Make one run of a comparison, told on the standard input by `dmpo compare`."""
    from experiments.comparisons import job

    try:
        job.run_job_from_stdin()
    except KeyboardInterrupt as error:
        raise StoppedError("stopped", status_of(error)) from None


@app.command()
def report(
    context: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Folders of finished runs, where NAME-seed0, NAME-seed1, … are one variant, or of comparisons.",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the report.")] = Path("report"),
    title: Annotated[str, typer.Option(help="Of the page.")] = "Comparison",
) -> None:
    """Compare finished runs: statistics, pictures and one HTML page that needs nothing else."""
    import shlex

    from experiments.comparisons import comparison
    from experiments.comparisons import report as reports

    options = ["--output", str(output), "--title", title]
    command = f"{context.obj.call} report {shlex.join([*map(str, runs), *options])}"
    page = reports.write(comparison.gather(runs), output, title, command)
    typer.echo(f"The report is {page}; open it in a browser")


@app.command("list")
def list_all(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show only what has this name.")] = None,
) -> None:
    """List presets, scenarios, graphs, algorithms and controllers with their parameters."""
    from rich.console import Console

    from experiments import tables

    if name is not None and name not in tables.known_names():
        raise ConfigError(f"NAME: {shown(name)} is unknown; {suggestion(name, tables.known_names())}")
    console = Console()
    for table in tables.listing(name):
        console.print(table)


app.command()(bench)


def main() -> NoReturn:
    """Run the command line; whatever the user gave wrongly ends in one message and status 2."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except ConfigError as error:
        _fail(str(error), status=2)
    except StoppedError as error:
        _fail(str(error), status=error.status)
    except Exception as error:
        if not is_failure(error):
            raise
        _fail(said(error), status=1)
    sys.exit(0)


def _train(file: str, values: list[str], output: Path | None, program: str) -> None:
    from experiments.config import loading
    from experiments.runs import runner

    loaded = loading.load(file, values)
    for note in loaded.notes:
        _note(note)
    experiment = loaded.experiment
    folder = output or Path("runs") / f"{experiment.name}-seed{experiment.train.seed}"
    with _going_on(folder, program), _progress(experiment.name) as progress:
        outcome = runner.train(experiment, folder, progress)
    _report(outcome)


def _resume(file: str | None, values: list[str], output: Path | None, path: Path, program: str) -> None:
    from experiments.config import loading
    from experiments.runs import runner
    from experiments.runs.folder import RunFolder

    if output is not None:
        raise ConfigError(f"--output: {shown(str(output))} is not possible with --resume, which keeps its folder")
    folder = RunFolder.existing(path)
    begun = loading.load(folder.config).experiment
    loaded = loading.load(file or folder.config, values)
    for note in loaded.notes:
        _note(note)
    loading.check_unchanged(begun, loaded.experiment, runner.FREE_TO_CHANGE, "and going on with it may not change that")
    with _going_on(path, program), _progress(begun.name) as progress:
        outcome = runner.resume(loaded.experiment, folder, progress)
    if outcome.was_finished:
        steps = outcome.report["env_steps"]
        typer.echo(f"The run in {path} is finished ({steps:,} steps); with train.env_steps={2 * steps} it would go on.")
    _report(outcome)


def _compare(
    files: list[str],
    values: list[str],
    seeds: int,
    output: Path | None,
    jobs: int | None,
    backend: str | None,
    program: Program,
) -> None:
    if not files:
        raise ConfigError(f"FILE: missing; {_presets()}")
    if output is None:
        raise ConfigError("--output: missing; give the folder of the comparison, a new one or one to go on with")
    from rich.console import Console

    from experiments.comparisons import compare
    from experiments.comparisons.runs_progress import RunsProgress

    plan = compare.plan(files, values, seeds)
    for note in plan.notes:
        _note(note)
    runs = zip(plan.wanted.runs, plan.experiments, strict=True)
    steps = {run.name: (output / run.folder / "metrics.jsonl", each.train.env_steps) for run, each in runs}
    try:
        with RunsProgress(steps) as progress:
            failed = compare.run(plan, output, progress, program.modules, jobs, backend)
    except KeyboardInterrupt as error:
        raise StoppedError("stopped; the same command goes on with it", status_of(error)) from None
    compare.conclude(output, Console(), program.call)
    typer.echo(f"Everything is in {output}")
    if failed:
        lines = [f"{each.run.name}: {each.failure.message}" for each in failed]
        count = f"{len(failed)} of {len(plan.experiments)} runs failed; the same command tries them anew"
        raise RunError("\n".join([*lines, count]))


def _evaluate_run(run: Path, values: list[str]) -> dict[str, Any]:
    from experiments.runs.evaluation import evaluate_run
    from experiments.runs.folder import RunFolder

    found = evaluate_run(RunFolder.existing(run), values, _note)
    _print_comparison(found, " ".join([f"{run} after {found['env_steps']:,} steps", *values]))
    return found


def _evaluate_controllers(what: str, values: list[str]) -> dict[str, Any]:
    from rich.console import Console

    from experiments import tables
    from experiments.runs import controllers

    loaded = controllers.load(what, values)
    for note in loaded.notes:
        _note(note)
    found = controllers.evaluate(loaded)
    Console().print(tables.controllers(found["controllers"], found["starts"], " ".join([what, *values])))
    return found


@contextmanager
def _going_on(folder: Path, program: str) -> Iterator[None]:
    """Say how to go on, with the program as it was called, when a run stops before its end."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(f"stopped; {_how_to_go_on(folder, program)}", status_of(error)) from None
    except Exception as error:
        if not is_failure(error):
            raise
        raise RunError(f"{said(error)}; {_how_to_go_on(folder, program)}") from error


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


def _presets() -> str:
    from experiments.config import loading

    return f"give a YAML file or one of the presets {', '.join(loading.presets())}"


def _note(note: str) -> None:
    typer.echo(f"note: {note}", err=True)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _fail(message: str, status: int) -> NoReturn:
    for line in message.splitlines():
        sys.stderr.write(f"error: {line}\n")
    sys.exit(status)
