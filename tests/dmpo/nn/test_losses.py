"""Losses and gradients by kernels are those by PyTorch, at every level that this processor has."""

from dataclasses import replace
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.nn import functional
from dmpo.nn.kernels import calls
from dmpo.nn.losses import needs_chunks, value_loss
from dmpo.updates.actor_critic import Samples
from tests.dmpo.learners import D, Losses, losses_of, make_learner, set_precision

with_kernels = pytest.mark.skipif(
    calls.level() == calls.NONE, reason="no kernels were built, or not for this processor"
)
LEVELS = range(calls.AVX2, calls.level() + 1)
SAMPLES = [1, 37, 700]  # of a vector, of a tile, of several
BFLOAT16_TOLERANCE = 0.03  # bfloat16 numbers are rounded by 2⁻⁹ at most, layer by layer
N = 5


def learner_of(actions: str, **settings: Any) -> OnPolicyLearner:
    graph = nx.DiGraph([(0, 1), (1, 2), (3, 1)])
    graph.add_node(4)
    return make_learner(graph, actions, hidden_sizes=[24, 20], kl_target=0.01, **settings)


def samples_for(learner: OnPolicyLearner, count: int) -> Samples:
    """Actions of other policies than the learner's, so that ratios lie on both sides of both ends of the clip."""
    random, distribution = torch.Generator().manual_seed(0), learner.distribution
    learner.policy.network.head.weight.data *= 100
    states = torch.randn(count, learner.policy.neighborhood.num_agents, D, generator=random)
    with torch.no_grad():
        old_dist_params = learner.policy(states + 0.3 * torch.randn(states.shape, generator=random)).contiguous()
    actions = distribution.sample(old_dist_params, random)
    return Samples(
        states=states,
        actions=actions.contiguous(),
        dist_params=old_dist_params,
        old_log_probs=distribution.log_prob(old_dist_params, actions).contiguous(),
        advantages=torch.randn(states.shape[:2], generator=random),
        targets=torch.randn(states.shape[:2], generator=random),
        weights=None,
    )


def with_gradients(learner: OnPolicyLearner, samples: Samples, level: int) -> tuple[Losses, list[Tensor]]:
    """Losses, and the gradients of all parameters, every agent's loss being weighed differently."""
    with calls.limited(level):
        losses = losses_of(learner, samples, 0.05)
        every = *learner.policy.parameters(), *learner.critic.parameters()
        parameters = [parameter for parameter in every if parameter.numel()]
        weighed = (losses.policy - 2 * losses.value) * torch.arange(1.0, 1.0 + len(losses.value))
        return losses, list(torch.autograd.grad(weighed.sum(), parameters))


def alike(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return found.shape == expected.shape and bool((found - expected).norm() <= tolerance * expected.norm())


@with_kernels
@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize("level", LEVELS)
def test_losses_and_gradients_are_those_of_pytorch(level: int, actions: str, samples: int) -> None:
    learner = learner_of(actions)
    drawn, rounded = samples_for(learner, samples), level == calls.AVX512_BF16
    with torch.no_grad():
        ratio = (learner.distribution.log_prob(learner.policy(drawn.states), drawn.actions) - drawn.old_log_probs).exp()
    assert samples == 1 or ((ratio < 0.8).any() and (ratio > 1.2).any() and ((ratio > 0.8) & (ratio < 1.2)).any())
    expected, to_parameters = with_gradients(learner, drawn, calls.NONE)
    for precision, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, BFLOAT16_TOLERANCE))[: 1 + rounded]:
        set_precision(learner, precision)
        losses, found = with_gradients(learner, drawn, level)
        for name in Losses._fields:
            assert alike(getattr(losses, name), getattr(expected, name), tolerance), name
        if precision == torch.float32:  # a ratio near the end of the clip may be rounded to its other side
            assert all(alike(*pair, tolerance) for pair in zip(found, to_parameters, strict=True))
    assert rounded == (learner.policy.network.precision == torch.bfloat16)


@with_kernels
@pytest.mark.parametrize("level", LEVELS)
def test_gradients_of_the_value_loss_agree_in_bfloat16(level: int) -> None:
    learner = learner_of("continuous")
    drawn = samples_for(learner, 300)

    def gradients(which: int) -> tuple[Tensor, ...]:
        with calls.limited(which):
            loss = value_loss(learner.critic, drawn.states, drawn.targets).sum()
            return torch.autograd.grad(loss, list(learner.critic.parameters()))

    expected = gradients(calls.NONE)
    if level == calls.AVX512_BF16:
        set_precision(learner, torch.bfloat16)
    assert all(alike(*pair, BFLOAT16_TOLERANCE) for pair in zip(gradients(level), expected, strict=True))


@with_kernels
@pytest.mark.parametrize("hidden", [[], [24]])
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_one_agent_and_networks_without_hidden_layers_have_the_same_gradients(actions: str, hidden: list[int]) -> None:
    learner = make_learner(nx.empty_graph(1), actions, hidden_sizes=hidden, kl_target=0.01)
    drawn = samples_for(learner, 200)
    (expected, to_parameters), (losses, found) = (
        with_gradients(learner, drawn, level) for level in (calls.NONE, calls.level())
    )
    for name in Losses._fields:
        assert alike(getattr(losses, name), getattr(expected, name), 2e-5), name
    assert all(alike(*pair, 2e-5) for pair in zip(found, to_parameters, strict=True))


@with_kernels
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_an_unchanged_policy_has_no_divergence(actions: str) -> None:
    learner = learner_of(actions)
    drawn = samples_for(learner, 100)
    with torch.no_grad():
        same = learner.policy(drawn.states).contiguous()
    losses = losses_of(learner, replace(drawn, dist_params=same))
    assert (losses.kl.abs() <= (0 if actions == "continuous" else 1e-6)).all()


@with_kernels
@pytest.mark.parametrize("what", ["states", "advantages", "targets", "old_log_probs"])
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_a_nan_is_not_hidden(actions: str, what: str) -> None:
    learner = learner_of(actions)
    drawn = samples_for(learner, 100)
    getattr(drawn, what)[41, 2] = torch.nan
    losses = losses_of(learner, drawn)
    hit = losses.value if what == "targets" else losses.policy
    assert hit[2].isnan() and not hit[[0, 4]].isnan().any()


@with_kernels
def test_an_infinite_ratio_is_not_hidden() -> None:
    learner = learner_of("continuous")
    drawn = samples_for(learner, 100)
    drawn.old_log_probs[41, 2] = -torch.inf
    for advantage in (1.0, 0.0, -1.0):
        drawn.advantages[41, 2] = advantage
        found, expected = (with_gradients(learner, drawn, level)[0] for level in (calls.level(), calls.NONE))
        torch.testing.assert_close(found.policy, expected.policy, equal_nan=True)


def test_only_own_networks_with_gradients_of_parameters_alone_are_fused() -> None:
    learner, shared = learner_of("discrete"), learner_of("discrete", share_parameters=True)
    states, built = torch.zeros(4, N, D), calls.level() != calls.NONE
    assert (
        needs_chunks(learner.policy, states) != built
    )  # PyTorch keeps hidden outputs for the gradient, kernels do not
    assert needs_chunks(shared.policy, states)
    assert needs_chunks(learner.policy, states.clone().requires_grad_())
    with torch.no_grad():
        assert needs_chunks(learner.policy, states)
    with calls.limited(calls.NONE):
        assert needs_chunks(learner.policy, states)


def test_the_clipped_surrogate_by_hand() -> None:
    ratios = torch.tensor([1.0, 1.1, 1.5, 0.5, 1.5, 0.5])
    advantage = torch.tensor([2.0, 2.0, 2.0, 2.0, -2.0, -2.0])
    result = functional.clipped_surrogate(ratios.log(), torch.zeros(6), advantage, 0.2)
    torch.testing.assert_close(result, torch.tensor([2.0, 2.2, 2.4, 1.0, -3.0, -1.6]))
