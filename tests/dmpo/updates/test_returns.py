import networkx as nx
import pytest
import torch

from dmpo.updates.returns import advantages, lambda_returns, next_values, reduce_over_neighborhood, standardized
from graphs import Neighborhood


def column(*numbers: float) -> torch.Tensor:
    """(T, 1, 1)."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1)


def flags(*where: int, steps: int = 3) -> torch.Tensor:
    """(T, 1, 1), true at some steps."""
    return torch.tensor([t in where for t in range(steps)]).view(-1, 1, 1)


REWARDS = column(1, 2, 3)
VALUES = column(10, 20, 30)
GAMMA, LAMBDA = 0.5, 0.5
ALL = ~flags()
NONE = flags(), flags()[..., 0], ALL  # of the steps is an end, one way or the other


def next_v(final: float | None = None, at: int = 1) -> torch.Tensor:
    """V(s^{t+1}) of the values 10, 20, 30 and 40 at the end; an episode may end in a state worth `final`."""
    index = torch.tensor([] if final is None else [at], dtype=torch.int64)
    final_values = torch.tensor([] if final is None else [float(final)]).view(-1, 1)
    return next_values(column(10, 20, 30, 40), index, final_values)


def test_advantages_of_an_episode_that_goes_on() -> None:
    # δ = 1 + 10 - 10, 2 + 15 - 20, 3 + 20 - 30; A_2 = -7, A_1 = -3 + 0.25 · -7, A_0 = 1 + 0.25 · A_1.
    result = advantages(REWARDS, VALUES, next_v(), *NONE, GAMMA, LAMBDA)
    assert result.flatten().tolist() == pytest.approx([-0.1875, -4.75, -7.0])


def test_returns_of_equation_5() -> None:
    # 3 + 0.5 · 40; 2 + 0.5 · 23; 1 + 0.5 · 13.5.
    result = lambda_returns(VALUES, advantages(REWARDS, VALUES, next_v(), *NONE, GAMMA, 1.0))
    assert result.flatten().tolist() == pytest.approx([7.75, 13.5, 23.0])


def test_a_terminal_state_has_no_value() -> None:
    # The value 100 of the last state does not count, nor what comes after.
    arguments = (REWARDS, VALUES, next_v(final=100), flags(1), flags()[..., 0], ALL)
    assert lambda_returns(VALUES, advantages(*arguments, GAMMA, 1.0)).flatten().tolist() == pytest.approx(
        [2.0, 2.0, 23.0]
    )
    # δ = 1, 2 - 20, -7; A_0 = 1 + 0.25 · -18.
    assert advantages(*arguments, GAMMA, LAMBDA).flatten().tolist() == pytest.approx([-3.5, -18.0, -7.0])


def test_a_time_limit_is_bootstrapped_from_the_last_state_of_its_episode() -> None:
    # 2 + 0.5 · 100; 1 + 0.5 · 52. The next episode's first state, worth 30, does not count.
    arguments = (REWARDS, VALUES, next_v(final=100), flags(), flags(1)[..., 0], ALL)
    assert lambda_returns(VALUES, advantages(*arguments, GAMMA, 1.0)).flatten().tolist() == pytest.approx(
        [27.0, 52.0, 23.0]
    )
    # δ = 1, 2 + 50 - 20, -7; A_0 = 1 + 0.25 · 32.
    assert advantages(*arguments, GAMMA, LAMBDA).flatten().tolist() == pytest.approx([9.0, 32.0, -7.0])


def test_a_time_limit_at_the_last_step_is_bootstrapped_from_there() -> None:
    ends = {"next_v": next_v(final=100, at=2), "terminated": flags(), "truncated": flags(2)[..., 0], "valid": ALL}
    result = lambda_returns(VALUES, advantages(REWARDS, VALUES, **ends, gamma=GAMMA, lambda_=1.0))
    assert result.flatten().tolist()[-1] == pytest.approx(53.0)


@pytest.mark.parametrize("ended", ["terminated", "truncated"])
def test_no_episode_leaks_into_the_one_before(ended: str) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values, after = (torch.randn(8, 2, 3, generator=generator) for _ in range(3))
    end = torch.zeros(8, 2, 3, dtype=torch.bool)
    end[4, 0] = True
    nothing = torch.zeros_like(end)
    flags_ = (end, nothing[..., 0], ~nothing) if ended == "terminated" else (nothing, end[..., 0], ~nothing)
    before = advantages(rewards, values, after, *flags_, 0.9, 0.8)
    for x in (rewards, values, after):
        x[5:] += 100
    later = advantages(rewards, values, after, *flags_, 0.9, 0.8)
    assert torch.equal(before[:5, 0], later[:5, 0])
    assert not torch.equal(before[:5, 1], later[:5, 1])


def test_agents_may_end_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values, after = (torch.randn(5, 1, 2, generator=generator) for _ in range(3))
    end = torch.zeros(5, 1, 2, dtype=torch.bool)
    end[2, 0, 0] = True
    cut, valid = torch.zeros(5, 1, dtype=torch.bool), torch.ones(5, 1, 2, dtype=torch.bool)
    together = advantages(rewards, values, after, end, cut, valid, 0.9, 0.8)
    for i in range(2):
        values_, end_, valid_ = (
            [x[..., i : i + 1] for x in part] for part in ((rewards, values, after), [end], [valid])
        )
        torch.testing.assert_close(together[..., i : i + 1], advantages(*values_, *end_, cut, *valid_, 0.9, 0.8))


def test_a_lost_step_pays_nothing_and_the_one_before_is_bootstrapped_once() -> None:
    # Step 1 was lost with its simulation: R_0 = 1 + 0.5 · 20, and step 2 begins another episode.
    lost = REWARDS, VALUES, next_v(final=100), flags(), flags(1)[..., 0], ~flags(1)
    found = advantages(*lost, GAMMA, 1.0)
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0, -7.0])
    assert lambda_returns(VALUES, found).flatten()[0] == pytest.approx(11.0)


@pytest.mark.parametrize("kappa", [0, 1, 2, 5])
def test_reduced_values_are_those_of_a_loop(graph: nx.Graph, kappa: int) -> None:
    values = torch.randn(7, 2, len(graph))
    loop = torch.stack(
        [
            sum(values[..., j] for j in nx.single_source_shortest_path_length(graph, i, cutoff=kappa)) / len(graph)
            for i in graph
        ],
        -1,
    )
    torch.testing.assert_close(reduce_over_neighborhood(Neighborhood(graph, kappa), values), loop)


def test_advantages_on_reduced_values_are_reduced_advantages() -> None:
    neighborhood = Neighborhood(nx.cycle_graph(5), 1)
    rewards, values, after = (torch.randn(6, 2, 5) for _ in range(3))
    terminated = (torch.rand(6, 2, 1) < 0.2).expand(6, 2, 5)
    ends = terminated, torch.rand(6, 2) < 0.2, torch.ones(6, 2, 5, dtype=torch.bool)
    first = advantages(*(reduce_over_neighborhood(neighborhood, x) for x in (rewards, values, after)), *ends, 0.9, 0.7)
    second = reduce_over_neighborhood(neighborhood, advantages(rewards, values, after, *ends, 0.9, 0.7))
    torch.testing.assert_close(first, second)


def test_standardizing_is_per_agent_over_all_samples() -> None:
    x = torch.randn(100, 3) * torch.tensor([1.0, 50.0, 0.01]) + torch.tensor([5.0, -20.0, 0.0])
    result = standardized(x)
    torch.testing.assert_close(result.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert bool(torch.isfinite(standardized(torch.ones(4, 3))).all())
