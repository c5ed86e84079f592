"""Statistics of a few runs: robust means with bootstrap intervals, and how often one algorithm beats another.

After Agarwal et al., *Deep reinforcement learning at the edge of the statistical precipice*, NeurIPS 2021. What is
drawn at random here is the run: its seed sets initial weights, noise and training episodes. The reference starts of an
evaluation are fixed and the same for every run, so a run counts as one number, its mean over them; to draw starts as
well would put into the intervals a chance that nobody took, and to trim them would leave out the hard ones. Runs are
drawn anew within strata: of one algorithm in one scenario, never across. Intervals are pointwise, of 95 %, by the
percentile method, which with few runs is too narrow: they never pass the worst and the best run.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from scipy.stats import DegenerateDataWarning, bootstrap, mannwhitneyu, trim_mean

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 9_999
_SEED = 0  # the same runs always give the same intervals
_BATCH = 1_000  # resamples at a time, for the memory


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; there is no interval of a single run."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Improvement:
    """Probability of improvement: that a run of one algorithm is better than a run of another.

    Attributes:
        probability: with its interval.
        p_value: of the two-sided Mann-Whitney test that neither tends to be better; None over several scenarios.
    """

    probability: Estimate
    p_value: float | None


def interquartile_mean(values: ArrayLike, axis: int = -1) -> Any:
    """Mean of the middle half: floor(n / 4) of n values are left out at either end, none of fewer than four."""
    return trim_mean(values, 0.25, axis=axis)


def interquartile_means(runs: Floats) -> tuple[Floats, tuple[Floats, Floats] | None]:
    """Interquartile means over runs, and the ends of their intervals; no intervals of a single run.

    Args:
        runs: (..., n) of n runs.

    Returns:
        (...) and twice (...).
    """
    middle = np.asarray(interquartile_mean(runs), dtype=np.float64)
    return middle, _interval((runs,), interquartile_mean)


def estimate(runs: ArrayLike) -> Estimate:
    """Interquartile mean of one number a run, (n,), with its interval."""
    middle, ends = interquartile_means(np.asarray(runs, dtype=np.float64))
    return Estimate(float(middle), *((float(end) for end in ends) if ends else ()))


def improvement(strata: Sequence[tuple[ArrayLike, ArrayLike]]) -> Improvement:
    """P(X > Y), ties counted half: the Mann-Whitney U of a scenario over its n m pairs, averaged over scenarios.

    Args:
        strata: for each scenario the runs of both algorithms, one number a run, (n,) and (m,).
    """
    samples = [np.asarray(runs, dtype=np.float64) for pair in strata for runs in pair]
    ends = _interval(samples, _mean_probability)
    probability = Estimate(float(_mean_probability(*samples)), *((float(end) for end in ends) if ends else ()))
    if len(strata) > 1:
        return Improvement(probability, None)
    return Improvement(probability, float(mannwhitneyu(*samples).pvalue))


def on_common_grid(curves: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[Floats, Floats]:
    """Runs at the same steps: at each that one of them was evaluated at, the others linearly between their own.

    A run that is at its end, as some are an iteration before others, keeps its last value.

    Args:
        curves: steps, ascending, and values of each run.

    Returns:
        Steps (G,) from where the last run begins, and values (n, G).
    """
    steps = [np.asarray(at, dtype=np.float64) for at, _ in curves]
    grid = np.unique(np.concatenate(steps))
    grid = grid[grid >= max(at[0] for at in steps)]
    values = [np.interp(grid, at, np.asarray(y, dtype=np.float64)) for at, (_, y) in zip(steps, curves, strict=True)]
    return grid, np.stack(values)


def samples_to(threshold: float, steps: ArrayLike, values: ArrayLike) -> int | None:
    """First step from which on a curve is never below the threshold; None where it is below at its end."""
    below = np.flatnonzero(~(np.asarray(values) >= threshold))
    first = int(below[-1]) + 1 if below.size else 0
    at = np.asarray(steps)
    return int(at[first]) if first < len(at) else None


def mean_until(end: float, steps: ArrayLike, values: ArrayLike) -> float:
    """Area under a curve from its first step to `end`, over the length of that stretch."""
    at, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if end <= at[0]:
        return float(y[0])
    inside = at < end
    cut, heights = np.append(at[inside], end), np.append(y[inside], np.interp(end, at, y))
    return float(trapezoid(heights, cut) / (end - at[0]))


def _interval(samples: Sequence[Floats], statistic: Any) -> tuple[Floats, Floats] | None:
    if min(runs.shape[-1] for runs in samples) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # a value that is not finite: neither is its interval
        found = bootstrap(
            samples, statistic, axis=-1, vectorized=True, method="percentile", confidence_level=LEVEL,
            n_resamples=RESAMPLES, batch=_BATCH, rng=np.random.default_rng(_SEED),
        )  # fmt: skip
    return found.confidence_interval.low, found.confidence_interval.high


def _mean_probability(*samples: Floats, axis: int = -1) -> Any:
    # Of X and Y in turn, a pair for each scenario.
    pairs = zip(samples[::2], samples[1::2], strict=True)
    return np.mean([_probability(x, y, axis) for x, y in pairs], axis=0)


def _probability(x: Floats, y: Floats, axis: int) -> Any:
    # The asymptotic method is for its p-value, which is not used: U is the same with every method.
    with np.errstate(invalid="ignore", divide="ignore"):
        found = mannwhitneyu(x, y, axis=axis, method="asymptotic")
    return found.statistic / (x.shape[axis] * y.shape[axis])
