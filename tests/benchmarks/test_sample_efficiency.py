"""Samples that DMPO needs beside those of DPPO."""

from pathlib import Path

import pytest

from benchmarks import sample_efficiency
from experiments.config import loading
from experiments.runs.folder import RunFolder
from experiments.runs.records import RunRecord


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
