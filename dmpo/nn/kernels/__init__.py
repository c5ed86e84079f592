"""Perceptrons of all agents, their losses and gradients, those of whole models, and Adam in C++, where that was built.

Everything here is float32 on the CPU, and done by as many threads as PyTorch has. R is the number of parameter sets.
"""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

NAMES = "none", "avx2", "avx512", "avx512_bf16"  # what there is a kernel for, each level with all before it
NONE, AVX2, AVX512, AVX512_BF16 = range(len(NAMES))
MOST_LAYERS = 9
PADDING = 16  # what hidden layers give is kept in rows of a multiple of so many numbers
STRETCH = 64  # windows that a thread takes at a time; further threads would have none
FEW = 2_000_000  # multiplications that one thread has done before a second has joined

_most = AVX512_BF16


def level() -> int:
    """Which kernels are used."""
    library = _library()
    return NONE if library is None else min(library.level(), _most)


@contextmanager
def limited(most: int) -> Iterator[None]:
    """Use kernels up to that level only; with `NONE` PyTorch computes everything."""
    global _most
    before, _most = _most, most
    try:
        yield
    finally:
        _most = before


@cache
def _library() -> ctypes.CDLL | None:
    spec = find_spec("dmpo.nn.kernels.native")
    return ctypes.CDLL(spec.origin) if spec and spec.origin else None


def suit(x: Tensor, parameters: Sequence[Tensor] = (), precision: torch.dtype = torch.float32) -> bool:
    """Whether there are kernels for such numbers, to be multiplied in that precision."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and precision in (torch.float32, torch.bfloat16)
        and len(parameters) <= 2 * MOST_LAYERS
        and all(p.is_contiguous() and p.dtype == x.dtype and p.device == x.device for p in parameters)
        and level() >= (AVX512_BF16 if precision == torch.bfloat16 else AVX2)
    )


def run(name: str, *arguments: Any) -> None:
    """Call a function of kernels.cpp."""
    library = _library()
    assert library is not None, "there are no kernels here"
    getattr(library, name)(*arguments)


class _Work(ctypes.Structure):
    # As in shapes.h.
    _counts = ("threads", "stacks", "splits", "samples", "layers")
    _inputs = ("widths", "parameters", "x", "heard")
    _outputs = ("kept", "y", "gradient", "to_parameters", "to_x")
    _fields_ = (
        *((name, ctypes.c_int64) for name in _counts),
        *((name, ctypes.c_void_p) for name in _inputs),
        *((name, ctypes.c_int64) for name in ("agents", "places")),
        *((name, ctypes.c_void_p) for name in _outputs),
        ("last_relu", ctypes.c_int64),
    )


class _Call:
    # R perceptrons with B samples each, in either direction. What `work` points to is held here or by the caller.

    def __init__(self, x: Tensor, parameters: Sequence[Tensor], samples: int, widths: Sequence[int]) -> None:
        self.parameters, self.widths, self.stacks = parameters, widths, len(parameters[0])
        self.size = sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))  # P, numbers in one set
        threads = torch.get_num_threads() if self.stacks * samples * self.size > FEW else 1
        # As many pieces of each perceptron's samples as it takes for all threads to have equal shares.
        self.splits = next(s for s in range(1, threads + 1) if self.stacks * s % threads == 0)
        counts = {"threads": threads, "stacks": self.stacks, "splits": self.splits, "samples": samples}
        self.work = _Work(**counts, layers=len(widths) - 1)
        self._held = (ctypes.c_int64 * len(widths))(*widths), addresses(parameters)
        self.work.widths, self.work.parameters = map(ctypes.addressof, self._held)
        self.set(x=x)

    def set(self, **tensors: Tensor | None) -> None:
        for name, tensor in tensors.items():
            setattr(self.work, name, None if tensor is None else tensor.data_ptr())

    def run(self, name: str, kept: Sequence[Tensor], *more: Any) -> None:
        begins = addresses(kept)
        self.work.kept = ctypes.addressof(begins) if kept else None
        run(name, ctypes.byref(self.work), level(), *more)

    def gradients(self, name: str, kept: Sequence[Tensor], to_x: Tensor | None, *more: Any) -> list[Tensor]:
        found = torch.empty(self.stacks, self.splits, self.size)
        self.set(to_parameters=found, to_x=to_x)
        self.run(name, kept, *more)
        return self.split(found)

    def split(self, found: Tensor) -> list[Tensor]:
        summed = found.sum(1) if found.shape[1] > 1 else found.squeeze(1)  # (R, pieces, P) -> (R, P)
        pieces = torch.split(summed, [parameter[0].numel() for parameter in self.parameters], 1)
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]


def addresses(tensors: Sequence[Tensor]) -> Any:
    """An array of where their numbers begin."""
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def _check(x: Tensor, allowed: tuple[int, ...], dimensions: tuple[int, ...]) -> None:
    # Before anything reads where there is nothing.
    found = tuple(x.shape[dimension] for dimension in dimensions)
    if found != allowed:
        raise ValueError(f"x.shape={tuple(x.shape)} is not possible: dimensions {dimensions} must be {allowed}.")


def _widths(columns: Sequence[Tensor]) -> list[int]:
    return [columns[0].shape[2], *(weight.shape[1] for weight in columns[::2])]


class Perceptron:
    """A perceptron with tanh between its layers, and samples for it.

    Args:
        x: (R, B, D), what it is given; or with `heard` the states (S, N, D / K) that this is put together from.
        parameters: W_1 (R, D, outputs), b_1 (R, 1, outputs), ..., all contiguous, as x is.
        rounded: whether to multiply bfloat16 numbers, and to keep such between the layers.
        heard: (N, K) int64, contiguous, whose states each agent hears, -1 for zeros. B is then S; or, with one set of
            parameters for all, S·N, each state's agents side by side.

    Raises:
        ValueError: `x` does not fit the parameters.
    """

    def __init__(self, x: Tensor, parameters: Sequence[Tensor], rounded: bool, heard: Tensor | None = None) -> None:
        stacks, wanted, _ = parameters[0].shape
        samples, inputs = x.shape[1:]
        if heard is None:
            _check(x, (stacks, wanted), (0, 2))
        else:
            agents, places = heard.shape
            if stacks not in (1, agents) or wanted % places:
                raise ValueError(
                    f"heard.shape={tuple(heard.shape)} is not possible with weights {tuple(parameters[0].shape)}."
                )
            _check(x, (agents, wanted // places), (1, 2))
            samples, inputs = len(x) * (agents if stacks == 1 else 1), places * inputs
        self.samples, self.rounded, self.name = samples, rounded, "rounded" if rounded else "perceptron"
        self.call = _Call(x, parameters, samples, [inputs, *(weight.shape[2] for weight in parameters[::2])])
        if heard is not None:
            self.call.set(heard=heard)
            self.call.work.agents, self.call.work.places = heard.shape

    def forward(self, keep: bool) -> tuple[Tensor, list[Tensor]]:
        """(R, B, outputs), and what is to be kept for the gradient, if any is wanted."""
        stacks, widths, dtype = self.call.stacks, self.call.widths, torch.bfloat16 if self.rounded else torch.float32
        rows = [-(-width // PADDING) * PADDING for width in widths[1:-1]] if keep else []
        kept = [torch.empty(stacks, self.samples, row, dtype=dtype) for row in rows]
        y = torch.empty(stacks, self.samples, widths[-1])
        self.call.set(y=y)
        self.call.run(f"{self.name}_forward", kept)
        return y, kept

    def backward(self, kept: Sequence[Tensor], gradient: Tensor, to_x: Tensor | None) -> list[Tensor]:
        """The parameters' gradients, from that of the outputs; that of x is written to `to_x`, if given."""
        self.call.set(gradient=gradient)
        return self.call.gradients(f"{self.name}_backward", kept, to_x)


class Columns:
    """A perceptron with max(·, 0) between its layers, and samples for it, which come last.

    Args:
        x: (R, D, B).
        parameters: W_1 (R, outputs, D), b_1 (R, outputs, 1), ..., all contiguous, as x is.
        last_relu: whether negative numbers become zero after the last layer as well.

    Raises:
        ValueError: `x` does not fit the parameters.
    """

    def __init__(self, x: Tensor, parameters: Sequence[Tensor], last_relu: bool) -> None:
        _check(x, (len(parameters[0]), parameters[0].shape[2]), (0, 1))
        self.samples = x.shape[2]
        self.call = _Call(x, parameters, self.samples, _widths(parameters))
        self.call.work.last_relu = last_relu

    def forward(self, keep: bool) -> tuple[Tensor, list[Tensor]]:
        """(R, outputs, B), and what is to be kept for the gradient, if any is wanted."""
        *hidden, y = (torch.empty(self.call.stacks, width, self.samples) for width in self.call.widths[1:])
        kept = hidden if keep else []
        self.call.set(y=y)
        self.call.run("columns_forward", kept)
        return y, kept

    def backward(self, kept: Sequence[Tensor], y: Tensor | None, gradient: Tensor, to_x: Tensor | None) -> list[Tensor]:
        """As `Perceptron.backward`; y is needed with `last_relu`."""
        self.call.set(y=y, gradient=gradient)
        return self.call.gradients("columns_backward", kept, to_x)


_TENSORS = ("pairs", "targets", "state", "acted", "following", "rewards", "ends", "ratio", "drift", "to_acted")


class _Models(ctypes.Structure):
    # As in shapes.h.
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("threads", "agents", "edges", "features", "acts", "samples", "steps")),
        ("hears", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("far", "reward_weight", "scale")),
        *((name, ctypes.c_void_p) for name in ("encoder", "edge", "node", *_TENSORS)),
    )


def model_gradients(
    networks: Mapping[str, tuple[Sequence[Tensor], bool]], tensors: Mapping[str, Tensor], **settings: float
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Gradients of the sum over agents of the models' losses over H steps, see `ModelLearner.losses`.

    Args:
        networks: parameters and `last_relu`, as of `Columns`, of the encoder (N, ...), the edge (M, ...) and the node.
        tensors: all contiguous: `pairs` (M, 2) and `targets` (M,) of the edges, int64; `state` (N, D, B) at the begin,
            `acted` (N, W, H, B), `following` (H, N, D, B), `rewards` (H, N, B) and `ends` (H, B), all normalized;
            `ratio` and `drift` (N, D).
        settings: `hears`, `far` and `reward_weight` as `ModelLearner` has them; `scale`, of the loss.

    Returns:
        Those of the parameters, by name; that of `acted`.
    """
    (agents, features, samples), (_, acts, steps, _) = tensors["state"].shape, tensors["acted"].shape
    threads = max(1, min(torch.get_num_threads(), -(-samples // STRETCH)))
    to_acted = torch.empty_like(tensors["acted"])
    calls, found = {}, {}
    for name, (parameters, last_relu) in networks.items():
        call = calls[name] = _Call(tensors["state"], parameters, samples, _widths(parameters))
        call.work.last_relu = last_relu
        found[name] = torch.empty(call.stacks, threads, call.size)
        call.set(to_parameters=found[name])
    edges, sizes = len(tensors["targets"]), {"features": features, "acts": acts, "samples": samples, "steps": steps}
    models = _Models(threads=threads, agents=agents, edges=edges, **sizes, **settings)
    for name, call in calls.items():
        setattr(models, name, ctypes.addressof(call.work))
    for name, tensor in {**tensors, "to_acted": to_acted}.items():
        setattr(models, name, tensor.data_ptr())
    run("model_gradients", ctypes.byref(models), level())
    return {name: call.split(found[name]) for name, call in calls.items()}, to_acted
