"""Kernel for the gradient of the localized models' loss."""

import ctypes
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dmpo.nn.kernels.calls import Call, level, run
from dmpo.nn.kernels.mlp import feature_major_widths

SEQUENCES_PER_THREAD = 64  # a thread takes so many sequences at a time; further threads would have none

_TENSORS = ("pairs", "targets", "state", "actions", "next_states", "rewards", "terminated", "ratio", "drift")
_COUNTS = (
    *("threads", "agents", "edges", "features", "action_width", "samples", "steps"),
    *("neighbor_actions", "own_gradient"),
)


class _Models(ctypes.Structure):
    # As in shapes.h.
    _fields_ = (
        *((name, ctypes.c_int64) for name in _COUNTS),
        *((name, ctypes.c_float) for name in ("far", "reward_coef", "scale")),
        *((name, ctypes.c_void_p) for name in ("encoder", "edge", "node", *_TENSORS, "to_actions")),
    )


def model_gradients(
    networks: Mapping[str, tuple[Sequence[Tensor], bool]], tensors: Mapping[str, Tensor], **settings: float
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Gradients of the sum over agents of the models' losses over H steps, see `OpenLoopLoss` of `dmpo.models.loss`.

    The loss of the ends is not among them.

    Args:
        networks: parameters and `last_relu`, as of `FeatureMajorMLPKernel`, of the encoder (N, ...), the edge (M, ...)
            and the node.
        tensors: all contiguous: `pairs` (M, 2) and `targets` (M,) of the edges, int64; `state` (N, D, B) at the start,
            `actions` (N, W, H, B), `next_states` (H, N, D, B), `rewards` (H, N, B) and `terminated` (H, B), all
            normalized; `ratio` and `drift` (N, D).
        settings: `neighbor_actions`, `own_gradient`, `far` and `reward_coef` as there; `scale`, of the loss.

    Returns:
        Those of the parameters, by name; that of `actions`.
    """
    (agents, features, samples), (_, width, steps, _) = tensors["state"].shape, tensors["actions"].shape
    threads = max(1, min(torch.get_num_threads(), -(-samples // SEQUENCES_PER_THREAD)))
    to_actions = torch.empty_like(tensors["actions"])
    calls, found = {}, {}
    for name, (parameters, last_relu) in networks.items():
        call = calls[name] = Call(tensors["state"], parameters, samples, feature_major_widths(parameters))
        call.work.last_relu = last_relu
        found[name] = torch.empty(call.stacks, threads, call.size)
        call.set(to_parameters=found[name])
    edges, sizes = len(tensors["targets"]), {"features": features, "action_width": width, "samples": samples}
    models = _Models(threads=threads, agents=agents, edges=edges, steps=steps, **sizes, **settings)
    for name, call in calls.items():
        setattr(models, name, ctypes.addressof(call.work))
    for name, tensor in {**tensors, "to_actions": to_actions}.items():
        setattr(models, name, tensor.data_ptr())
    run("model_gradients", ctypes.byref(models), level())
    return {name: call.split(found[name]) for name, call in calls.items()}, to_actions
