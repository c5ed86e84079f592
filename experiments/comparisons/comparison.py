"""The folder of a comparison: `comparison.json`, which lists all runs, and the runs' own folders below `runs/`.

Paths in it are relative, so that the whole can be moved and read back.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from experiments.config import loading
from experiments.config.schema import Experiment
from experiments.errors import ConfigError, RunError, shown
from experiments.runs.folder import RunFolder, write_whole
from experiments.runs.records import RunRecord, check_distinct, read_named, read_record

_FILE = "comparison.json"
_FAILURES = "failures.json"
_NAMED = 4  # files of which a title still says the names
# What a run that is there already may differ in: how many processes simulate is not seen in its results.
FREE_TO_CHANGE = ("train.workers",)


@dataclass(frozen=True)
class ComparisonRun:
    """A run of a comparison; `folder` is relative to the comparison's."""

    label: str
    scenario: str
    seed: int
    folder: str

    @property
    def name(self) -> str:
        """The name of its folder."""
        return Path(self.folder).name


@dataclass(frozen=True)
class Comparison:
    """Contents of `comparison.json`.

    Attributes:
        title: names what is compared.
        files: that it was made from, in order.
        overrides: of all of them.
        labels: of the variants, in order.
        seeds: of the runs, in order.
        runs: one for each variant and seed.
    """

    title: str
    files: list[str]
    overrides: list[str]
    labels: list[str]
    seeds: list[int]
    runs: list[ComparisonRun] = field(default_factory=list)

    @classmethod
    def of(cls, files: Sequence[str], overrides: Sequence[str], runs: Sequence[ComparisonRun]) -> Self:
        """The comparison with these runs."""
        labels, seeds = dict.fromkeys(run.label for run in runs), {run.seed for run in runs}
        title = ", ".join(Path(file).stem for file in files) if len(files) <= _NAMED else f"{len(files)} files compared"
        return cls(title, list(files), list(overrides), list(labels), sorted(seeds), list(runs))

    def extended(self, more: Self) -> Self:
        """Both comparisons in one: with the later one's overrides, and no run twice.

        Raises:
            ConfigError: a label would stand for two variants.
        """
        files = list(dict.fromkeys([*self.files, *more.files]))
        places = {(run.label, run.scenario, run.seed): run.folder for run in self.runs}
        moved = [run for run in more.runs if places.get((run.label, run.scenario, run.seed), run.folder) != run.folder]
        if moved:
            raise ConfigError(f"--output: has other runs with the label {shown(moved[0].label)} in "
                              f"{moved[0].scenario}; choose another folder")  # fmt: skip
        return self.of(files, more.overrides, list(dict.fromkeys([*self.runs, *more.runs])))


def read(path: Path) -> list[RunRecord]:
    """The finished runs of the comparison in a folder, in order of variants and seeds.

    Raises:
        ConfigError: there is no comparison in it, or a run of it is damaged.
    """
    found = [(run, RunFolder(path / run.folder)) for run in load(path).runs]
    return [read_record(run.label, folder.path) for run, folder in found if folder.evaluation.is_file()]


def gather(paths: Sequence[Path]) -> list[RunRecord]:
    """Finished runs: all of each folder that is a comparison's, with its labels, and single ones by their own names.

    Raises:
        ConfigError: a folder that is neither, a damaged one, or two runs with one label, scenario and seed.
        RunError: a single run is not finished, or no run of the comparisons is.
    """
    found = [record for path in paths for record in (read(path) if (path / _FILE).is_file() else [read_named(path)])]
    if not found:
        raise RunError(f"no run in {', '.join(map(str, paths))} is finished; dmpo compare goes on with them")
    check_distinct(found)
    return found


def load(path: Path) -> Comparison:
    """Read the `comparison.json` of a folder.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    file = path / _FILE
    if not file.is_file():
        what = f"holds no {_FILE}" if path.is_dir() else "does not exist"
        raise ConfigError(f"{shown(str(path), 300)} is not the folder of a comparison: it {what}")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Comparison(**data | {"runs": [ComparisonRun(**run) for run in data["runs"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file} is damaged: {error}; put a good copy in its place") from error


@contextmanager
def opened(path: Path, wanted: Comparison, experiments: Sequence[Experiment]) -> Iterator[Comparison]:
    """The comparison in a folder, made or extended by these runs, and kept from others meanwhile.

    Args:
        path: the folder, which may be new.
        wanted: the runs to be there.
        experiments: of each of them.

    Raises:
        ConfigError: the folder is not a comparison's, another process compares in it, or a run in it is of another
            experiment; nothing is changed then.
    """
    existed = _check_usable(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"--output: {shown(str(path), 300)} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"--output: {shown(str(path), 300)} is at work: another dmpo compare writes into it; "
                              "wait for its end or choose another folder") from None  # fmt: skip
        whole = load(path).extended(wanted) if existed else wanted
        _check_unchanged(path, wanted.runs, experiments)
        write_whole(path / _FILE, json.dumps(asdict(whole), indent=1) + "\n")
        write_failures(path, [])
        yield whole
    finally:
        os.close(descriptor)


def write_failures(path: Path, failures: Sequence[dict[str, Any]]) -> None:
    """Record which runs failed in the last attempt, and why; no file where none did."""
    file = path / _FAILURES
    if failures:
        write_whole(file, json.dumps(failures, indent=1) + "\n")
    else:
        file.unlink(missing_ok=True)


def _check_usable(path: Path) -> bool:
    """Refuse a path that holds anything but a comparison; True if it holds one already."""
    if path.is_dir():
        existed = (path / _FILE).is_file()
        if existed or not any(path.iterdir()):
            return existed
        raise ConfigError(f"--output: {shown(str(path), 300)} is not empty and holds no {_FILE}; choose another folder")
    if path.exists():
        raise ConfigError(f"--output: {shown(str(path), 300)} is a file; choose a folder")
    return False


def _check_unchanged(path: Path, runs: Sequence[ComparisonRun], experiments: Sequence[Experiment]) -> None:
    problems = []
    for run, experiment in zip(runs, experiments, strict=True):
        folder = RunFolder(path / run.folder)
        if folder.config.is_file():
            begun = loading.load(folder.config).experiment
            why = f"and {folder.path} may not become another; choose another --output"
            try:
                loading.check_unchanged(begun, experiment, FREE_TO_CHANGE, why)
            except ConfigError as error:
                problems += [f"{run.name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
