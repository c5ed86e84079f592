"""Choice of the library that multiplies float32 matrices on the CPU."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

ONEDNN_MULTIPLICATIONS = 4_000_000  # below this, oneDNN takes longer to start than it saves
_onednn = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


def fast_matmul(multiplications: int) -> AbstractContextManager[None]:
    """Context in which oneDNN multiplies matrices where it is faster and loses no digit.

    PyTorch leaves float32 to MKL, which uses but half the width of an AMD processor's vector units, and to oneDNN only
    where it may round to bfloat16 on the way. oneDNN rounds where the processor has tiles for it (AMX), and otherwise
    does not: there the permission costs no digit and halves the time.

    Args:
        multiplications: about so many in one product.
    """
    return nullcontext() if multiplications <= ONEDNN_MULTIPLICATIONS or not _keeps_digits() else _permission_to_round()


@contextmanager
def _permission_to_round() -> Iterator[None]:
    # PyTorch's, for all threads of the process.
    before, _onednn.fp32_precision = _onednn.fp32_precision, "bf16"
    try:
        yield
    finally:
        _onednn.fp32_precision = before


@cache
def _keeps_digits() -> bool:
    """Whether float32 products keep their digits although they may be rounded."""
    numbers = torch.rand(64, 64, generator=torch.Generator().manual_seed(0), device="cpu", dtype=torch.float32)
    with _permission_to_round():
        found = torch.mm(numbers, numbers)
    return torch.allclose(found.double(), torch.mm(numbers.double(), numbers.double()), rtol=1e-6, atol=0.0)
