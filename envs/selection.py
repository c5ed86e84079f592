"""Selection of some columns of arrays, without a copy where they are evenly spaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def selection(numbers: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Index that takes the columns with these ascending numbers (N,) out of rows (E, M): a slice where possible."""
    steps = np.diff(numbers)
    if not len(numbers) or (steps != steps[:1]).any():
        return numbers
    return slice(int(numbers[0]), int(numbers[-1]) + 1, int(steps[0]) if len(steps) else 1)
