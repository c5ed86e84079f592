import numpy as np
import pytest

from experiments.comparisons import wording
from experiments.comparisons.statistics import Estimate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-4.9625, "−4.963"),
        (0.0185, "0.0185"),
        (1e-5, "1e−05"),
        (12345.6, "12,346"),
        (None, "–"),
        (np.nan, "–"),
        (0.0, "0"),
    ],
)
def test_numbers_have_four_digits_and_a_true_minus(value: float | None, text: str) -> None:
    assert wording.number(value) == text


def test_intervals_are_said_where_there_are_any() -> None:
    assert wording.interval(Estimate(1.0)) == ""
    assert wording.interval(Estimate(1.0, -0.5, 2.25)) == "−0.5 to 2.25"
    assert (wording.shares(Estimate(1.0)), wording.shares(Estimate(1.0, 0.5, 1.0))) == ("", "0.50 to 1.00")


def test_counts_in_words() -> None:
    assert [wording.runs(count) for count in (1, 3)] == ["1 run", "3 runs"]
    assert [wording.steps(count) for count in (None, 100_800)] == ["never", "100,800"]
    assert [wording.collisions(found) for found in ((0, 20), (2, 20))] == ["none", "2 of 20"]
    assert [wording.listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
