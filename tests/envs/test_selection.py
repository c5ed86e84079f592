"""Selections of vehicles."""

from itertools import combinations

import numpy as np

from envs.selection import selection


def test_a_selection_takes_what_its_numbers_take_and_copies_nothing_where_they_are_evenly_spaced() -> None:
    rows = np.arange(14).reshape(2, 7)
    for count in range(8):
        for numbers in combinations(range(7), count):
            found = selection(np.array(numbers, dtype=np.int64))
            np.testing.assert_array_equal(rows[:, found], rows[:, list(numbers)])
            evenly = count > 0 and len(set(np.diff(numbers))) <= 1
            assert isinstance(found, slice) == evenly == np.shares_memory(rows, rows[:, found])
