from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.runs.records import check_distinct, read_named
from tests.experiments.comparing import make_run


def test_a_run_has_the_name_of_its_folder_less_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in (("a-seed12", 12), ("b", 0)):
        make_run(tmp_path / "made", "a", seed, [-9.0]).folder.path.rename(tmp_path / name)
    found = [read_named(tmp_path / name) for name in ("a-seed12", "b")]
    assert [(run.label, run.experiment.train.seed) for run in found] == [("a", 12), ("b", 0)]
    monkeypatch.chdir(tmp_path / "a-seed12")
    assert read_named(Path(".")).label == "a"


def test_two_runs_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    first, second, other = (make_run(tmp_path, "a", seed, [-9.0]) for seed in (0, 0, 1))
    check_distinct([first, other])
    with pytest.raises(ConfigError, match=r'are both "a" with seed 0'):
        check_distinct([first, other, second])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        read_named(tmp_path)
