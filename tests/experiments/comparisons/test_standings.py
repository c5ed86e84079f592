import json
from pathlib import Path

import numpy as np
import pytest

from experiments.comparisons import standings as module
from experiments.comparisons.standings import as_numbers, standings
from experiments.comparisons.wording import verdict
from tests.experiments.comparing import make_run, two_variants


def test_the_best_comes_first_and_is_compared_with_the_next(tmp_path: Path) -> None:
    (standing,) = standings(two_variants(tmp_path))
    fast, slow = standing.entries
    assert (fast.label, slow.label) == ("fast", "slow")
    assert fast.final.value == pytest.approx(-3.1)
    assert (fast.final.low, fast.final.high) == pytest.approx((-3.2, -3.0))
    assert list(standing.controllers) == ["push", "still"]
    ahead, behind = standing.over_best_other(fast), standing.over_best_other(slow)
    assert ahead is not None and behind is not None
    assert (ahead[0], ahead[1].probability.value) == ("slow", 1.0)
    assert (behind[0], behind[1].probability.value) == ("fast", 0.0)


def test_the_winner_needs_fewer_steps_to_the_second_bests_end(tmp_path: Path) -> None:
    (standing,) = standings(two_variants(tmp_path))
    fast, slow = standing.entries
    assert standing.threshold == ("slow", pytest.approx(-6.0))
    assert standing.samples(fast) == 200
    assert standing.samples(slow) == 276  # they end at 270, 273 and 276
    assert standing.budget == 200


def test_areas_are_of_the_same_stretch(tmp_path: Path) -> None:
    """Trapezoids by hand: means of -30, -8 and the end, over 0, 100 and 200 steps."""
    (standing,) = standings(two_variants(tmp_path))
    by_hand = np.mean([((-30 - 8) / 2 + (-8 - 3 - seed / 10) / 2) / 2 for seed in range(3)])
    assert standing.entries[0].area(standing.budget).value == pytest.approx(by_hand)


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    (standing,) = standings([make_run(tmp_path, "only", 0, [-9.0, -3.0])])
    (entry,) = standing.entries
    assert (entry.final.low, entry.curve and entry.curve.ends) == (None, None)
    assert standing.over_best_other(entry) is None
    assert "one run, so no interval" in verdict(standing)


def test_a_controller_that_is_better_wins(tmp_path: Path) -> None:
    (standing,) = standings([make_run(tmp_path, "only", seed, [-9.0, -6.0]) for seed in range(2)])
    assert verdict(standing).startswith("The controller push wins with −4")
    assert standing.better_controllers(standing.entries[0]) == ["push"]


def test_a_lead_that_the_seeds_do_not_settle_is_said_to_be_none(tmp_path: Path) -> None:
    (standing,) = standings(two_variants(tmp_path))
    words = verdict(standing)
    assert words.startswith("fast wins with −3.1 (−3.2 to −3, 3 runs), before slow")
    assert "not settled by 3 against 3 runs, p\u00a0=\u00a00.1" in words


def test_a_lead_over_enough_seeds_is_settled(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, label, s, [-9.0, at - s / 10]) for label, at in (("a", -1.0), ("b", -3.0)) for s in range(5)
    ]
    assert "not settled" not in verdict(standings(runs)[0])


def test_a_run_without_a_finite_end_does_not_win(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "lost", 0, [-9.0, None]), make_run(tmp_path, "kept", 0, [-9.0, -8.0])]
    (standing,) = standings(runs)
    assert [entry.label for entry in standing.entries] == ["kept", "lost"]
    assert "has no finite final reward" in verdict(standing)
    json.dumps(as_numbers([standing]), allow_nan=False)


def test_a_run_without_a_line_has_a_result_and_no_curve(tmp_path: Path) -> None:
    run = make_run(tmp_path, "bare", 0, [-9.0, -8.0])
    run.metrics.clear()
    (standing,) = standings([run])
    assert standing.entries[0].curve is None
    assert standing.samples(standing.entries[0]) is None
    json.dumps(as_numbers([standing]), allow_nan=False)


def test_variants_are_compared_over_scenarios_where_they_meet_in_all(tmp_path: Path) -> None:
    ring = [
        make_run(tmp_path, label, seed, [-9.0, reward + seed], "scenario.name=ring", "algorithm.name=dppo")
        for label, reward in (("fast", -8.0), ("slow", -5.0), ("third", -1.0))
        for seed in range(3)
    ]
    found = standings(two_variants(tmp_path) + ring)
    assert [standing.scenario for standing in found] == ["cacc_catchup", "ring"]
    assert module.across(found[:1]) == {}
    pairs = module.across(found)
    assert set(pairs) == {("fast", "slow"), ("slow", "fast")}
    assert pairs["fast", "slow"].probability.value == pytest.approx((1.0 + 0.0) / 2)


def test_the_rings_bound_is_the_uniform_flow(tmp_path: Path) -> None:
    """At 220 m and 22 vehicles the published speed is 2.50 m/s, and a step pays 4 v / (20 N)."""
    run = make_run(
        tmp_path, "a", 0, [-9.0], "scenario.name=ring", "scenario.num_vehicles=22", "scenario.ring_length=220"
    )
    (standing,) = standings([run])
    assert standing.bounds["uniform flow"] == pytest.approx(4 * 2.50 / (20 * 22), rel=0.01)
