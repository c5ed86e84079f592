"""Open-loop loss of the models: its gradient by kernels is that by PyTorch."""

from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo.data.replay_buffer import Role, Sequences
from dmpo.models.trainer import ModelTrainer
from dmpo.nn.kernels import calls
from tests.dmpo.learners import D, make_learner, random_batch


def gradients_of(models: ModelTrainer, sequences: Sequences, level: int) -> list[Tensor]:
    models.model.zero_grad()
    with calls.limited(level):
        for scale in (0.5, 0.25):  # gradients are added
            models.loss.accumulate_gradients(models.model, models.normalized(sequences), scale)
    return [parameter.grad for parameter in models.model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("samples", "model_gradient"), [(1, "own"), (37, "neighborhood"), (700, "own")])
@pytest.mark.parametrize("model_actions", ["own", "neighbors"])
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize("level", range(calls.AVX2, calls.level() + 1))
def test_gradients_by_kernels_are_those_of_pytorch(
    level: int, actions: str, model_actions: str, samples: int, model_gradient: str
) -> None:
    graph = nx.DiGraph([(0, 1), (1, 2), (3, 1)])
    graph.add_node(4)
    kind = {"model_actions": model_actions, "model_gradient": model_gradient}
    learner: Any = make_learner(graph, actions, name="dmpo", model_fit_steps=2, model_batch_size=8, **kind)
    learner.fit(random_batch(learner), 0.0)
    models, random, steps = learner.models.trainer, torch.Generator().manual_seed(0), 3
    batch = models.sequences(1, Role.TRAINING).everything()
    drawn = torch.randint(batch.states.shape[1], (steps, samples), generator=random)
    sequences = Sequences(
        states=batch.states[:, drawn[0]] * 2,
        actions=batch.actions[0][:, drawn].transpose(0, 1),
        rewards=torch.randn(steps, 5, samples, generator=random),
        next_states=torch.randn(steps, 5, samples, D, generator=random),
        terminated=torch.rand(steps, samples, generator=random) < 0.2,
        ended_by=torch.rand(steps, 5, samples, generator=random) < 0.1,
    )
    sequences.states[:, ::5] *= 1e4  # beyond the bound of a model's states
    expected, before = gradients_of(models, sequences, calls.NONE), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for ours, theirs in zip(gradients_of(models, sequences, level), expected, strict=True):
                assert ours.shape == theirs.shape and (ours - theirs).norm() <= 1e-4 * theirs.norm()
    finally:
        torch.set_num_threads(before)
