"""The command line: `dmpo train`, `evaluate`, `render`, `compare`, `report`, `migrate`, `bench` and `list`.

Exit status 0 for success, 2 for a mistake in what the user gave, 1 for a failure, 130 when interrupted and
143 when terminated while training.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

# Nothing that loads PyTorch, SUMO or matplotlib is imported before a command needs it.
from experiments import commands
from experiments.bench import bench
from experiments.errors import ConfigError, shown, suggestion
from experiments.exit_status import StoppedError, Terminated, failure_message, interrupt_status, is_failure

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


@app.callback()
def options(
    context: typer.Context,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module, perhaps from this folder, that registers scenarios, graphs, learners, "
            "observations or controllers; may be given several times.",
        ),
    ] = None,
) -> None:
    """Options before the command."""
    context.obj = commands.Program(modules or [])
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
        commands.resume(file, values, output, resume, context.obj.call)
    elif file is None:
        raise ConfigError(f"FILE: missing; {commands.preset_hint()}")
    else:
        commands.train(file, values, output, context.obj.call)


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
    found = commands.evaluate_controllers(what, values) if alone else commands.evaluate_run(Path(what), values)
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
        rendering.show(folder, overrides or [], shot, commands.note)
        return
    for path in rendering.render(folder, overrides or [], shot, output or run / "film", commands.note):
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
    commands.compare([word for word in given if word not in values], values, seeds, output, jobs, backend, context.obj)


@app.command(hidden=True)
def job() -> None:
    """Make one run of a comparison, told on the standard input by `dmpo compare`."""
    from experiments.comparisons import job

    try:
        job.run_job_from_stdin()
    except KeyboardInterrupt as error:
        raise StoppedError("stopped", interrupt_status(error)) from None


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


@app.command()
def migrate(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A YAML file, or the folder of a run or a comparison.")],
) -> None:
    """Rewrite what an older version wrote: settings, metrics and checkpoints get the names that they have now.

    The old YAML file is kept beside the new one, as FILE.format1.
    """
    from experiments.migration import migrate

    count = migrate(path, commands.note)
    typer.echo(f"{path} is of the present format" + (f"; rewritten: {count}" if count else " already"))


@app.command("list")
def list_all(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Tell what is behind this name.")] = None,
) -> None:
    """List scenarios, graphs, algorithms, controllers, presets and metrics; with a name, all settings behind it."""
    from rich.console import Console

    from experiments import listing

    if name is not None and name not in listing.names():
        raise ConfigError(f"NAME: {shown(name)} is unknown; {suggestion(name, listing.names())}")
    Console(highlight=False).print(*(listing.overview() if name is None else listing.details(name)), sep="\n")


app.command()(bench)


def main() -> NoReturn:
    """Run the command line; a mistake in what the user gave ends in one message and status 2."""
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
        _fail(failure_message(error), status=1)
    sys.exit(0)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _fail(message: str, status: int) -> NoReturn:
    for line in message.splitlines():
        sys.stderr.write(f"error: {line}\n")
    sys.exit(status)
