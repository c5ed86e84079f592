import pytest
import torch

from dmpo.nn import matmul
from dmpo.nn.matmul import FEW, quick_products


def error_of_products() -> float:
    a, b = torch.randn(2, 8, 192, 192, generator=torch.Generator().manual_seed(1))
    exact = torch.bmm(a.double(), b.double())
    return float((torch.bmm(a, b) - exact).abs().max() / exact.abs().max())


def used() -> str:
    precision: str = torch.backends.mkldnn.matmul.fp32_precision
    return precision


def test_quick_products_keep_the_digits_of_float32() -> None:
    usual = error_of_products()
    with quick_products(FEW + 1):
        quick = error_of_products()
    # Rounded to bfloat16 they would differ in the third digit.
    assert 0 < usual < 1e-6
    assert 0 < quick < 1e-6


@pytest.mark.parametrize("keeps_digits", [True, False])
def test_only_where_that_is_so_and_there_is_much_to_multiply_they_are_asked_for(
    keeps_digits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "_keeps_digits", lambda: keeps_digits)
    before, asked = used(), []
    for multiplications in (FEW, FEW + 1):
        with quick_products(multiplications):
            asked.append(used())
        assert used() == before
    assert asked == [before, "bf16" if keeps_digits else before]


def test_afterwards_everything_is_as_it_was_whatever_happened() -> None:
    before = used()

    @quick_products(FEW + 1)
    def fail() -> None:
        raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert used() == before
