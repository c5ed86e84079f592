"""The compiled library: which tensors have kernels."""

from itertools import pairwise

import pytest
import torch

from dmpo.nn.functional import mlp
from dmpo.nn.kernels import calls

pytestmark = pytest.mark.skipif(calls.level() == calls.NONE, reason="no kernels were built, or not for this processor")


def parameters_of(widths: list[int]) -> list[torch.Tensor]:
    shapes = pairwise(widths)
    return [x for inputs, outputs in shapes for x in (torch.randn(1, inputs, outputs), torch.randn(1, 1, outputs))]


def test_tensors_without_kernels_are_left_to_pytorch() -> None:
    x, parameters = torch.randn(1, 4, 3), parameters_of([3, 4, 2])
    assert calls.kernel_supports(x, parameters)
    assert not calls.kernel_supports(x.double(), parameters)
    assert not calls.kernel_supports(x, [parameter.double() for parameter in parameters])
    assert not calls.kernel_supports(x, parameters, torch.float16)
    assert not calls.kernel_supports(x.to("meta"), parameters)
    assert not calls.kernel_supports(x, parameters_of([3] * 11))
    assert not calls.kernel_supports(x, [parameter.transpose(1, 2) for parameter in parameters])
    with calls.limited(calls.NONE):
        assert not calls.kernel_supports(x, parameters)
        torch.testing.assert_close(mlp(x, parameters), mlp(x.double(), [p.double() for p in parameters]).float())
    assert not calls.kernel_supports(x, parameters, torch.bfloat16) or calls.level() == calls.AVX512_BF16


def test_a_limit_holds_within_its_context_only() -> None:
    before = calls.level()
    for most in range(before + 1):
        with calls.limited(most):
            assert calls.level() == most
    assert calls.level() == before
