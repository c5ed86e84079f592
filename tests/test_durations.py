"""The fast part of the tests is fast, and stays so."""

from pathlib import Path

import pytest

from tests import durations

ROOT = Path(__file__).parents[1]
MADE_UP = """
    import time

    def test_fast():
        pass

    def test_busy():
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    def test_waiting():
        time.sleep(0.3)
"""


@pytest.fixture
def made_up(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Three tests, of which two are slow by the limits that are set here."""
    monkeypatch.setattr(durations, "SECONDS", 0.1)
    monkeypatch.setattr(durations, "WAITING", 0.25)
    monkeypatch.setattr(durations, "LIBRARIES", ())
    monkeypatch.setattr(durations, "LIST", pytester.path / "slow.txt")
    (pytester.path / "slow.txt").touch()
    pytester.makepyfile(test_made_up=MADE_UP)
    return pytester


def test_a_slow_test_that_is_not_listed_fails(made_up: pytest.Pytester) -> None:
    result = made_up.inline_run("--limit", plugins=[durations])
    failed = {report.nodeid for report in result.getreports() if getattr(report, "failed", False)}
    assert failed == {"test_made_up.py::test_busy", "test_made_up.py::test_waiting"}


def test_the_list_is_written_and_marks_what_it_names(made_up: pytest.Pytester) -> None:
    made_up.inline_run("--write-slow", plugins=[durations]).assertoutcome(passed=3)
    assert durations.listed() == {"test_made_up.py::test_busy", "test_made_up.py::test_waiting"}
    made_up.inline_run("--limit", plugins=[durations]).assertoutcome(passed=3)
    made_up.inline_run("--limit", "-m", "not slow", plugins=[durations]).assertoutcome(passed=1)


def test_every_name_on_the_list_is_that_of_a_test() -> None:
    for test in durations.listed():
        path, _, function = test.partition("::")
        assert f"def {function.rpartition('::')[2]}(" in (ROOT / path).read_text(encoding="utf-8"), test
