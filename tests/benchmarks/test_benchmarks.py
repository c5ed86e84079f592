"""The benchmarks measure what they say."""

import json
from pathlib import Path

import pytest
import torch
import typer

from benchmarks import env_throughput, learning, model_errors, resume, sample_efficiency
from experiments.config import loading
from experiments.runs.folder import RunFolder
from experiments.runs.records import RunRecord


@pytest.mark.parametrize("scenario", ["ring", "cacc_catchup"])
def test_both_rates_are_measured(scenario: str) -> None:
    rate = env_throughput.measure(scenario, num_envs=2, workers=2, rounds=2, steps=20)
    assert rate.scenario == scenario
    assert min(rate.through_envs, rate.bare) > 0


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("policy", [False, True])
def test_a_mixed_fleet_is_timed_in_the_traffic_of_one_that_learns_throughout(policy: bool) -> None:
    mixed, other = env_throughput.measure_fleets("figure_eight", 7, "idm", 2, workers=1, rounds=2, policy=policy)
    assert min(mixed.rate, other.rate) > 0
    assert mixed.speed == pytest.approx(other.speed, rel=0.01)


def test_every_preset_with_a_figure_exists() -> None:
    assert set(learning.FIGURES) <= set(loading.presets())


def test_errors_are_those_nearest_to_the_samples_asked_for() -> None:
    names = ("state_error", "change_error", "reward_error")
    lines = [{"env_steps": 0}, *({"env_steps": k, **{f"model/{n}": k / 1e6 for n in names}} for k in (60, 110, 150))]
    assert model_errors.errors_at(lines, 100) == dict.fromkeys(names, 110 / 1e6)
    assert set(model_errors.STATE_LIMITS) <= set(loading.presets())


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


def test_samples_are_counted_to_where_the_mean_over_seeds_stays_above(tmp_path: Path) -> None:
    def runs(name: str, *seeds: tuple[float, ...]) -> list[RunRecord]:
        metrics = [[{"env_steps": 100 * k, "eval/reward": reward} for k, reward in enumerate(one)] for one in seeds]
        return [RunRecord(name, loading.load(name).experiment, RunFolder(tmp_path), lines, {}) for lines in metrics]

    # Both means are above -2.6 at 100 steps, and the second falls back.
    ours = runs("dmpo_ring", (-9.0, -1.0, -6.0, -2.0, -2.0), (-9.0, -2.0, -5.0, -3.0, -1.0))
    theirs = runs("dppo_ring", (-9.0, -5.0, -2.5), (-9.0, -5.0, -2.7))
    found = sample_efficiency.row(sample_efficiency.Pair("dmpo_ring", "dppo_ring", 1 / 3), ours, theirs)
    assert found == ["dmpo_ring", "dppo_ring", "-2.6", "200", "300", "1.50", "0.33", "-1.5"]
    never = sample_efficiency.row(
        sample_efficiency.Pair("dmpo_ring", "dppo_ring", 1 / 3), ours, runs("dppo_ring", (-1.0,))
    )
    assert never[4:6] == ["never", "–"]


@pytest.mark.parametrize("pair", sample_efficiency.PAIRS, ids=lambda pair: pair.dppo)
def test_both_of_a_pair_take_about_as_many_updates(pair: sample_efficiency.Pair) -> None:
    dmpo = loading.load(pair.dmpo).experiment
    plain, dppo = (loading.load(preset).experiment for preset in sample_efficiency.rivals(pair))
    assert dmpo.scenario == dppo.scenario
    assert dppo.algorithm == plain.algorithm.model_copy(update={"epochs": dppo.algorithm.epochs})
    there, here = (sample_efficiency.updates_per_action(e) for e in (dmpo, dppo))
    assert here == pytest.approx(there, rel=0.1)


@pytest.mark.parametrize("algorithm", resume.ALGORITHMS)
def test_runs_to_be_killed_can_be_run(algorithm: str, tmp_path: Path) -> None:
    experiment = loading.load(resume.write_config(algorithm, tmp_path)).experiment
    assert experiment.train.threads == 1
    assert experiment.train.env_steps >= 20 * experiment.evaluate.every


def test_states_are_the_same_to_the_last_bit_or_not_at_all() -> None:
    state = {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", None)}]}
    assert resume.same(state, {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", None)}]})
    for other in (
        {"a": [torch.tensor([0.0, 1.0 + 2**-23]), {"b": (1, "x", None)}]},
        {"a": [torch.tensor([0.0, 1.0], dtype=torch.float64), {"b": (1, "x", None)}]},
        {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", 0)}]},
        {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x")}]},
        {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", None), "c": 0}]},
    ):
        assert not resume.same(state, other)
