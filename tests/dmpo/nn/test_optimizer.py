from collections.abc import Iterator

import pytest
import torch
from torch import nn

from dmpo.nn.kernels import adam, calls
from dmpo.nn.optimizer import StackedAdam

R = 3


def parameters(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(R, *shape, generator=generator)) for shape in ((4, 2), (1, 2), (5,), (9, 7), (0,))]


@pytest.fixture(params=[*range(calls.level() + 1)], autouse=True)
def level(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests run with the kernels of each level that this processor has, and with none."""
    with calls.limited(request.param):
        yield


def set_gradients(stacked: list[nn.Parameter], seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in stacked:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale


def test_each_set_steps_as_with_pytorchs_adam_and_clipping_of_its_own() -> None:
    stacked = parameters()
    alone = [[nn.Parameter(p.detach()[r].clone()) for p in stacked] for r in range(R)]
    ours, theirs = StackedAdam(stacked, 0.5), [torch.optim.Adam(row, lr=0.01, eps=1e-5) for row in alone]
    for step in range(5):
        set_gradients(stacked, step, scale=0.1 if step % 2 else 3.0)  # below and above the largest norm
        for r, (row, own_adam) in enumerate(zip(alone, theirs, strict=True)):
            for parameter, own in zip(stacked, row, strict=True):
                assert parameter.grad is not None
                own.grad = parameter.grad[r].clone()
            nn.utils.clip_grad_norm_(row, 0.5)
            own_adam.step()
        ours.step(0.01, torch.ones(R, dtype=torch.bool))
    for r, row in enumerate(alone):
        for parameter, own in zip(stacked, row, strict=True):
            torch.testing.assert_close(parameter[r], own, atol=1e-5, rtol=1e-4)


def test_a_set_that_is_not_active_stays_unchanged_and_continues_as_if_no_step_had_been() -> None:
    rested, steady = parameters(), parameters()
    first, second = StackedAdam(rested, 0.5), StackedAdam(steady, 0.5)
    everybody, not_one = torch.tensor([True, True, True]), torch.tensor([True, False, True])
    for step, active in enumerate([everybody, not_one, everybody]):
        before = [p.detach()[1].clone() for p in rested]
        set_gradients(rested, step)
        first.step(0.01, active)
        kept = [torch.equal(p[1], b) for p, b in zip(rested, before, strict=True)]
        assert all(kept) == (step == 1)
    for step in (0, 2):
        set_gradients(steady, step)
        second.step(0.01, everybody)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(rested, steady, strict=True))


def test_it_continues_exactly_from_a_saved_state() -> None:
    stacked, copies = parameters(), parameters()
    active = torch.ones(R, dtype=torch.bool)
    first = StackedAdam(stacked, 0.5)
    set_gradients(stacked, 0)
    first.step(0.01, active)
    for parameter, copy in zip(stacked, copies, strict=True):
        copy.data = parameter.detach().clone()
    again = StackedAdam(copies, 0.5)
    again.load_state_dict(first.state_dict())
    for optimizer, row in ((first, stacked), (again, copies)):
        set_gradients(row, 1)
        optimizer.step(0.01, active)
    assert all(torch.equal(a, b) for a, b in zip(stacked, copies, strict=True))


def test_a_state_of_another_size_is_refused() -> None:
    other = StackedAdam([nn.Parameter(torch.zeros(R, 2))], 0.5)
    with pytest.raises(RuntimeError):
        StackedAdam(parameters(), 0.5).load_state_dict(other.state_dict())


def test_gradients_may_have_any_strides() -> None:
    stacked, strided = parameters(), parameters()
    for step in range(2):
        set_gradients(stacked, step)
        for parameter, other in zip(stacked, strided, strict=True):
            assert parameter.grad is not None
            apart = torch.full((R, 3, *parameter.shape[1:]), torch.nan)
            apart[:, 1] = parameter.grad
            other.grad = apart[:, 1] if step else parameter.grad.transpose(0, -1).contiguous().transpose(0, -1)
    for row in (stacked, strided):
        StackedAdam(row, 0.5).step(0.01, torch.ones(R, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(stacked, strided, strict=True))


def test_a_nan_gradient_is_not_hidden() -> None:
    stacked = parameters()
    set_gradients(stacked, 0)
    assert stacked[0].grad is not None
    stacked[0].grad[1, 2, 1] = torch.nan
    StackedAdam(stacked, 0.5).step(0.01, torch.ones(R, dtype=torch.bool))
    for parameter in stacked:
        assert parameter[1].isnan().all() and parameter[[0, 2]].isfinite().all()


def test_backward_through_a_graph_of_before_a_step_is_refused() -> None:
    (parameter,) = stacked = parameters()[:1]
    loss = parameter.square().sum()
    set_gradients(stacked, 0)
    StackedAdam(stacked, 0.5).step(0.01, torch.ones(R, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.skipif(calls.level() == calls.NONE, reason="no kernels were built, or not for this processor")
def test_tensors_that_do_not_fit_are_refused_before_they_are_read() -> None:
    numbers, state, sets = torch.zeros(R, 4), (torch.zeros(R, 4), torch.zeros(R, 4), torch.zeros(R, 1)), torch.ones(R)
    settings = {"max_norm": 0.5, "rate": 0.1, "epsilon": 1e-5, "beta_1": 0.9, "beta_2": 0.999}
    adam.adam_step([numbers], [numbers], state, sets.bool(), **settings)
    for gradient, active in ((torch.zeros(R, 5), sets), (torch.zeros(R, 3), sets), (numbers, torch.ones(R - 1))):
        with pytest.raises(ValueError, match="not possible"):
            adam.adam_step([numbers], [gradient], state, active.bool(), **settings)
