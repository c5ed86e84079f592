"""Branched rollouts in models whose predictions are set by hand."""

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo import TrainingError
from dmpo.models.rollouts import branched_rollout
from dmpo.models.trainer import Step
from tests.dmpo.learners import D, make_learner

N, B, T = 4, 6, 5
GRAPH = nx.path_graph(N)


class KnownModel:
    """s' = 2 s + the action's number; ends where an agent's first number passes a limit."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.received: list[Tensor] = []

    def distance(self, states: Tensor) -> Tensor:
        """Data have mean zero and standard deviation one."""
        return states

    def predict(self, states: Tensor, actions: Tensor) -> Step:
        """States (N, B, D), actions (N, B)."""
        self.received.append(states.clone())
        next_states = 2 * states + actions.unsqueeze(-1)
        rewards = next_states.sum(-1)
        return Step(next_states, rewards, rewards, next_states[..., 0] > self.limit)


def rolled(models: KnownModel, scale: float = 1.0) -> "object":
    learner = make_learner(GRAPH, "discrete")
    starts = scale * torch.rand(B, N, D, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    return learner, branched_rollout(models, learner.policy, lambda x: x, starts, T, generator)  # type: ignore[arg-type]


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
        assert batch.valid[:, b].tolist() == [t <= last for t in range(T)]
        assert batch.terminated[:, b].nonzero().flatten().tolist() == ends[:1]


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
