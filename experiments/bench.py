"""The command `dmpo bench`."""

import os
from pathlib import Path
from typing import Annotated

import typer


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this piece: environments, acting, parts, iteration, training or scale; "
            "may be given several times.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table here, as JSON.")] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show how many times as fast it is as in this earlier output.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less work and fewer repeats.")] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Run the DMPO iteration from end to end instead of adding up its parts.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where networks live: cpu, cuda, cuda:1, …")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Of PyTorch; as many as cores if left out.")
    ] = None,
) -> None:
    """Measure how fast everything is, beside what the machine allows and beside the obvious way."""
    # The one import upwards: the suite trains experiments, and this is what starts it.
    from benchmarks import suite
    from benchmarks.rows import Options

    chosen = threads or len(os.sched_getaffinity(0))
    options = Options(quick=quick, whole=whole, device=device, threads=chosen)
    suite.bench(only or [], options, output, against, lambda line: typer.echo(line, err=True))
