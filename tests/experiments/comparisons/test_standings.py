import json
from pathlib import Path

import numpy as np
import pytest

from experiments.comparisons import standings as module
from experiments.comparisons.standings import as_numbers, scenario_results
from experiments.comparisons.wording import verdict
from tests.experiments.comparing import make_run, two_variants


def test_the_best_comes_first_and_is_compared_with_the_next(tmp_path: Path) -> None:
    (result,) = scenario_results(two_variants(tmp_path))
    fast, slow = result.entries
    assert (fast.label, slow.label) == ("fast", "slow")
    assert fast.final.value == pytest.approx(-3.1)
    assert (fast.final.low, fast.final.high) == pytest.approx((-3.2, -3.0))
    assert list(result.controllers) == ["push", "still"]
    ahead, behind = result.over_best_other(fast), result.over_best_other(slow)
    assert ahead is not None and behind is not None
    assert (ahead[0], ahead[1].probability.value) == ("slow", 1.0)
    assert (behind[0], behind[1].probability.value) == ("fast", 0.0)


def test_the_winner_needs_fewer_steps_to_the_second_bests_end(tmp_path: Path) -> None:
    (result,) = scenario_results(two_variants(tmp_path))
    fast, slow = result.entries
    assert result.threshold == ("slow", pytest.approx(-6.0))
    assert result.samples(fast) == 200
    assert result.samples(slow) == 276  # they end at 270, 273 and 276
    assert result.budget == 200


def test_areas_are_of_the_same_stretch(tmp_path: Path) -> None:
    """Trapezoids by hand: means of -30, -8 and the end, over 0, 100 and 200 steps."""
    (result,) = scenario_results(two_variants(tmp_path))
    by_hand = np.mean([((-30 - 8) / 2 + (-8 - 3 - seed / 10) / 2) / 2 for seed in range(3)])
    assert result.entries[0].area(result.budget).value == pytest.approx(by_hand)


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    (result,) = scenario_results([make_run(tmp_path, "only", 0, [-9.0, -3.0])])
    (entry,) = result.entries
    assert (entry.final.low, entry.curve and entry.curve.ends) == (None, None)
    assert result.over_best_other(entry) is None
    assert "one run, so no interval" in verdict(result)


def test_a_controller_that_is_better_wins(tmp_path: Path) -> None:
    (result,) = scenario_results([make_run(tmp_path, "only", seed, [-9.0, -6.0]) for seed in range(2)])
    assert verdict(result).startswith("The controller push wins with −4")
    assert result.better_controllers(result.entries[0]) == ["push"]


def test_a_lead_that_the_seeds_do_not_settle_is_said_to_be_none(tmp_path: Path) -> None:
    (result,) = scenario_results(two_variants(tmp_path))
    words = verdict(result)
    assert words.startswith("fast wins with −3.1 (−3.2 to −3, 3 runs), before slow")
    assert "not settled by 3 against 3 runs, p\u00a0=\u00a00.1" in words


def test_a_lead_over_enough_seeds_is_settled(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, label, s, [-9.0, at - s / 10]) for label, at in (("a", -1.0), ("b", -3.0)) for s in range(5)
    ]
    assert "not settled" not in verdict(scenario_results(runs)[0])


def test_a_run_without_a_finite_end_does_not_win(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "lost", 0, [-9.0, None]), make_run(tmp_path, "kept", 0, [-9.0, -8.0])]
    (result,) = scenario_results(runs)
    assert [entry.label for entry in result.entries] == ["kept", "lost"]
    assert "has no finite final reward" in verdict(result)
    json.dumps(as_numbers([result]), allow_nan=False)


def test_a_run_without_a_line_has_a_result_and_no_curve(tmp_path: Path) -> None:
    run = make_run(tmp_path, "bare", 0, [-9.0, -8.0])
    run.metrics.clear()
    (result,) = scenario_results([run])
    assert result.entries[0].curve is None
    assert result.samples(result.entries[0]) is None
    json.dumps(as_numbers([result]), allow_nan=False)


def test_variants_are_compared_over_scenarios_where_they_meet_in_all(tmp_path: Path) -> None:
    ring = [
        make_run(tmp_path, label, seed, [-9.0, reward + seed], "scenario.name=ring", "algorithm.name=dppo")
        for label, reward in (("fast", -8.0), ("slow", -5.0), ("third", -1.0))
        for seed in range(3)
    ]
    found = scenario_results(two_variants(tmp_path) + ring)
    assert [result.scenario for result in found] == ["cacc_catchup", "ring"]
    assert module.across(found[:1]) == {}
    pairs = module.across(found)
    assert set(pairs) == {("fast", "slow"), ("slow", "fast")}
    assert pairs["fast", "slow"].probability.value == pytest.approx((1.0 + 0.0) / 2)


def test_the_rings_bound_is_the_uniform_flow(tmp_path: Path) -> None:
    """At 220 m and 22 vehicles the published speed is 2.50 m/s, and a step pays 4 v / (20 N)."""
    run = make_run(
        tmp_path, "a", 0, [-9.0], "scenario.name=ring", "scenario.num_vehicles=22", "scenario.ring_length=220"
    )
    (result,) = scenario_results([run])
    assert result.bounds["uniform flow"] == pytest.approx(4 * 2.50 / (20 * 22), rel=0.01)
