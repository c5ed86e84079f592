import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import dmpo
from experiments.errors import ConfigError, RunError
from experiments.runs.folder import MetricsLog, RunFolder, write_whole
from tests.faults import file_size_limit


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


def test_nothing_is_taken_back_before_a_line_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"n": 0}\n{"n": 1}\n', encoding="utf-8")
    with MetricsLog(path, 9) as log:
        assert path.read_text(encoding="utf-8") == '{"n": 0}\n{"n": 1}\n'
        log.write({"n": 2})
        assert path.read_text(encoding="utf-8") == '{"n": 0}\n{"n": 2}\n'


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"n": 0}\n{"n": 1}\n\0\0\0\0\0\0\0\0\n', "line 3 is no JSON object"),
        (b'{"n": 0}\n{"n":\n{"n": 2222222}\n', "line 2 is no JSON object"),
        (b'{"n": 0}\n[1, 2, 3]\n{"n": 22}\n', "line 2 is no JSON object"),
        (b'\xff\xfe 0}\n{"n": 1}\n{"n": 2}\n', "line 1 is no JSON object"),
        (b'{"n": 0}\n{"n": 1}\n{"n": 2222}', "no end of a line"),
    ],
)
def test_damaged_lines_are_noticed_and_nothing_is_changed(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=what):
        MetricsLog(path, len(content))
    if "no JSON" in what:
        with pytest.raises(RunError, match=what):
            RunFolder(tmp_path).read_metrics()
    assert path.read_bytes() == content


def test_a_line_is_there_whole_or_not_at_all_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write({"n": 0})
        for room in (9, 10, 20):
            with file_size_limit(room), pytest.raises(OSError, match=r"File too large: .*metrics.jsonl"):
                log.write({"n": "x" * 100})
            assert path.read_text(encoding="utf-8") == '{"n": 0}\n'
        log.write({"n": 1})
    assert [line["n"] for line in RunFolder(tmp_path).read_metrics()] == [0, 1]


def test_metrics_that_were_deleted_or_moved_are_missed_before_a_checkpoint_counts_them(tmp_path: Path) -> None:
    for path, remove in ((tmp_path / "deleted", Path.unlink), (tmp_path / "moved", lambda p: p.rename(tmp_path / "x"))):
        with MetricsLog(path) as log:
            log.write({"n": 0})
            remove(path)
            with pytest.raises(RunError, match="moved or deleted"):
                log.sync()


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for content in ("", "[]", "{}", '{"env_steps": 3', "\0" * 9):
        folder.evaluation.write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=r"evaluation.json is damaged.*delete it"):
            folder.read_report()


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


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    (tmp_path / "a.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device: '.*a.json'"):
        write_whole(path, "new")
    with file_size_limit(2), pytest.raises(OSError, match="File too large: '.*a.json'"):
        write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_that_may_not_be_written_to_is_refused() -> None:
    # Beside pytest's own folders, which others may not even enter.
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o555)
        me = os.geteuid()
        os.seteuid(me or 65534)  # root may write anywhere
        try:
            with pytest.raises(ConfigError, match=r"--output: .*cannot be used: Permission denied"):
                RunFolder(Path(name) / "run").create("name: x\n")
        finally:
            os.seteuid(me)


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


@pytest.mark.parametrize("changed", [{"trainer": 3}, {"metrics_bytes": "9"}, {"env_steps": None}, {"wall_seconds": []}])
def test_a_checkpoint_with_something_else_under_its_names_is_refused(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    folder = RunFolder(tmp_path)
    folder.create("name: x\n")
    state = {"env_steps": 3, "metrics_bytes": 9, "wall_seconds": 1.0, "trainer": {}}
    dmpo.save_checkpoint(folder.checkpoint, state | changed)
    with pytest.raises(dmpo.CheckpointError, match=f"lacks {next(iter(changed))}"):
        folder.load_state()
