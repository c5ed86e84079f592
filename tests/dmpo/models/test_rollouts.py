"""Imagined rollouts, in models whose predictions are set by hand."""

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo import TrainingError
from dmpo.models.rollouts import branch
from dmpo.models.trainer import Step
from tests.dmpo.learners import D, make_learner

N, B, T = 4, 6, 5
GRAPH = nx.path_graph(N)


class Known:
    """s' = 2 s + the action's number; ends where an agent's first number passes a limit."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.asked: list[Tensor] = []

    def distance(self, states: Tensor) -> Tensor:
        """As if all had been seen with mean zero and standard deviation one."""
        return states

    def predict(self, states: Tensor, actions: Tensor) -> Step:
        """States (N, B, D), actions (N, B)."""
        self.asked.append(states.clone())
        following = 2 * states + actions.unsqueeze(-1)
        rewards = following.sum(-1)
        return Step(following, rewards, rewards, following[..., 0] > self.limit)


def rolled(models: Known, scale: float = 1.0) -> "object":
    learner = make_learner(GRAPH, "discrete")
    starts = scale * torch.rand(B, N, D, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    return learner, branch(models, learner.policy, starts, T, lambda x: x, generator)  # type: ignore[arg-type]


def test_each_step_is_predicted_from_the_last_for_all_agents_together() -> None:
    models = Known()
    learner, batch = rolled(models)
    for t in range(T):
        torch.testing.assert_close(models.asked[t].transpose(0, 1), batch.observations[t])
        expected = 2 * batch.observations[t] + batch.actions[t].unsqueeze(-1)
        torch.testing.assert_close(batch.observations[t + 1], expected)
        torch.testing.assert_close(batch.rewards[t], expected.sum(-1))
        torch.testing.assert_close(batch.behavior[t], learner.policy(batch.observations[t]))
    assert batch.valid.all() and not batch.terminated.any() and not batch.truncated.any()


def test_nothing_counts_behind_the_first_predicted_end_of_any_agent() -> None:
    _, batch = rolled(Known(limit=8.0))
    past = (batch.observations[1:, ..., 0] > 8.0).any(-1)  # (T, B)
    assert past.any() and not past.all()
    for b in range(B):
        ends = past[:, b].nonzero().flatten().tolist()
        last = ends[0] if ends else T - 1
        assert batch.valid[:, b].tolist() == [t <= last for t in range(T)]
        assert batch.terminated[:, b].nonzero().flatten().tolist() == ends[:1]


def test_a_policy_learns_nothing_from_behind_a_predicted_end() -> None:
    # The same batch, with other numbers behind the ends, gives the same parameters.
    results = []
    for change in (0.0, 100.0):
        learner, batch = rolled(Known(limit=8.0))
        hidden = ~batch.valid
        batch.rewards[hidden] += change
        learner.ppo.improve(batch, 0.0)
        results.append(torch.cat([p.detach().flatten() for p in learner.policy.parameters()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("value", [1e9, -1e9, float("inf"), float("-inf"), float("nan")])
def test_a_model_that_explodes_is_named_with_the_step(value: float) -> None:
    class Exploding(Known):
        def predict(self, states: Tensor, actions: Tensor) -> Step:
            found = super().predict(states, actions)
            if len(self.asked) == 3:
                found.states[2, 1] = value
            return found

    with pytest.raises(TrainingError, match="imagined state of agent 2 exploded: after 3 steps"):
        rolled(Exploding())
    # Behind a predicted end states stay where they are, whatever a model says.
    _, batch = rolled(Exploding(limit=-1.0))
    assert all(torch.equal(batch.observations[1], later) for later in batch.observations[2:])
