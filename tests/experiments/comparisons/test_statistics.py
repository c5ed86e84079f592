import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.comparisons import statistics


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    assert statistics.interquartile_mean([100.0, 2.0, 4.0, -100.0]) == 3.0
    assert statistics.interquartile_mean([1.0, 2.0, 6.0]) == 3.0  # none of three is left out
    eight = np.random.default_rng(0).normal(size=(5, 8))
    assert statistics.interquartile_mean(eight) == pytest.approx(np.sort(eight)[:, 2:6].mean(1))


def test_one_run_has_a_value_and_no_interval() -> None:
    assert statistics.estimate([2.5]) == statistics.Estimate(2.5)
    assert statistics.improvement([([1.0], [0.0, 2.0])]).probability == statistics.Estimate(0.5)


def test_an_interval_holds_the_mean_and_does_not_pass_the_runs() -> None:
    found = statistics.estimate([1.0, 2.0, 6.0])
    assert found.low is not None and found.high is not None
    assert (found.low, found.value, found.high) == (1.0, 3.0, 6.0)


def test_the_same_runs_always_have_the_same_interval() -> None:
    runs = np.random.default_rng(1).normal(size=7)
    assert statistics.estimate(runs) == statistics.estimate(runs.copy())


def test_an_interval_equals_the_one_over_all_resamples() -> None:
    """Of four runs there are 4^4 ordered resamples, all equally probable: their percentiles are what is estimated."""
    runs = np.array([1.0, 2.0, 4.0, 8.0])
    every = [statistics.interquartile_mean(draw) for draw in itertools.product(runs, repeat=4)]
    found = statistics.estimate(runs)
    assert (found.low, found.high) == pytest.approx(np.percentile(every, [2.5, 97.5]))


def test_intervals_of_ten_runs_hold_the_truth_about_as_often_as_they_say() -> None:
    """The percentile bootstrap is known to fall short of 95 % with few samples; 300 normal samples, true mean 0."""
    samples = np.random.default_rng(2).normal(size=(300, 10))
    _, ends = statistics.interquartile_means(samples)
    assert ends is not None
    held = np.mean((ends[0] <= 0) & (ends[1] >= 0))
    assert 0.86 <= held <= 0.97


def test_intervals_narrow_with_more_runs() -> None:
    runs = np.random.default_rng(3).normal(size=(50, 40))

    def width(count: int) -> float:
        _, ends = statistics.interquartile_means(runs[:, :count])
        assert ends is not None
        return float(np.mean(ends[1] - ends[0]))

    assert width(40) == pytest.approx(width(10) / 2, rel=0.2)


def _counted(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in x for b in y]
    return float(np.mean(pairs))


@pytest.mark.parametrize("seed", range(5))
def test_the_probability_of_improvement_counts_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 5, 6).astype(float), random.integers(0, 5, 4).astype(float)  # with ties
    there, back = statistics.improvement([(x, y)]), statistics.improvement([(y, x)])
    assert there.probability.value == pytest.approx(_counted(x, y))
    assert there.probability.value + back.probability.value == pytest.approx(1.0)
    assert there.p_value == pytest.approx(back.p_value)


def test_over_scenarios_probabilities_are_averaged_and_never_mixed() -> None:
    strata = [([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), ([1e6, 2e6], [1e3, 2e3])]
    found = statistics.improvement(strata)
    assert found.probability.value == pytest.approx(np.mean([_counted(*map(np.array, pair)) for pair in strata]))
    assert found.probability.low is not None
    assert found.probability.low >= 0.5  # the second scenario is 1 in every resample: half of the mean is certain
    assert found.p_value is None


def test_three_against_three_cannot_be_settled() -> None:
    """The smallest two-sided p-value of 3 against 3 is 2 / C(6, 3)."""
    found = statistics.improvement([([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])])
    assert found.probability == statistics.Estimate(1.0, 1.0, 1.0)
    assert found.p_value == pytest.approx(0.1)


def test_runs_evaluated_at_other_steps_meet_on_one_grid() -> None:
    steps, values = statistics.on_common_grid([([0, 100, 200], [0.0, 1.0, 2.0]), ([0, 90, 210], [0.0, 9.0, 21.0])])
    assert steps.tolist() == [0, 90, 100, 200, 210]
    assert values == pytest.approx(np.array([[0.0, 0.9, 1.0, 2.0, 2.0], [0.0, 9.0, 10.0, 20.0, 21.0]]))


def test_a_grid_begins_where_all_runs_have_begun() -> None:
    steps, values = statistics.on_common_grid([([0, 10, 30], [0.0, 1.0, 3.0]), ([20, 30], [5.0, 6.0])])
    assert steps.tolist() == [20, 30]
    assert values == pytest.approx(np.array([[2.0, 3.0], [5.0, 6.0]]))


@pytest.mark.parametrize(
    ("values", "first"),
    [([0, 5, 4, 6], 30), ([5, 5, 5, 5], 0), ([0, 0, 0, 4], None), ([9, 9, 9, 4], None), ([0, np.nan, 5, 5], 20)],
)
def test_a_threshold_is_reached_where_a_curve_stays_above_it(values: list[float], first: int | None) -> None:
    assert statistics.samples_to(5.0, [0, 10, 20, 30], values) == first


def test_the_area_is_the_mean_of_a_line_wherever_it_ends() -> None:
    assert statistics.mean_until(100, [0, 40, 100], [0.0, 4.0, 10.0]) == pytest.approx(5.0)
    assert statistics.mean_until(70, [0, 40, 100], [0.0, 4.0, 10.0]) == pytest.approx(3.5)
    assert statistics.mean_until(0, [0, 40], [3.0, 4.0]) == 3.0


def test_a_value_that_is_not_finite_is_not_left_out() -> None:
    assert np.isnan(statistics.estimate([1.0, np.nan, 2.0]).value)
    assert np.isnan(statistics.improvement([([1.0, np.nan], [0.0, 0.0])]).probability.value)
