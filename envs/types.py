"""Array types of all environments, and the error of a simulation that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Actions = NDArray[Any]
State = Mapping[str, NDArray[Any]]


class SimulationError(RuntimeError):
    """A simulation did not start, or died or hung on the way."""
