import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

import dmpo
from experiments.errors import ConfigError, RunError
from experiments.folder import MetricsLog, RunFolder, write_whole


def test_lines_are_written_in_order_and_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with MetricsLog(folder.metrics) as log:
        log.write({"env_steps": 0})
        log.write({"env_steps": 1, "a": math.nan, "b": math.inf})
        assert log.sync() == folder.metrics.stat().st_size
    assert folder.read_metrics() == [{"env_steps": 0}, {"env_steps": 1, "a": None, "b": None}]


def test_what_lies_behind_the_checkpoint_is_taken_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with MetricsLog(folder.metrics) as log:
        log.write({"n": 0})
        known = log.sync()
        log.write({"n": 1})
    with folder.metrics.open("ab") as file:
        file.write(b'{"n": 2, "half a li')
    assert [line["n"] for line in folder.read_metrics()] == [0, 1]
    with MetricsLog(folder.metrics, known) as log:
        log.write({"n": 3})
    assert [line["n"] for line in folder.read_metrics()] == [0, 3]


def test_lost_lines_are_noticed_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"n": 0}\n', encoding="utf-8")
    with pytest.raises(RunError, match="lines are lost"):
        MetricsLog(path, 100)
    assert path.read_text(encoding="utf-8") == '{"n": 0}\n'


def test_two_processes_do_not_write_the_same_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write({"n": 0})
        with pytest.raises(RunError, match="another process"):
            MetricsLog(path)
    with MetricsLog(path, path.stat().st_size):
        assert json.loads(path.read_text(encoding="utf-8")) == {"n": 0}


def test_a_file_is_whole_or_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "old"


def test_a_new_run_takes_an_absent_or_empty_folder(tmp_path: Path) -> None:
    assert RunFolder.new(tmp_path / "runs" / "a").path == tmp_path / "runs" / "a"
    assert RunFolder.new(tmp_path).path == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_takes_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("mine", encoding="utf-8")
    for path, what in ((tmp_path, "not empty"), (file, "is a file"), (Path("x" * 999), "too long")):
        with pytest.raises(ConfigError, match=what):
            RunFolder.new(path)
    with pytest.raises(ConfigError, match="cannot be used"):
        RunFolder(file / "run").create("name: x\n")


def test_a_run_that_was_begun_is_named_in_the_refusal(tmp_path: Path) -> None:
    RunFolder(tmp_path).create("name: x\n")
    with pytest.raises(ConfigError, match=f"dmpo train --resume {tmp_path}"):
        RunFolder.new(tmp_path)
    assert RunFolder.existing(tmp_path).config.read_text(encoding="utf-8") == "name: x\n"


def test_another_folder_is_no_run(tmp_path: Path) -> None:
    for path, what in ((tmp_path, "holds no config.yaml"), (tmp_path / "absent", "does not exist")):
        with pytest.raises(ConfigError, match=what):
            RunFolder.existing(path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create("name: x\n")
    dmpo.save_checkpoint(folder.checkpoint, {"env_steps": 3})
    with pytest.raises(dmpo.CheckpointError, match="lacks metrics_bytes"):
        folder.load_state()


def test_an_episode_is_kept_in_single_precision(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_trajectory() is None
    position = np.random.default_rng(0).uniform(0, 270, (30, 4))
    for _ in range(2):  # the second time over the first
        folder.write_trajectory({"position": position}, 0.5)
    found = folder.read_trajectory()
    assert found is not None
    assert found["position"] == pytest.approx(position, rel=1e-6)
    assert found["position"].dtype == np.float32
    assert float(found["step_seconds"]) == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["trajectory.npz"]
