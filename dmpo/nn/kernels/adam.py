"""Kernel for Adam on stacked parameters, in one pass over their numbers."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from dmpo.nn.kernels.calls import addresses, level, run

SINGLE_THREAD_NUMBERS = 500_000  # below this, a second thread takes longer to start than it saves


class _Adam(ctypes.Structure):
    # As in shapes.h.
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("threads", "sets", "size", "count")),
        *((name, ctypes.c_void_p) for name in ("sizes", "strides", "parameters", "gradients")),
        *((name, ctypes.c_void_p) for name in ("first", "second", "steps", "active")),
        *((name, ctypes.c_float) for name in ("max_norm", "rate", "epsilon", "beta_1", "beta_2")),
    )


def adam_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Tensor],
    active: Tensor,
    **settings: float,
) -> None:
    """One step of the active sets, in place, as `StackedAdam` defines it.

    Args:
        parameters: (R, ...) each, contiguous.
        gradients: (R, numbers) each, those of a set side by side.
        state: moments (R, P) twice, and steps (R, 1), contiguous.
        active: (R,) bool, contiguous.
        settings: `max_norm`, `rate`, `epsilon`, `beta_1`, `beta_2`.

    Raises:
        ValueError: one of them has another shape.
    """
    first, second, steps = state
    sets, size = first.shape
    sizes, strides = [gradient.shape[1] for gradient in gradients], [gradient.stride(0) for gradient in gradients]
    if [parameter.numel() for parameter in parameters] != [sets * numbers for numbers in sizes] or sum(sizes) != size:
        raise ValueError(
            f"gradients of {sizes} numbers a set are not possible: {size} are wanted, those of parameters."
        )
    if second.shape != first.shape or steps.numel() != sets or active.shape != (sets,):
        raise ValueError(f"active.shape={tuple(active.shape)} is not possible: there are {sets} sets of parameters.")
    count, threads = len(parameters), torch.get_num_threads() if first.numel() > SINGLE_THREAD_NUMBERS else 1
    adam = _Adam(threads=threads, sets=sets, size=size, count=count, **settings)
    held = [(ctypes.c_int64 * count)(*numbers) for numbers in (sizes, strides)]
    held += [addresses(tensors) for tensors in (parameters, gradients)]
    adam.sizes, adam.strides, adam.parameters, adam.gradients = map(ctypes.addressof, held)
    adam.first, adam.second, adam.steps, adam.active = (x.data_ptr() for x in (*state, active))
    run("adam_step", ctypes.byref(adam), level())
    torch.autograd.graph.increment_version(parameters)  # as PyTorch's own in-place operations do
