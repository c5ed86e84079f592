"""Durations of tests: the marker `slow` on those over a second, which tests/slow.txt lists.

    pytest -m "not slow" --limit          # fails a test that takes over a second and is not on the list
    pytest --write-slow                   # writes the list anew, from all tests

Seconds are those of the processor, in this process and in those that it has started and that have ended, so that other
work on the machine changes little. A test that waits longer than `WAITING` on the clock is slow as well.
"""

import os
import time
from collections import defaultdict
from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

LIST = Path(__file__).with_name("slow.txt")
SECONDS = 1.0
WAITING = 3.0
# Loaded once in a process, by whichever test comes first.
LIBRARIES = (
    "torch_geometric.nn",
    "torch._dynamo",
    "matplotlib.pyplot",
    "scipy.stats",
    "pettingzoo",
    "jinja2",
    "joblib",
)


class Taken(NamedTuple):
    """Seconds of a processor, and on the clock."""

    processor: float
    clock: float

    @classmethod
    def now(cls) -> "Taken":
        """Seconds up to now, of which only differences count."""
        return cls(sum(os.times()[:4]), time.perf_counter())

    def __sub__(self, other: "Taken") -> "Taken":
        return Taken(self.processor - other.processor, self.clock - other.clock)

    @property
    def slow(self) -> bool:
        """Whether a test that takes so long is left out of the fast part."""
        return self.processor > SECONDS or self.clock > WAITING


def name(nodeid: str) -> str:
    """The name of a test in the list: without parameters, so that all of them are slow, or none."""
    return nodeid.partition("[")[0]


def listed() -> set[str]:
    """The slow tests."""
    return set(LIST.read_text(encoding="utf-8").split())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    parser.addoption("--limit", action="store_true", help="fail tests that take over a second and are not marked slow")
    parser.addoption("--write-slow", action="store_true", help=f"write {LIST.name} anew; run all tests with it")


def pytest_configure(config: pytest.Config) -> None:
    """Measure where it is asked for."""
    config.addinivalue_line("markers", "slow: takes over a second, and is left out of `make check`")
    if config.getoption("--limit") or config.getoption("--write-slow"):
        if config.getoption("numprocesses", None) and config.getoption("--write-slow"):
            raise pytest.UsageError("--write-slow measures in one process; leave out -n")
        config.pluginmanager.register(Stopwatch(config.getoption("--write-slow")), "stopwatch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests."""
    slow = listed()
    for item in items:
        if name(item.nodeid) in slow:
            item.add_marker("slow")


class Stopwatch:
    """Stopwatch of every test, from its setup to its teardown.

    Args:
        write: whether the slow ones are written into the list; otherwise they fail where they are not on it.
    """

    def __init__(self, write: bool) -> None:
        self.write = write
        self.taken: dict[str, list[Taken]] = defaultdict(list)

    def pytest_sessionstart(self) -> None:
        """Load libraries that would be charged to the first test."""
        for library in LIBRARIES:
            import_module(library)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure one test."""
        item.stash[STARTED] = start = Taken.now()
        result = yield
        self.taken[name(item.nodeid)].append(Taken.now() - start)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a test at its end that is slow and not marked so."""
        result = yield
        taken = Taken.now() - item.stash[STARTED]
        if not self.write and taken.slow and item.get_closest_marker("slow") is None:
            seconds = f"{taken.processor:.1f} s of a processor and {taken.clock:.1f} s on the clock"
            pytest.fail(f"took {seconds}: make it faster, or add it to tests/{LIST.name}", pytrace=False)
        return result

    def pytest_sessionfinish(self) -> None:
        """Write the list."""
        if self.write:
            slow = sorted(test for test, taken in self.taken.items() if any(each.slow for each in taken))
            LIST.write_text("\n".join(slow) + "\n", encoding="utf-8")


STARTED: pytest.StashKey[Taken] = pytest.StashKey()
