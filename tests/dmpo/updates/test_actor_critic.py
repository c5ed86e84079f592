"""Samples, and gradients of policies and critics that are accumulated over chunks of them."""

from dataclasses import fields
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

import dmpo.updates.actor_critic
from dmpo.nn.kernels import calls
from dmpo.updates.actor_critic import Samples
from tests.dmpo.learners import make_learner, random_batch


@pytest.mark.parametrize("shared", [False, True])
def test_walking_a_batch_in_chunks_gives_the_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    gradients = []
    for chunk in (10**9, 21):  # seven samples of three agents
        monkeypatch.setattr(dmpo.updates.actor_critic, "CHUNK_STATES", chunk)
        monkeypatch.setattr(dmpo.updates.actor_critic, "CHUNK_MIN_SAMPLES", 1)
        learner = make_learner(nx.path_graph(3), epochs=1, minibatches=1, share_parameters=shared)
        with calls.limited(calls.NONE):  # kernels need no chunks
            learner.improve(random_batch(learner), 0.0)
        gradients.append([p.grad for m in (learner.policy, learner.critic) for p in m.parameters()])
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, chunked, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(("count", "sizes"), [(3, [3]), (7, [7]), (14, [14]), (15, [7, 8]), (31, [10, 10, 11])])
def test_pieces_of_a_batch_are_equal_and_nothing_is_copied(count: int, sizes: list[int]) -> None:
    samples = Samples(*(torch.arange(float(count)).unsqueeze(1) for _ in fields(Samples)))
    pieces = list(samples.split(10))
    assert [len(piece) for piece in pieces] == sizes
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), samples.targets)
    memory = samples.states.untyped_storage().data_ptr()
    assert all(piece.states.untyped_storage().data_ptr() == memory for piece in pieces)


@pytest.mark.skipif(calls.level() == calls.NONE, reason="no kernels were built, or not for this processor")
@pytest.mark.parametrize(("name", "by_kernels"), [("dppo", 1), ("ia2c", 4)])
def test_batches_are_cut_only_where_hidden_outputs_are_kept_for_the_gradient(
    name: str, by_kernels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clipped surrogate has a kernel, the loss of advantage actor-critic is PyTorch's.
    monkeypatch.setattr(dmpo.updates.actor_critic, "CHUNK_STATES", 1)
    monkeypatch.setattr(dmpo.updates.actor_critic, "CHUNK_MIN_SAMPLES", 6)
    once = {"epochs": 1, "minibatches": 1} if name == "dppo" else {}
    learner = make_learner(nx.path_graph(3), name=name, **once)
    networks, counts = learner.update.actor_critic, []
    accumulate = networks.policy_gradient

    def watched(loss: Any, *rest: Any, **also: Any) -> tuple[Tensor, Tensor]:
        def counted(samples: Samples) -> tuple[Tensor, Tensor]:
            counts.append(len(samples))
            return loss(samples)

        return accumulate(counted, *rest, **also)

    monkeypatch.setattr(networks, "policy_gradient", watched)
    for level, pieces in ((calls.level(), by_kernels), (calls.NONE, 4)):
        counts.clear()
        with calls.limited(level):
            learner.improve(random_batch(learner), 0.0)
        assert counts == [24 // pieces] * pieces
