"""What the kernels learn in one pass is what PyTorch learns, at every level that this processor has."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from dmpo.algorithms.on_policy import OnPolicy
from dmpo.nn import kernels
from dmpo.nn.kernels.learn import CATEGORICAL, GAUSSIAN, SQUARES, Lesson
from dmpo.nn.losses import clipped_surrogate, lesson_loss, suits
from dmpo.updates.actor_critic import Losses, Samples
from tests.dmpo.learners import D, make_learner

with_kernels = pytest.mark.skipif(
    kernels.level() == kernels.NONE, reason="no kernels were built, or not for this processor"
)
LEVELS = range(kernels.AVX2, kernels.level() + 1)
SAMPLES = [1, 37, 700]  # of a vector, of a tile, of several
ROUGH = 0.03  # of bfloat16 numbers, which are rounded by 2⁻⁹ at most, layer by layer
N = 5


def learner_of(actions: str, **settings: Any) -> OnPolicy:
    graph = nx.DiGraph([(0, 1), (1, 2), (3, 1)])
    graph.add_node(4)
    return make_learner(graph, actions, hidden_sizes=[24, 20], kl_target=0.01, **settings)


def samples_for(learner: OnPolicy, count: int) -> Samples:
    """Actions of other policies than the learner's, so that ratios lie on both sides of both ends of the clip."""
    random, distribution = torch.Generator().manual_seed(0), learner.ppo.distribution
    learner.policy.network.head.weight.data *= 100
    states = torch.randn(count, learner.policy.neighborhood.num_agents, D, generator=random)
    with torch.no_grad():
        behavior = learner.policy(states + 0.3 * torch.randn(states.shape, generator=random)).contiguous()
    actions = distribution.sample(behavior, random)
    return Samples(
        states=states,
        actions=actions.contiguous(),
        behavior=behavior,
        log_probs=distribution.log_prob(behavior, actions).contiguous(),
        advantages=torch.randn(states.shape[:2], generator=random),
        targets=torch.randn(states.shape[:2], generator=random),
    )


def with_gradients(learner: OnPolicy, samples: Samples, level: int) -> tuple[Losses, list[Tensor]]:
    """Losses, and the gradients of all parameters, every agent's loss being weighed differently."""
    with kernels.limited(level):
        losses = learner.ppo.losses(samples, 0.05)
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
    drawn, rounded = samples_for(learner, samples), level == kernels.AVX512_BF16
    with torch.no_grad():
        ratio = (learner.ppo.distribution.log_prob(learner.policy(drawn.states), drawn.actions) - drawn.log_probs).exp()
    assert samples == 1 or ((ratio < 0.8).any() and (ratio > 1.2).any() and ((ratio > 0.8) & (ratio < 1.2)).any())
    expected, to_parameters = with_gradients(learner, drawn, kernels.NONE)
    for precision, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, ROUGH))[: 1 + rounded]:
        learner.set_precision(precision)
        losses, found = with_gradients(learner, drawn, level)
        for f in fields(losses):
            assert alike(getattr(losses, f.name), getattr(expected, f.name), tolerance), f.name
        if precision == torch.float32:  # a ratio near the end of the clip may be rounded to its other side
            assert all(alike(*pair, tolerance) for pair in zip(found, to_parameters, strict=True))
    assert rounded == (learner.policy.network.precision == torch.bfloat16)


@with_kernels
@pytest.mark.parametrize("level", LEVELS)
def test_the_squares_gradient_in_bfloat16_is_near(level: int) -> None:
    learner = learner_of("continuous")
    drawn = samples_for(learner, 300)

    def gradients(which: int) -> tuple[Tensor, ...]:
        with kernels.limited(which):
            loss = learner.ppo._value_loss(drawn).sum()
            return torch.autograd.grad(loss, list(learner.critic.parameters()))

    expected = gradients(kernels.NONE)
    if level == kernels.AVX512_BF16:
        learner.set_precision(torch.bfloat16)
    assert all(alike(*pair, ROUGH) for pair in zip(gradients(level), expected, strict=True))


@with_kernels
@pytest.mark.parametrize("hidden", [[], [24]])
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_an_agent_alone_and_one_without_hidden_layers_learn_as_well(actions: str, hidden: list[int]) -> None:
    learner = make_learner(nx.empty_graph(1), actions, hidden=hidden, kl_target=0.01)
    drawn = samples_for(learner, 200)
    (expected, to_parameters), (losses, found) = (
        with_gradients(learner, drawn, level) for level in (kernels.NONE, kernels.level())
    )
    for f in fields(losses):
        assert alike(getattr(losses, f.name), getattr(expected, f.name), 2e-5), f.name
    assert all(alike(*pair, 2e-5) for pair in zip(found, to_parameters, strict=True))


@with_kernels
def test_samples_are_cut_only_where_something_is_kept_between_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo.updates.actor_critic.CHUNK", 1)
    monkeypatch.setattr("dmpo.updates.actor_critic.LEAST", 50)
    ours, theirs = learner_of("discrete"), make_learner(nx.path_graph(N), "discrete", name="ia2c")
    drawn = samples_for(ours, 200)

    def pieces(which: Any, with_policy: bool = True) -> int:
        return len(list(which._pieces(drawn, with_policy)))

    assert pieces(ours.ppo) == pieces(ours.ppo, with_policy=False) == 1
    a2c: Any = theirs._learning
    assert pieces(a2c) == 4
    with kernels.limited(kernels.NONE):
        assert pieces(ours.ppo) == pieces(ours.ppo, with_policy=False) == 4


@with_kernels
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_a_policy_that_has_not_moved_is_at_no_distance(actions: str) -> None:
    learner = learner_of(actions)
    drawn = samples_for(learner, 100)
    with torch.no_grad():
        same = learner.policy(drawn.states).contiguous()
    losses = learner.ppo.losses(replace(drawn, behavior=same), 0.0)
    assert (losses.kl.abs() <= (0 if actions == "continuous" else 1e-6)).all()


@with_kernels
@pytest.mark.parametrize("what", ["states", "advantages", "targets", "log_probs"])
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_what_is_no_number_is_not_hidden(actions: str, what: str) -> None:
    learner = learner_of(actions)
    drawn = samples_for(learner, 100)
    getattr(drawn, what)[41, 2] = torch.nan
    losses = learner.ppo.losses(drawn, 0.0)
    hit = losses.value if what == "targets" else losses.policy
    assert hit[2].isnan() and not hit[[0, 4]].isnan().any()


@with_kernels
def test_a_ratio_beyond_all_numbers_is_not_hidden() -> None:
    learner = learner_of("continuous")
    drawn = samples_for(learner, 100)
    drawn.log_probs[41, 2] = -torch.inf
    for advantage in (1.0, 0.0, -1.0):
        drawn.advantages[41, 2] = advantage
        found, expected = (with_gradients(learner, drawn, level)[0] for level in (kernels.level(), kernels.NONE))
        torch.testing.assert_close(found.policy, expected.policy, equal_nan=True)


@with_kernels
def test_agents_that_share_parameters_are_refused_before_anything_is_read() -> None:
    shared = learner_of("continuous", share_parameters=True)
    network, hood = shared.critic.network, shared.critic.neighborhood
    with pytest.raises(ValueError, match="1 sets of parameters are not possible"):
        lesson_loss(network, torch.zeros(10, N, D), hood, Lesson(SQUARES, torch.zeros(10 * N, 1)))


def refused(change: dict[str, Any], kind: int = GAUSSIAN) -> Callable[[], Tensor]:
    learner = learner_of("discrete" if kind == CATEGORICAL else "continuous")
    drawn = samples_for(learner, 10)
    network = learner.critic.network if kind == SQUARES else learner.policy.network
    given: dict[str, Any] = {"targets": drawn.log_probs}
    if kind != SQUARES:
        given |= {"advantages": drawn.advantages, "actions": drawn.actions, "behavior": drawn.behavior}
    if kind == GAUSSIAN:
        given["log_std"] = learner.policy.log_std
    lesson = Lesson(kind, **{**given, **change})
    hood = learner.critic.neighborhood if kind == SQUARES else learner.policy.neighborhood
    return lambda: lesson_loss(network, drawn.states, hood, lesson)[0]


@with_kernels
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (SQUARES, {"targets": torch.zeros(9, N)}),
        (SQUARES, {"targets": torch.zeros(N, 10).T}),
        (GAUSSIAN, {"advantages": None}),
        (GAUSSIAN, {"actions": torch.zeros(10, N, 3)}),
        (GAUSSIAN, {"behavior": torch.zeros(10, N, 2)}),
        (GAUSSIAN, {"log_std": torch.zeros(1, 2)}),
        (CATEGORICAL, {"actions": torch.zeros(10, N)}),
    ],
)
def test_a_lesson_that_does_not_fit_is_refused_before_anything_is_read(kind: int, change: dict[str, Any]) -> None:
    assert refused({}, kind)().isfinite().all()
    with pytest.raises(ValueError, match=f"{next(iter(change))}=.* is not possible"):
        refused(change, kind)()


def test_the_rest_is_left_to_pytorch() -> None:
    learner, shared = learner_of("discrete"), learner_of("discrete", share_parameters=True)
    states, built = torch.zeros(4, N, D), kernels.level() != kernels.NONE
    assert suits(learner.policy.network, states) == built
    assert not suits(shared.policy.network, states)
    assert not suits(learner.policy.network, states.clone().requires_grad_())
    with torch.no_grad():
        assert not suits(learner.policy.network, states)
    with kernels.limited(kernels.NONE):
        assert not suits(learner.policy.network, states)


def test_the_clipped_surrogate_by_hand() -> None:
    ratios = torch.tensor([1.0, 1.1, 1.5, 0.5, 1.5, 0.5])
    advantage = torch.tensor([2.0, 2.0, 2.0, 2.0, -2.0, -2.0])
    result = clipped_surrogate(ratios.log(), torch.zeros(6), advantage, 0.2)
    torch.testing.assert_close(result, torch.tensor([2.0, 2.2, 2.4, 1.0, -3.0, -1.6]))
