"""Variants × seeds, trained in processes side by side; whatever is finished or begun already is not done again."""

import os
import shlex
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

import joblib
from rich.console import Console

from experiments.comparisons import comparison, variants
from experiments.comparisons.comparison import Comparison, ComparisonRun
from experiments.comparisons.job import Failure, RunJob, Supervisor, is_done
from experiments.config import loading
from experiments.config.schema import Experiment
from experiments.errors import ConfigError, RunError, shown

_LOCAL = ("threading", "loky", "multiprocessing", "sequential")
_CLUSTERS = (
    "Backends of clusters are dask (pip install distributed) and ray (pip install ray), and what a module registers "
    "with joblib: dmpo --import MODULE compare, where the module may also connect to the cluster"
)


class ComparisonCallback(Protocol):
    """Callback that is notified when a run of a comparison ends."""

    def finished(self, run: str) -> None:
        """A run has come to its end."""

    def failed(self, run: str, message: str) -> None:
        """A run could not go on."""


@dataclass(frozen=True)
class Plan:
    """Checked runs, in order: what they are called, and what each of them is.

    Attributes:
        notes: on what overrides made void.
    """

    wanted: Comparison
    experiments: list[Experiment]
    evaluate_on: list[variants.EvaluateOn]
    notes: list[str]


@dataclass(frozen=True)
class FailedRun:
    """A run that could not be finished."""

    run: ComparisonRun
    failure: Failure


def plan(files: Sequence[str], overrides: Sequence[str], seeds: int) -> Plan:
    """All runs of the variants in files and presets: each with its own `train.seed`, and the numbers that follow.

    Raises:
        ConfigError: anything in any of them that cannot be run.
    """
    found, notes = variants.load(files, overrides)
    runs = [(variant, variant.seeded(number)) for number in range(seeds) for variant in found]
    entries = [_comparison_run(variant, experiment) for variant, experiment in runs]
    wanted = Comparison.of(files, overrides, entries)
    return Plan(wanted, [experiment for _, experiment in runs], [v.evaluate_on for v, _ in runs], notes)


def run(
    plan: Plan,
    output: Path,
    callback: ComparisonCallback,
    modules: Sequence[str],
    jobs: int | None = None,
    backend: str | None = None,
) -> list[FailedRun]:
    """Make what is missing of the runs, all in the folder's comparison; returns those that could not be finished.

    Args:
        plan: what is wanted.
        output: folder of the comparison.
        callback: notified of each run's end.
        modules: to be imported by each run, for what they register.
        jobs: runs side by side; the processor's cores, or what a cluster has, if left out.
        backend: joblib's, of a cluster; this machine if left out.

    Raises:
        ConfigError: the folder or the backend cannot be used for it; no run was begun then.
        RunError: the cluster failed.
    """
    parallel = _parallel(jobs, backend)
    failed: list[FailedRun] = []
    with comparison.opened(output, plan.wanted, plan.experiments):
        missing = []
        for entry, job in zip(plan.wanted.runs, _jobs(plan, output, modules), strict=True):
            if is_done(job):
                callback.finished(entry.name)
            else:
                missing.append((entry, job))
        with closing(_results(parallel, missing, backend)) as results:
            for entry, failure in results:
                if failure is None:
                    callback.finished(entry.name)
                else:
                    failed.append(FailedRun(entry, failure))
                    comparison.write_failures(output, [asdict(each.run) | asdict(each.failure) for each in failed])
                    callback.failed(entry.name, failure.message)
    return failed


def conclude(output: Path, console: Console, program: str) -> None:
    """Print, and leave in the folder as a report, what the finished runs of a comparison say together."""
    # Not before the runs are done, which need no pictures: loading these takes a second.
    from experiments import tables
    from experiments.comparisons import report

    records = comparison.read(output)
    if not records:
        return
    for table in tables.over_seeds(records):
        console.print(table)
    whole = comparison.load(output)
    words = [*whole.files, *whole.overrides, "--seeds", str(len(whole.seeds)), "--output", str(output)]
    page = report.write(records, output, whole.title, f"{program} compare {shlex.join(words)}")
    console.print(f"The report is {page}; open it in a browser", soft_wrap=True, highlight=False, markup=False)


def _comparison_run(variant: variants.Variant, experiment: Experiment) -> ComparisonRun:
    seed = experiment.train.seed
    return ComparisonRun(variant.label, experiment.scenario.name, seed, f"runs/{variant.stem}-seed{seed}")


def _jobs(plan: Plan, output: Path, modules: Sequence[str]) -> Iterator[RunJob]:
    for entry, experiment, evaluate_on in zip(plan.wanted.runs, plan.experiments, plan.evaluate_on, strict=True):
        folder = str((output / entry.folder).absolute())
        yield RunJob(folder, loading.dump(experiment), evaluate_on, list(modules), os.getcwd())


def _results(
    parallel: joblib.Parallel, missing: Sequence[tuple[ComparisonRun, RunJob]], backend: str | None
) -> Generator[tuple[ComparisonRun, Failure | None]]:
    """Do the jobs; give each run as it ends, with its failure if there was one."""
    supervisor = Supervisor()
    try:
        yield from parallel(joblib.delayed(_supervised)(supervisor, entry, job) for entry, job in missing)
    except Exception as error:
        if backend is None:
            raise
        raise RunError(f"--backend {backend}: {type(error).__name__}: {error}") from error
    finally:
        supervisor.stop()


def _supervised(supervisor: Supervisor, entry: ComparisonRun, job: RunJob) -> tuple[ComparisonRun, Failure | None]:
    return entry, supervisor.run(job)


def _parallel(jobs: int | None, backend: str | None) -> joblib.Parallel:
    """Joblib on this machine's cores, or on a cluster.

    Raises:
        ConfigError: the backend is not one, is not installed, or finds no cluster.
    """
    here = {"batch_size": 1, "return_as": "generator_unordered"}
    if backend is None:
        # A thread waits for each run, which is a process of its own: one that is killed takes no other with it.
        return joblib.Parallel(n_jobs=jobs or len(os.sched_getaffinity(0)), backend="threading", **here)
    if backend in _LOCAL:
        raise ConfigError(f"--backend: {shown(backend)} is of this machine only, where every run is a process of its "
                          f"own without it; leave it out. {_CLUSTERS}")  # fmt: skip
    try:
        if backend == "ray":
            import_module("ray.util.joblib").register_ray()
        with joblib.parallel_config(backend=backend, n_jobs=jobs or -1):
            return joblib.Parallel(**here)
    except Exception as error:  # each backend has its own
        reason = " ".join(str(error).split())
        raise ConfigError(f"--backend: {shown(backend)} cannot be used: {reason}. {_CLUSTERS}") from error
