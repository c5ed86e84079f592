"""Inputs of the fused losses that do not fit are refused before the kernel reads them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dmpo.nn.kernels import calls
from dmpo.nn.kernels.fused import CATEGORICAL, GAUSSIAN, SQUARES, LossAndGradients, LossInputs, fused_loss

pytestmark = pytest.mark.skipif(calls.level() == calls.NONE, reason="no kernels were built, or not for this processor")
B, N, D, A = 10, 5, 3, 2
OUTPUTS = {SQUARES: 1, GAUSSIAN: A, CATEGORICAL: A}


def computed(kind: int, change: dict[str, Any], sets: int = N) -> LossAndGradients:
    """A loss of MLPs with one hidden layer on their agents' own states, with some of its inputs changed."""
    generator, outputs = torch.Generator().manual_seed(0), OUTPUTS[kind]

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    parameters = [drawn(sets, D, 4), drawn(sets, 1, 4), drawn(sets, 4, outputs), drawn(sets, 1, outputs)]
    given: dict[str, Any] = {"targets": drawn(B, N)}
    if kind == GAUSSIAN:
        given |= {"actions": drawn(B, N, A), "old_dist_params": drawn(B, N, 2 * A), "log_std": drawn(N, A)}
    elif kind == CATEGORICAL:
        given |= {"actions": torch.zeros(B, N, dtype=torch.int64), "old_dist_params": drawn(B, N, A).log_softmax(-1)}
    if kind != SQUARES:
        given["advantages"] = drawn(B, N)
    sources = torch.arange(N).unsqueeze(1)
    return fused_loss(drawn(B, N, D), sources, parameters, False, LossInputs(kind, **{**given, **change}))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (SQUARES, {"targets": torch.zeros(9, N)}),
        (SQUARES, {"targets": torch.zeros(N, B).T}),
        (SQUARES, {"targets": torch.zeros(B, N, dtype=torch.float64)}),
        (GAUSSIAN, {"advantages": None}),
        (GAUSSIAN, {"actions": torch.zeros(B, N, 3)}),
        (GAUSSIAN, {"old_dist_params": torch.zeros(B, N, 2)}),
        (GAUSSIAN, {"log_std": torch.zeros(1, A)}),
        (CATEGORICAL, {"actions": torch.zeros(B, N)}),
    ],
)
def test_inputs_that_do_not_fit_are_refused(kind: int, change: dict[str, Any]) -> None:
    assert computed(kind, {}).loss.isfinite().all()
    with pytest.raises(ValueError, match=f"{next(iter(change))}=.* is not possible"):
        computed(kind, change)


def test_parameters_that_agents_share_are_refused() -> None:
    with pytest.raises(ValueError, match="1 sets of parameters are not possible: each of 5 agents needs its own"):
        computed(SQUARES, {}, sets=1)
