import pytest
import torch

from dmpo.nn import matmul
from dmpo.nn.matmul import ONEDNN_MULTIPLICATIONS, fast_matmul


def error_of_products() -> float:
    a, b = torch.randn(2, 8, 192, 192, generator=torch.Generator().manual_seed(1))
    exact = torch.bmm(a.double(), b.double())
    return float((torch.bmm(a, b) - exact).abs().max() / exact.abs().max())


def used() -> str:
    precision: str = torch.backends.mkldnn.matmul.fp32_precision
    return precision


def test_fast_products_keep_the_digits_of_float32() -> None:
    usual = error_of_products()
    with fast_matmul(ONEDNN_MULTIPLICATIONS + 1):
        fast = error_of_products()
    # Rounded to bfloat16 they would differ in the third digit.
    assert 0 < usual < 1e-6
    assert 0 < fast < 1e-6


@pytest.mark.parametrize("keeps_digits", [True, False])
def test_onednn_is_used_only_for_large_products_and_where_it_keeps_the_digits(
    keeps_digits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "_keeps_digits", lambda: keeps_digits)
    before, asked = used(), []
    for multiplications in (ONEDNN_MULTIPLICATIONS, ONEDNN_MULTIPLICATIONS + 1):
        with fast_matmul(multiplications):
            asked.append(used())
        assert used() == before
    assert asked == [before, "bf16" if keeps_digits else before]


def test_the_setting_is_restored_also_after_an_error() -> None:
    before = used()

    @fast_matmul(ONEDNN_MULTIPLICATIONS + 1)
    def fail() -> None:
        raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert used() == before
