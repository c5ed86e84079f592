"""Commands and readings of many vehicles' speeds: in one call where the extension was built, one by one elsewhere."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

# C++'s names of `libsumo::Vehicle::setSpeed(const std::string&, double)` and `getSpeed(const std::string&)`. They name
# one library's strings; with a libsumo built on another they are not found, and vehicles are commanded one by one.
_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_SET_SPEED, _GET_SPEED = (f"_ZN7libsumo7Vehicle8{name}ERK{_STRING}" for name in ("setSpeed", "getSpeed"))


class VehicleIds:
    """Names of V vehicles in SUMO.

    Attributes:
        ids: the names (V).
        addresses: the same as an array of C strings.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.addresses = (ctypes.c_char_p * len(ids))(*(identity.encode() for identity in ids))


class Speeds:
    """Speeds of vehicles in SUMO.

    Args:
        sumo: libsumo or traci.
        together: whether to use one call for all vehicles where possible, which gives the same sooner.

    Attributes:
        together: whether one call is used.
    """

    def __init__(self, sumo: Any, together: bool = True) -> None:
        # libsumo's functions have a Python wrapper that does nothing but take a part of each call's time.
        native = getattr(getattr(sumo, "libsumo", None), "_libsumo", None)
        vehicle = sumo.vehicle
        self._set = native.vehicle_setSpeed if native else vehicle.setSpeed
        self._get = native.vehicle_getSpeed if native else vehicle.getSpeed
        functions = _functions(native.__file__) if native and together else None
        self.together = functions is not None
        self._setter, self._getter = functions or (0, 0)

    def command(self, vehicles: VehicleIds, speeds: _Floats) -> None:
        """Command speeds (V,) in m/s for the next step.

        Raises:
            ValueError: there are not as many speeds as vehicles.
        """
        speeds = np.ascontiguousarray(speeds, np.float64)
        if speeds.shape != (len(vehicles.ids),):
            raise ValueError(f"speeds.shape={speeds.shape} is not possible: allowed: ({len(vehicles.ids)},).")
        done = self._call("command_speeds", self._setter, vehicles, speeds)
        for identity, speed in zip(vehicles.ids[done:], speeds[done:].tolist(), strict=True):
            self._set(identity, speed)

    def read(self, vehicles: VehicleIds) -> _Floats:
        """Speeds (V,) in m/s after the last step."""
        speeds = np.empty(len(vehicles.ids))
        done = self._call("read_speeds", self._getter, vehicles, speeds)
        if done < len(speeds):
            speeds[done:] = np.fromiter(map(self._get, vehicles.ids[done:]), np.float64, len(speeds) - done)
        return speeds

    def _call(self, name: str, function: int, vehicles: VehicleIds, speeds: _Floats) -> int:
        """Number of vehicles done, which ends before the first that SUMO refuses."""
        library = _library() if self.together else None
        if library is None:
            return 0
        return int(getattr(library, name)(function, vehicles.addresses, len(vehicles.ids), speeds.ctypes.data))


@cache
def _library() -> ctypes.CDLL | None:
    spec = find_spec("envs.sumo.native_speeds")
    if not spec or not spec.origin:
        return None
    library = ctypes.CDLL(spec.origin)
    for function in (library.command_speeds, library.read_speeds):
        function.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p
        function.restype = ctypes.c_long
    return library


def _functions(file: str) -> tuple[int, int] | None:
    """Addresses of libsumo's two functions; None where they are not found, or the extension was not built."""
    libsumo = ctypes.CDLL(file)
    try:
        pair = libsumo[_SET_SPEED + "d"], libsumo[_GET_SPEED]
    except AttributeError:
        return None
    setter, getter = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in pair)
    return (setter, getter) if _library() else None
