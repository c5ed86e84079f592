"""The compiled library: which kernels it has for this processor, and how they are called.

Kernels compute in float32 or bfloat16 on the CPU, with as many threads as PyTorch has. R is the number of parameter
sets.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

LEVELS = "none", "avx2", "avx512", "avx512_bf16"  # instruction sets with kernels; each level includes those before it
NONE, AVX2, AVX512, AVX512_BF16 = range(len(LEVELS))
MAX_LAYERS = 9
SINGLE_THREAD_MULTIPLICATIONS = 2_000_000  # below this, a second thread takes longer to start than it saves

_max_level = AVX512_BF16


def level() -> int:
    """Level of the kernels in use."""
    library = _library()
    return NONE if library is None else min(library.level(), _max_level)


@contextmanager
def limited(most: int) -> Iterator[None]:
    """Use kernels up to a level only; with `NONE` PyTorch computes everything."""
    global _max_level
    before, _max_level = _max_level, most
    try:
        yield
    finally:
        _max_level = before


@cache
def _library() -> ctypes.CDLL | None:
    spec = find_spec("dmpo.nn.kernels.native")
    return ctypes.CDLL(spec.origin) if spec and spec.origin else None


def kernel_supports(x: Tensor, parameters: Sequence[Tensor] = (), precision: torch.dtype = torch.float32) -> bool:
    """Whether there are kernels for such tensors, multiplied in that precision."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and precision in (torch.float32, torch.bfloat16)
        and len(parameters) <= 2 * MAX_LAYERS
        and all(p.is_contiguous() and p.dtype == x.dtype and p.device == x.device for p in parameters)
        and level() >= (AVX512_BF16 if precision == torch.bfloat16 else AVX2)
    )


def run(name: str, *arguments: Any) -> None:
    """Call a function of kernels.cpp."""
    library = _library()
    assert library is not None, "no kernels were built"
    getattr(library, name)(*arguments)


def addresses(tensors: Sequence[Tensor]) -> Any:
    """Array of the addresses of some tensors' data."""
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def check_shape(x: Tensor, allowed: tuple[int, ...], dimensions: tuple[int, ...]) -> None:
    """Refuse a tensor that a kernel would read beyond its end.

    Raises:
        ValueError: other sizes than `allowed` in these dimensions.
    """
    found = tuple(x.shape[dimension] for dimension in dimensions)
    if found != allowed:
        raise ValueError(f"x.shape={tuple(x.shape)} is not possible: dimensions {dimensions} must be {allowed}.")


class _Work(ctypes.Structure):
    # As in shapes.h.
    _counts = ("threads", "stacks", "splits", "samples", "layers")
    _inputs = ("widths", "parameters", "x", "sources")
    _outputs = ("kept", "y", "gradient", "to_parameters", "to_x")
    _fields_ = (
        *((name, ctypes.c_int64) for name in _counts),
        *((name, ctypes.c_void_p) for name in _inputs),
        *((name, ctypes.c_int64) for name in ("agents", "places")),
        *((name, ctypes.c_void_p) for name in _outputs),
        ("last_relu", ctypes.c_int64),
    )


class Call:
    """Call of a kernel for R MLPs with B samples each, forward or backward.

    The tensors that `work` points to are held here or by the caller.

    Args:
        x: the inputs.
        parameters: W_1, b_1, ..., with R sets each.
        samples: B.
        widths: of the inputs and of each layer.
    """

    def __init__(self, x: Tensor, parameters: Sequence[Tensor], samples: int, widths: Sequence[int]) -> None:
        self.parameters, self.widths, self.stacks = parameters, widths, len(parameters[0])
        self.size = sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))  # P, numbers in one set
        threads = torch.get_num_threads() if self.stacks * samples * self.size > SINGLE_THREAD_MULTIPLICATIONS else 1
        # As many pieces of each MLP's samples as it takes for all threads to have equal shares.
        self.splits = next(s for s in range(1, threads + 1) if self.stacks * s % threads == 0)
        counts = {"threads": threads, "stacks": self.stacks, "splits": self.splits, "samples": samples}
        self.work = _Work(**counts, layers=len(widths) - 1)
        self._held = (ctypes.c_int64 * len(widths))(*widths), addresses(parameters)
        self.work.widths, self.work.parameters = map(ctypes.addressof, self._held)
        self.set(x=x)

    def set(self, **tensors: Tensor | None) -> None:
        """Point fields of `work` at tensors."""
        for name, tensor in tensors.items():
            setattr(self.work, name, None if tensor is None else tensor.data_ptr())

    def run(self, name: str, kept: Sequence[Tensor], *more: Any) -> None:
        """Call the kernel of that name, which writes or reads the hidden layers' outputs `kept`."""
        begins = addresses(kept)
        self.work.kept = ctypes.addressof(begins) if kept else None
        run(name, ctypes.byref(self.work), level(), *more)

    def gradients(self, name: str, kept: Sequence[Tensor], to_x: Tensor | None, *more: Any) -> list[Tensor]:
        """Gradients of the parameters by the kernel of that name, which writes that of x to `to_x`, if given."""
        found = torch.empty(self.stacks, self.splits, self.size)
        self.set(to_parameters=found, to_x=to_x)
        self.run(name, kept, *more)
        return self.split(found)

    def split(self, found: Tensor) -> list[Tensor]:
        """Gradient of each parameter from the pieces' sums (R, pieces, P)."""
        summed = found.sum(1) if found.shape[1] > 1 else found.squeeze(1)  # (R, pieces, P) -> (R, P)
        pieces = torch.split(summed, [parameter[0].numel() for parameter in self.parameters], 1)
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]
