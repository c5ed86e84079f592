"""Losses of perceptrons and their gradients in one pass through the layers, forth and back, tile by tile.

What each loss is stands in `dmpo.nn.losses`, which computes the same with PyTorch; `losses.h` has it in C++.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmpo.nn.kernels import Perceptron

SQUARES, GAUSSIAN, CATEGORICAL = range(3)  # as in shapes.h


@dataclass(frozen=True)
class Lesson:
    """What S samples teach N agents, each with a perceptron of its own; all contiguous, all but actions float32.

    Args:
        kind: `SQUARES`: the mean of (y - targets)², of one output y. Otherwise minus the clipped surrogate (DMPO paper,
            eq. 7) and minus the entropy's bonus, of outputs that are the means of a `GAUSSIAN` with standard deviations
            that do not depend on the state, or the logits of a `CATEGORICAL` distribution.
        targets: (S, N), or the log-probabilities of the actions before.
        advantages: (S, N).
        actions: (S, N, A), or (S, N) int64 from 0 on, less than the number of logits.
        behavior: (S, N, P), the distributions before, for a divergence; or none.
        log_std: (N, A).
        clip: ε.
        bonus: of the entropy.
    """

    kind: int
    targets: Tensor
    advantages: Tensor | None = None
    actions: Tensor | None = None
    behavior: Tensor | None = None
    log_std: Tensor | None = None
    clip: float = 0.0
    bonus: float = 0.0

    def check(self, samples: int, agents: int, outputs: int) -> None:
        """Refuse what lacks something that will be read.

        Raises:
            ValueError: a tensor has another shape.
        """
        one, gaussian = (samples, agents), self.kind == GAUSSIAN
        wanted: dict[str, tuple[int, ...]] = {"targets": one}
        if self.kind != SQUARES:
            wanted |= {"advantages": one, "actions": (*one, outputs) if gaussian else one}
        elif outputs != 1:
            raise ValueError(f"outputs={outputs} is not possible: squares are of one output.")
        if gaussian:
            wanted["log_std"] = agents, outputs
        if self.behavior is not None:
            wanted["behavior"] = *one, (1 + gaussian) * outputs
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            dtype = torch.int64 if name == "actions" and not gaussian else torch.float32
            if not _is_as(tensor, shape, dtype):
                found = "None" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
                raise ValueError(f"{name}={found} is not possible: {dtype} {shape} is needed, contiguous, on the CPU.")


def _is_as(x: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    return x is not None and x.shape == shape and x.dtype == dtype and x.is_contiguous() and x.device.type == "cpu"


class _Lesson(ctypes.Structure):
    # As in shapes.h.
    _tensors = ("targets", "advantages", "actions", "behavior", "log_std")
    _fields_ = (
        ("kind", ctypes.c_int64),
        ("clip", ctypes.c_float),
        ("bonus", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in (*_tensors, "found")),
    )


@dataclass(frozen=True)
class Learned:
    """Means over the samples, and their gradients."""

    loss: Tensor  # (N,)
    divergence: Tensor  # (N,), zero where it is not asked for
    to_log_std: Tensor  # (N, A), or (N, 0)
    to_parameters: list[Tensor]


def learn(states: Tensor, heard: Tensor, parameters: Sequence[Tensor], rounded: bool, lesson: Lesson) -> Learned:
    """The losses of what perceptrons give of what their agents hear, and the gradients.

    Args: as of `Perceptron`, but that each of the N agents has its own parameters.

    Raises:
        ValueError: states, parameters or lesson do not fit.
    """
    perceptron = Perceptron(states, parameters, rounded, heard)
    call, samples = perceptron.call, perceptron.samples
    if call.stacks != len(heard):
        raise ValueError(
            f"{call.stacks} sets of parameters are not possible: each of {len(heard)} agents needs its own."
        )
    outputs = call.widths[-1]
    lesson.check(samples, call.stacks, outputs)
    width = 2 + (outputs if lesson.kind == GAUSSIAN else 0)
    found = torch.empty(call.stacks, call.splits, width, dtype=torch.float64)
    given = _Lesson(kind=lesson.kind, clip=lesson.clip, bonus=lesson.bonus, found=found.data_ptr())
    for name in _Lesson._tensors:
        tensor = getattr(lesson, name)
        setattr(given, name, None if tensor is None else tensor.data_ptr())
    to_parameters = call.gradients(f"{perceptron.name}_learn", [], None, ctypes.byref(given))
    sums = found.sum(1).float()  # (N, 2 + A)
    return Learned(sums[:, 0] / samples, sums[:, 1] / samples, sums[:, 2:], to_parameters)
