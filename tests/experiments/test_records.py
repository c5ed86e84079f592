from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.records import read_records

from .comparing import make_run


def test_folders_of_one_name_with_several_seeds_are_one_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("a-seed0", 0), ("a-seed12", 12), ("b", 0)):
        make_run(tmp_path / "made", "a", seed, [-9.0]).folder.path.rename(tmp_path / name)
    found = read_records([tmp_path / name for name in ("a-seed0", "a-seed12", "b")])
    assert [(run.label, run.experiment.train.seed) for run in found] == [("a", 0), ("a", 12), ("b", 0)]
    monkeypatch.chdir(tmp_path / "a-seed12")
    assert read_records([Path(".")])[0].label == "a"


def test_two_runs_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        make_run(tmp_path / "made", "a", 0, [-9.0]).folder.path.rename(tmp_path / place / "a-seed0")
    with pytest.raises(ConfigError, match=r'are both "a" with seed 0'):
        read_records([tmp_path / "here" / "a-seed0", tmp_path / "there" / "a-seed0"])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        read_records([tmp_path])
