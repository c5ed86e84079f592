"""Runs of format 1, in `tests/data/format_1`, are refused until `dmpo migrate` has rewritten them, and then go on."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmpo import CheckpointError, load_checkpoint, save_checkpoint
from experiments.config import formats
from experiments.runs.folder import RunFolder
from tests.experiments.conftest import metrics_of

DATA = Path(__file__).parents[1] / "data" / "format_1"
RUNS = ["dmpo", "dmpo_sac", "ic3net"]
Command = Callable[..., Any]


@pytest.fixture
def run(folder: Path) -> Path:
    """A run of format 1 in the working directory."""
    shutil.copytree(DATA / "ic3net", "run")
    return Path("run")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["dmpo", "dmpo_sac"])
def test_a_run_from_before_ends_had_an_agent_is_evaluated_but_does_not_go_on(
    dmpo: Command, folder: Path, name: str
) -> None:
    shutil.copytree(DATA / name, name)
    assert dmpo("migrate", name).status == 0
    before = contents(folder)
    result = dmpo("train", "--resume", name, "train.env_steps=400")
    assert result.status == 1 and len(result.err.splitlines()) == 1
    assert "its recorded steps do not say which agent's state ended an episode" in result.err
    assert contents(folder) == before
    assert dmpo("evaluate", name).status == 0


@pytest.mark.parametrize("name", ["ic3net"])
def test_a_migrated_run_goes_on_as_the_old_program_did(dmpo: Command, folder: Path, name: str) -> None:
    shutil.copytree(DATA / name, name)
    assert dmpo("migrate", name).status == 0
    assert dmpo("train", "--resume", name, "train.env_steps=400").status == 0
    old = [{formats.renamed_metric(k): v for k, v in line.items()} for line in metrics_of(DATA / f"{name}-longer")]
    new = metrics_of(folder / name)
    assert len(new) == len(old)
    for after, before in zip(new, old, strict=True):
        assert after == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("arguments", [["train", "--resume", "run"], ["evaluate", "run"], ["render", "run"],
                                       ["report", "run"], ["compare", "run/config.yaml", "--output", "x"],
                                       ["train", "run/config.yaml"]])  # fmt: skip
def test_a_run_of_format_1_is_refused_everywhere_in_one_sentence(
    dmpo: Command, run: Path, arguments: list[str]
) -> None:
    before = contents(run)
    result = dmpo(*arguments)
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    assert result.err.endswith("rewrite it with: dmpo migrate run\n")
    assert contents(run) == before


def test_a_checkpoint_of_format_1_in_a_run_of_format_2_is_refused(dmpo: Command, run: Path) -> None:
    old = (run / "checkpoint" / "newest.pt").read_bytes()
    assert dmpo("migrate", run).status == 0
    (run / "checkpoint" / "newest.pt").write_bytes(old)
    for arguments in (["train", "--resume", run, "train.env_steps=400"], ["evaluate", run]):
        result = dmpo(*arguments)
        assert result.status == 2
        assert "has version 1, and this program reads version 2; rewrite its run with: dmpo migrate run" in result.err


def test_a_checkpoint_of_a_newer_version_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dmpo.checkpoint.VERSION", 3)
        save_checkpoint("new.pt", {})
    with pytest.raises(CheckpointError, match="written by a newer version of dmpo"):
        load_checkpoint("new.pt")


def test_a_file_keeps_its_old_self_beside_it(dmpo: Command, folder: Path) -> None:
    shutil.copy(DATA / "dmpo.yaml", "mine.yaml")
    result = dmpo("migrate", "mine.yaml")
    assert (result.status, result.err) == (0, "")
    assert Path("mine.yaml.format1").read_bytes() == (DATA / "dmpo.yaml").read_bytes()
    again = dmpo("migrate", "mine.yaml")
    assert again.status == 0 and "already" in again.out
    shutil.copy(DATA / "dmpo.yaml", "mine.yaml")
    result = dmpo("migrate", "mine.yaml")
    assert result.status == 2 and "move it away" in result.err


def test_what_is_lost_is_told(dmpo: Command, folder: Path) -> None:
    Path("a.yaml").write_text("algorithm: {name: dsac, overlap: true}\n", encoding="utf-8")
    assert "note: a.yaml: algorithm.overlap: true is left out" in dmpo("migrate", "a.yaml").err


@pytest.mark.parametrize("moves", range(5))
def test_a_kill_leaves_a_run_that_the_same_command_completes(
    dmpo: Command, run: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    shutil.copytree(run, "whole")
    assert dmpo("migrate", "whole").status == 0
    replace, done = os.replace, []

    def killed(source: Any, target: Any) -> None:
        if Path(source).name != "newest.pt.partial" and "migration" in str(source) and "partial" not in str(target):
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        dmpo("migrate", run)
    assert dmpo("evaluate", run).status == 2
    assert dmpo("migrate", run).status == 0
    assert contents(run).keys() == contents(Path("whole")).keys()
    for name, content in contents(Path("whole")).items():
        assert name.endswith(".pt") or contents(run)[name] == content
    assert RunFolder(run).load_state()["env_steps"] == 200


def test_a_comparison_is_migrated_with_all_its_runs(dmpo: Command, folder: Path) -> None:
    for seed in range(2):
        shutil.copytree(DATA / "ic3net", f"all/runs/ic3net-seed{seed}")
    comparison = {"overrides": ["algorithm.hidden=4", "train.threads=1"]}
    Path("all/comparison.json").write_text(json.dumps(comparison), encoding="utf-8")
    refused = dmpo("evaluate", "all/runs/ic3net-seed0")
    assert refused.err.endswith("rewrite it with: dmpo migrate all\n")
    assert "rewritten: 2" in dmpo("migrate", "all").out
    migrated = json.loads(Path("all/comparison.json").read_text(encoding="utf-8"))
    assert migrated["overrides"] == ["algorithm.hidden_size=4", "train.threads=1"]
    for seed in range(2):
        report = RunFolder(Path(f"all/runs/ic3net-seed{seed}"))
        assert "policy/gradient_steps" in report.read_metrics()[-1]


@pytest.mark.parametrize("name", ["evaluation.json", "metrics.jsonl", "checkpoint/newest.pt", "config.yaml"])
def test_a_damaged_run_is_refused_and_left_alone(dmpo: Command, run: Path, name: str) -> None:
    (run / name).write_bytes(b"[\n")
    before = contents(run)
    result = dmpo("migrate", run)
    assert result.status in (1, 2)
    assert "Traceback" not in result.err
    assert {key: value for key, value in contents(run).items() if "partial" not in key} == before


@pytest.mark.parametrize("path", ["absent", "folder"])
def test_what_is_not_there_cannot_be_migrated(dmpo: Command, folder: Path, path: str) -> None:
    (folder / "folder").mkdir()
    assert dmpo("migrate", path).status == 2
