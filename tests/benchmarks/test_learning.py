"""Presets beside what they have to reach."""

import json
from pathlib import Path

import pytest
import typer

from benchmarks import learning
from experiments.config import loading


def test_every_preset_with_a_figure_exists() -> None:
    assert set(learning.FIGURES) <= set(loading.presets())


def test_runs_are_read_where_they_are_of_the_presets_as_they_are_now(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "dppo_ring-seed0"
    path.mkdir(parents=True)
    same = loading.load("dppo_ring", ["train.threads=1"]).experiment
    (path / "config.yaml").write_text(loading.dump(same), encoding="utf-8")
    (path / "metrics.jsonl").touch()
    report = {"env_steps": 1, "metrics": {"eval/return": 50.0}}
    (path / "evaluation.json").write_text(json.dumps(report), encoding="utf-8")
    [record] = learning.finished(["dppo_ring"], 1, tmp_path)["dppo_ring"]
    assert learning.FIGURES["dppo_ring"][1].of(record.report) == 22 * 50.0

    with pytest.raises(typer.BadParameter, match=r"dppo_ring-seed1 is missing; .* dmpo compare dppo_ring --seeds 2 "):
        learning.finished(["dppo_ring"], 2, tmp_path)
    other = loading.load("dppo_ring", ["algorithm.kappa=1"]).experiment
    (path / "config.yaml").write_text(loading.dump(other), encoding="utf-8")
    with pytest.raises(typer.BadParameter, match="algorithm.kappa: .* not of the preset as it is now"):
        learning.finished(["dppo_ring"], 1, tmp_path)
