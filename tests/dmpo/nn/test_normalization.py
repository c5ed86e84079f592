import pytest
import torch

from dmpo.nn.normalization import Moments


def batches(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(20 + b, 4, 2, generator=generator) * (b + 1) + 10 * b for b in range(count)]


def test_batch_by_batch_gives_mean_and_variance_of_everything() -> None:
    moments, seen = Moments(4, (2,)), batches()
    for batch in seen:
        moments.update(batch)
    everything = torch.cat(seen)
    torch.testing.assert_close(moments.mean, everything.mean(0))
    torch.testing.assert_close(moments.variance, everything.var(0, correction=0))


def test_without_memory_only_the_last_batch_counts() -> None:
    moments, seen = Moments(4, (2,), memory=0.0), batches()
    for batch in seen:
        moments.update(batch)
    torch.testing.assert_close(moments.mean, seen[-1].mean(0))
    torch.testing.assert_close(moments.std, seen[-1].std(0, correction=0))


def test_a_large_mean_does_not_drown_a_small_spread() -> None:
    x = torch.randn(1000, 1, 1, generator=torch.Generator().manual_seed(0))
    moments = Moments(1, (1,))
    for part in (x - 1e5).split(100):
        moments.update(part)
    assert float(moments.std) == pytest.approx(float(x.std()), rel=0.02)


def test_shared_moments_are_those_of_all_agents_together() -> None:
    moments, (batch, *_) = Moments(1, (2,)), batches()
    moments.update(batch)
    torch.testing.assert_close(moments.mean[0], batch.mean((0, 1)))
    torch.testing.assert_close(moments.normalize(batch).mean((0, 1)), torch.zeros(2), atol=1e-5, rtol=0)


def test_no_agent_knows_the_numbers_of_another() -> None:
    (batch, *_), moments, other = batches(), Moments(4, (2,)), Moments(4, (2,))
    moments.update(batch)
    changed = batch.clone()
    changed[:, 3] *= 100
    other.update(changed)
    assert torch.equal(moments.mean[:3], other.mean[:3])
    assert torch.equal(moments.variance[:3], other.variance[:3])
    assert not torch.equal(moments.mean[3], other.mean[3])


def test_normalizing_and_back_is_nothing_and_a_constant_is_no_division_by_zero() -> None:
    moments = Moments(4, (2,))
    moments.update(torch.full((5, 4, 2), 7.0))
    x = torch.randn(3, 4, 2)
    assert bool(torch.isfinite(moments.normalize(x)).all())
    torch.testing.assert_close(moments.denormalize(moments.normalize(x)), x, atol=1e-3, rtol=1e-3)
