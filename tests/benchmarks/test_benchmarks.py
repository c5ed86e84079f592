"""The benchmarks measure what they say."""

import json
from pathlib import Path

import pytest

from benchmarks import env_throughput, learning
from experiments import config
from experiments.errors import ConfigError


@pytest.mark.parametrize("scenario", ["ring", "cacc_catchup"])
def test_both_rates_are_measured(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_throughput, "STEPS", 20)
    rate = env_throughput.measure(scenario, num_envs=2, workers=2, rounds=2)
    assert rate.scenario == scenario
    assert min(rate.through_envs, rate.bare) > 0


def test_every_preset_with_a_figure_exists() -> None:
    assert set(learning.FIGURES) <= set(config.presets())


def test_a_finished_run_is_read_unless_its_preset_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "dppo_ring-seed1"
    path.mkdir()
    same = config.load("dppo_ring", ["train.seed=1", "train.threads=1"]).experiment
    (path / "config.yaml").write_text(config.dump(same), encoding="utf-8")
    (path / "evaluation.json").write_text(json.dumps({"metrics": {"eval/return": 50.0}}), encoding="utf-8")
    assert learning.FIGURES["dppo_ring"][1].of(learning.run("dppo_ring", 1, tmp_path)) == 22 * 50.0

    other = config.load("dppo_ring", ["train.seed=1", "train.threads=1", "algorithm.kappa=1"]).experiment
    (path / "config.yaml").write_text(config.dump(other), encoding="utf-8")
    with pytest.raises(ConfigError, match="of another preset: delete"):
        learning.run("dppo_ring", 1, tmp_path)
