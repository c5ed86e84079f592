import os
import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from dmpo import CheckpointError, load_checkpoint, save_checkpoint
from tests.faults import file_size_limit

STATE = {
    "weights": {"a": torch.arange(6.0).view(2, 3), "counts": torch.tensor([2**63], dtype=torch.uint64)},
    "steps": 12,
    "rate": 0.5,
    "name": "ring",
    "done": False,
    "nothing": None,
    "list": [1, (2.0, "three")],
}


class Hostile:
    """Leaves a trace when unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", STATE)
    loaded = load_checkpoint(tmp_path / "checkpoint")
    assert torch.equal(loaded["weights"].pop("a"), STATE["weights"]["a"])  # type: ignore[index]
    assert loaded["weights"]["counts"].numpy()[0] == 2**63
    assert {k: v for k, v in loaded.items() if k != "weights"} == {k: v for k, v in STATE.items() if k != "weights"}
    assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("broken", ["save", "fsync", "replace"])
def test_a_failure_at_any_moment_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"step": 1})
    whole_save = torch.save

    def half_a_save(content: Any, file: Any) -> None:
        whole_save(content, file)
        file.truncate(100)
        raise KeyboardInterrupt

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    if broken == "save":
        monkeypatch.setattr(torch, "save", half_a_save)
    else:
        monkeypatch.setattr(os, broken, fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path) == {"step": 1}
    save_checkpoint(path, {"step": 3})  # what was left beside it is in nobody's way
    assert load_checkpoint(path) == {"step": 3}


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(CheckpointError, match=r"state\['env'\]\[1\] is a PurePathLike"):
        save_checkpoint(path, {"env": [0, PurePathLike()]})
    assert load_checkpoint(path) == {"step": 1}


class PurePathLike:
    """Something that is no plain value."""


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x80\x02garbage", bytes(1000)])
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_tensors_of_another_program_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="not written as a checkpoint"):
        load_checkpoint(tmp_path / "other")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    torch.save({"format": "dmpo checkpoint", "version": 99, "state": {}}, tmp_path / "later")
    with pytest.raises(CheckpointError, match="version 99"):
        load_checkpoint(tmp_path / "later")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_hostile_file_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    path, trace = tmp_path / "hostile", tmp_path / "trace"
    content = {"format": "dmpo checkpoint", "version": 2, "state": Hostile(trace)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match="Nothing in it was run"):
        load_checkpoint(path)
    assert not trace.exists()


def test_no_changed_bit_goes_unnoticed(tmp_path: Path) -> None:
    path, random = tmp_path / "checkpoint", Random(0)
    state = {"weights": torch.randn(30, 20, generator=torch.Generator().manual_seed(0)), "steps": 12}
    save_checkpoint(path, state)
    content = path.read_bytes()
    harmless = 0
    for _ in range(300):
        changed = bytearray(content)
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        path.write_bytes(changed)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            continue
        harmless += 1  # in what fills the archive up, or in its dates
        assert loaded["steps"] == 12 and torch.equal(loaded["weights"], state["weights"])  # type: ignore[arg-type]
    assert harmless < 150


def test_a_full_disk_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, {"step": 1})
    for size in (0, 700, 100_000):
        with file_size_limit(size), pytest.raises(OSError, match="File too large"):
            save_checkpoint(path, {"weights": torch.zeros(100_000)})
    (tmp_path / "checkpoint.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*checkpoint'"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    torch.save({"format": "dmpo checkpoint", "version": 2, "state": {"x": torch.zeros(10**6)}}, path)
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(CheckpointError, match="as only a bomb does"):
        load_checkpoint(tmp_path / "packed")


@pytest.mark.parametrize("what", ["expanded", "sparse", "set", "itself"])
def test_what_is_no_plain_value_is_neither_saved_nor_loaded(tmp_path: Path, what: str) -> None:
    endless: list[Any] = []
    endless.append(endless)
    values = {"expanded": torch.zeros(1).expand(10**12), "sparse": torch.eye(3).to_sparse(), "set": {1}}
    content = {"x": values.get(what, endless)}
    with pytest.raises((CheckpointError, RecursionError)):
        save_checkpoint(tmp_path / "saved", content)
    assert os.listdir(tmp_path) == []
    torch.save({"format": "dmpo checkpoint", "version": 2, "state": content}, tmp_path / "hostile")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "hostile")


@pytest.mark.parametrize("state", [{}, {"state": [1]}])
def test_a_checkpoint_without_a_state_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    torch.save({"format": "dmpo checkpoint", "version": 2, **state}, tmp_path / "empty")
    with pytest.raises(CheckpointError, match="holds no state"):
        load_checkpoint(tmp_path / "empty")
