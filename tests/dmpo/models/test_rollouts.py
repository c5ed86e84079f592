"""Branched rollouts in models whose predictions are set by hand."""

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo import TrainingError
from dmpo.models.rollouts import branched_rollout
from dmpo.models.trainer import Step
from graphs import Neighborhood
from tests.dmpo.learners import D, make_learner

N, B, T = 4, 6, 5
GRAPH = nx.path_graph(N)


class KnownModel:
    """s' = 2 s + the action's number; ends where an agent's first number passes a limit, which pays -100 - i."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.terminal_rewards = -100.0 - torch.arange(N)
        self.received: list[Tensor] = []

    def distance(self, states: Tensor) -> Tensor:
        """Data have mean zero and standard deviation one."""
        return states

    def predict(self, states: Tensor, actions: Tensor) -> Step:
        """States (N, B, D), actions (N, B)."""
        self.received.append(states.clone())
        next_states = 2 * states + actions.unsqueeze(-1)
        rewards = next_states.sum(-1)
        return Step(next_states, rewards, next_states[..., 0] > self.limit)


def rolled(models: KnownModel, scale: float = 1.0, told_within: Neighborhood | None = None) -> "object":
    learner = make_learner(GRAPH, "discrete")
    starts = scale * torch.rand(B, N, D, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    parts = models, learner.policy, lambda x: x
    return learner, branched_rollout(*parts, starts, T, told_within, generator)  # type: ignore[arg-type]


def test_each_step_is_predicted_from_the_last_for_all_agents_together() -> None:
    models = KnownModel()
    learner, batch = rolled(models)
    for t in range(T):
        torch.testing.assert_close(models.received[t].transpose(0, 1), batch.observations[t])
        expected = 2 * batch.observations[t] + batch.actions[t].unsqueeze(-1)
        torch.testing.assert_close(batch.observations[t + 1], expected)
        torch.testing.assert_close(batch.rewards[t], expected.sum(-1))
        torch.testing.assert_close(batch.old_dist_params[t], learner.policy(batch.observations[t]))
    assert batch.valid.all() and not batch.terminated.any() and not batch.truncated.any()


def test_steps_after_the_first_predicted_end_of_any_agent_are_padding() -> None:
    _, batch = rolled(KnownModel(limit=8.0))
    past = (batch.observations[1:, ..., 0] > 8.0).any(-1)  # (T, B)
    assert past.any() and not past.all()
    for b in range(B):
        ends = past[:, b].nonzero().flatten().tolist()
        last = ends[0] if ends else T - 1
        for i in range(N):
            assert batch.valid[:, b, i].tolist() == [t <= last for t in range(T)]
            assert batch.terminated[:, b, i].nonzero().flatten().tolist() == ends[:1]


def test_all_who_are_told_of_an_end_are_paid_their_own_mean_reward_at_real_ends_once() -> None:
    models = KnownModel(limit=8.0)
    _, batch = rolled(models)
    past = batch.observations[1:, ..., 0] > 8.0  # (T, B, N)
    over = batch.terminated.any(-1)  # (T, B)
    assert torch.equal(batch.ended_by, past & over.unsqueeze(-1))
    assert not batch.ended_by[over].all()  # most did not cause it, but all of them are paid
    assert torch.equal(batch.rewards[over], models.terminal_rewards.expand(int(over.sum()), N))
    before = batch.valid.all(-1) & ~over
    torch.testing.assert_close(batch.rewards[before], batch.observations[1:][before].sum(-1))


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_those_too_far_away_to_be_told_go_on_with_the_ended_ones_frozen(hops: int) -> None:
    models = KnownModel(limit=8.0)
    _, batch = rolled(models, told_within=Neighborhood(GRAPH, hops))
    distance = dict(nx.all_pairs_shortest_path_length(GRAPH))
    went_on = 0
    for b in range(B):
        going = set(range(N))
        for t in range(T):
            assert {i for i in range(N) if batch.valid[t, b, i]} == going
            causes = {i for i in going if batch.observations[t + 1, b, i, 0] > 8.0}
            told = {i for i in going if any(distance[j][i] <= hops for j in causes)}
            assert set(batch.ended_by[t, b].nonzero().flatten().tolist()) == causes
            assert set(batch.terminated[t, b].nonzero().flatten().tolist()) == told
            for i in range(N):
                if i not in going:
                    assert torch.equal(batch.observations[t + 1, b, i], batch.observations[t, b, i])
                elif i in told:
                    assert batch.rewards[t, b, i] == models.terminal_rewards[i]
                else:
                    expected = float(batch.observations[t + 1, b, i].sum())
                    assert float(batch.rewards[t, b, i]) == pytest.approx(expected, rel=1e-5)
            going -= told
            went_on += bool(told) and bool(going)
    assert went_on > 0 or hops == 2


def test_told_within_the_diameter_is_told_all() -> None:
    batches = [rolled(KnownModel(limit=8.0), told_within=told)[1] for told in (None, Neighborhood(GRAPH, N - 1))]
    for name, expected in vars(batches[0]).items():
        assert torch.equal(getattr(batches[1], name), expected)


def test_a_policy_learns_nothing_from_padding() -> None:
    # The same batch, with other numbers after the ends, gives the same parameters.
    results = []
    for change in (0.0, 100.0):
        learner, batch = rolled(KnownModel(limit=8.0))
        padding = ~batch.valid
        batch.rewards[padding] += change
        learner.update.improve(batch, 0.0)
        results.append(torch.cat([p.detach().flatten() for p in learner.policy.parameters()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("value", [1e9, -1e9, float("inf"), float("-inf"), float("nan")])
def test_a_model_that_explodes_is_named_with_the_step(value: float) -> None:
    class Exploding(KnownModel):
        def predict(self, states: Tensor, actions: Tensor) -> Step:
            found = super().predict(states, actions)
            if len(self.received) == 3:
                found.states[2, 1] = value
            return found

    with pytest.raises(TrainingError, match="model state of agent 2 exploded: after 3 steps"):
        rolled(Exploding())
    # After a predicted end states stay where they are, whatever a model says.
    _, batch = rolled(Exploding(limit=-1.0))
    assert all(torch.equal(batch.observations[1], later) for later in batch.observations[2:])
