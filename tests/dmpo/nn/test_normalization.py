import pytest
import torch

from dmpo.nn.normalization import RunningNormalizer


def batches(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(20 + b, 4, 2, generator=generator) * (b + 1) + 10 * b for b in range(count)]


def test_updates_batch_by_batch_give_mean_and_variance_of_all_data() -> None:
    normalizer, seen = RunningNormalizer(4, (2,)), batches()
    for batch in seen:
        normalizer.update(batch)
    everything = torch.cat(seen)
    torch.testing.assert_close(normalizer.mean, everything.mean(0))
    torch.testing.assert_close(normalizer.variance, everything.var(0, correction=0))


def test_without_memory_only_the_last_batch_counts() -> None:
    normalizer, seen = RunningNormalizer(4, (2,), memory=0.0), batches()
    for batch in seen:
        normalizer.update(batch)
    torch.testing.assert_close(normalizer.mean, seen[-1].mean(0))
    torch.testing.assert_close(normalizer.std, seen[-1].std(0, correction=0))


def test_a_large_mean_does_not_drown_a_small_spread() -> None:
    x = torch.randn(1000, 1, 1, generator=torch.Generator().manual_seed(0))
    normalizer = RunningNormalizer(1, (1,))
    for part in (x - 1e5).split(100):
        normalizer.update(part)
    assert float(normalizer.std) == pytest.approx(float(x.std()), rel=0.02)


def test_a_shared_normalizer_is_that_of_all_agents_together() -> None:
    normalizer, (batch, *_) = RunningNormalizer(1, (2,)), batches()
    normalizer.update(batch)
    torch.testing.assert_close(normalizer.mean[0], batch.mean((0, 1)))
    torch.testing.assert_close(normalizer.normalize(batch).mean((0, 1)), torch.zeros(2), atol=1e-5, rtol=0)


def test_statistics_of_an_agent_do_not_depend_on_others() -> None:
    (batch, *_), normalizer, other = batches(), RunningNormalizer(4, (2,)), RunningNormalizer(4, (2,))
    normalizer.update(batch)
    changed = batch.clone()
    changed[:, 3] *= 100
    other.update(changed)
    assert torch.equal(normalizer.mean[:3], other.mean[:3])
    assert torch.equal(normalizer.variance[:3], other.variance[:3])
    assert not torch.equal(normalizer.mean[3], other.mean[3])


def test_denormalizing_undoes_normalizing_and_a_constant_is_no_division_by_zero() -> None:
    normalizer = RunningNormalizer(4, (2,))
    normalizer.update(torch.full((5, 4, 2), 7.0))
    x = torch.randn(3, 4, 2)
    assert bool(torch.isfinite(normalizer.normalize(x)).all())
    torch.testing.assert_close(normalizer.denormalize(normalizer.normalize(x)), x, atol=1e-3, rtol=1e-3)
