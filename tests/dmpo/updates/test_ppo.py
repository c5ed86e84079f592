from dataclasses import replace

import networkx as nx
import pytest
import torch

from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.data.rollout import Rollout
from dmpo.errors import TrainingError
from dmpo.nn.kernels import calls
from dmpo.updates.actor_critic import Samples
from dmpo.updates.returns import advantages, next_values, standardized
from graphs import Neighborhood
from tests.dmpo.learners import flat, losses_of, make_learner, random_batch


def samples_of(learner: OnPolicyLearner, batch: Rollout) -> Samples:
    return learner.update.actor_critic.prepare(batch)[0]


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize("kappa", [0, 1, 2])
def test_no_loss_has_a_gradient_outside_its_neighborhood(graph: nx.Graph, actions: str, kappa: int) -> None:
    learner = make_learner(graph, actions, kappa=kappa, entropy_coef=0.01)
    samples = samples_of(learner, random_batch(learner))
    samples = replace(samples, states=samples.states.requires_grad_())
    losses = losses_of(learner, samples, 0.01)
    for i in graph:
        for loss, hops in ((losses.policy, 1), (losses.value, kappa)):
            (to_states,) = torch.autograd.grad(loss[i], samples.states, retain_graph=True)
            reached = set(to_states.abs().sum((0, 2)).nonzero().flatten().tolist())
            assert reached == set(nx.single_source_shortest_path_length(graph, i, cutoff=hops))


def test_no_loss_has_a_gradient_of_another_agents_parameters(graph: nx.Graph) -> None:
    learner = make_learner(graph)
    losses = losses_of(learner, samples_of(learner, random_batch(learner)))
    for parameter in learner.policy.parameters():
        (gradient,) = torch.autograd.grad(losses.policy[2], parameter, retain_graph=True)
        assert gradient[2].any()
        assert not gradient[[0, 1, 3, 4, 5]].any()


@pytest.mark.parametrize(
    ("what", "unmoved"),
    [
        (("rewards", "actions"), [0, 1]),  # agent 2 takes the reward of agent 3 into account
        (("observations", "final_observations", "rewards", "actions"), [0]),  # agent 1 the value of 2, who sees 3
    ],
)
def test_an_agents_update_does_not_depend_on_agents_far_away(what: tuple[str, ...], unmoved: list[int]) -> None:
    # Rewards beyond κ do not matter, nor states beyond 2κ: values that see κ hops are reduced over κ hops.
    graph, far = nx.path_graph(6), [3, 4, 5]
    first, second = (make_learner(graph, kappa=1, epochs=3, lr_value=0.1, lr_policy=0.1) for _ in range(2))
    batch = random_batch(first)
    changed = replace(batch, **{name: getattr(batch, name).clone() for name in what})
    for name in what:
        x = getattr(changed, name)
        agents = x.movedim(1 if name == "final_observations" else 2, 0)  # (N, ...)
        agents[far] = agents[far] * -3 + 1
    for learner, data in ((first, batch), (second, changed)):
        learner.generator.manual_seed(0)
        learner.improve(data, 0.0)
    same = (flat(first) == flat(second)).all(1)
    assert same.nonzero().flatten().tolist() == unmoved


def test_advantages_are_standardized_per_agent() -> None:
    learner = make_learner(nx.path_graph(3))
    batch = random_batch(learner)
    batch = replace(batch, rewards=batch.rewards * torch.tensor([1.0, 1e-3, 1e6]))
    standard = samples_of(learner, batch).advantages
    torch.testing.assert_close(standard.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize("hops", [0, 2, None])
def test_advantages_are_reduced_over_the_reward_neighborhood(graph: nx.Graph, hops: int | None) -> None:
    learner = make_learner(graph, kappa=1, gamma=0.9, gae_lambda=0.7)
    learner.update.actor_critic.reward_neighborhood = Neighborhood(graph, hops=hops)
    batch = random_batch(learner)
    with torch.no_grad():
        values, final = learner.critic(batch.observations.flatten(0, 1)), learner.critic(batch.final_observations)
    values = values.view(7, 4, 6)
    ends = batch.terminated, batch.truncated, batch.valid
    next_v = next_values(values, batch.final_index, final)
    alone = advantages(batch.rewards, values[:-1], next_v, *ends, 0.9, 0.7).flatten(0, 1)  # of each agent's own
    samples = samples_of(learner, batch)
    for i in graph:
        team = list(graph) if hops is None else list(nx.single_source_shortest_path_length(graph, i, cutoff=hops))
        expected = standardized(alone[:, team].sum(1, keepdim=True)).squeeze(1)  # by linearity
        torch.testing.assert_close(samples.advantages[:, i], expected, atol=1e-5, rtol=1e-4)


def test_values_learn_returns_of_any_size() -> None:
    for scale, shift in ((1e-3, 0.0), (1.0, -10.0), (1e5, -1e6)):
        learner = make_learner(nx.path_graph(3), gamma=0.1, lr_value=0.01, epochs=60, minibatches=1, hidden_sizes=[16])
        batch = random_batch(learner, steps=10, environments=10)
        batch = replace(batch, rewards=batch.observations[:-1, ..., 0] * scale + shift)
        explained = [learner.improve(batch, 0.0)["value/explained_variance"] for _ in range(3)]
        assert abs(explained[0]) < 0.1  # the untrained ones are near zero
        assert explained[-1] > 0.9


def test_padding_is_never_drawn_and_never_counts() -> None:
    first, second = (make_learner(nx.path_graph(3), epochs=3) for _ in range(2))
    batch = random_batch(first)
    valid = batch.valid.clone()
    valid[4:, 0] = False
    terminated = batch.terminated.clone()
    terminated[3, 0] = True
    batch = replace(batch, valid=valid, terminated=terminated)
    garbage = replace(batch, rewards=batch.rewards.clone(), observations=batch.observations.clone())
    garbage.rewards[4:, 0] = 1e9
    garbage.observations[4:, 0] = 1e9
    for learner, data in ((first, batch), (second, garbage)):
        learner.generator.manual_seed(0)
        learner.improve(data, 0.0)
    assert torch.equal(flat(first), flat(second))


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_what_follows_an_agents_own_end_never_counts_for_it(actions: str) -> None:
    # Agent 1 of three ended first; the others go on, and with them its frozen row.
    learners = [make_learner(nx.empty_graph(3), actions, kappa=0, epochs=3) for _ in range(2)]
    batch = random_batch(learners[0])
    valid, terminated = batch.valid.clone(), batch.terminated.clone()
    valid[4:, 0, 1], terminated[3, 0, 1] = False, True
    batch = replace(batch, valid=valid, terminated=terminated)
    other = replace(batch, rewards=batch.rewards.clone(), observations=batch.observations.clone())
    other.rewards[4:, 0, 1] = 1e3
    other.observations[4:6, 0, 1] = 7.0
    for learner, data in zip(learners, (batch, other), strict=True):
        learner.generator.manual_seed(0)
        learner.improve(data, 0.0)
    found = [flat(learner) for learner in learners]
    assert torch.equal(*found)
    whole = make_learner(nx.empty_graph(3), actions, kappa=0, epochs=3)
    whole.generator.manual_seed(0)
    whole.improve(random_batch(whole), 0.0)
    changed = (flat(whole) != found[0]).any(1).tolist()
    assert changed[1]  # it has learned from fewer steps, and as if it had ended


def test_the_first_gradient_is_that_of_the_plain_policy_gradient() -> None:
    # All ratios are one, so nothing is clipped: ∇ log π · Â.
    learner = make_learner(nx.path_graph(3))
    samples = samples_of(learner, random_batch(learner))
    losses = losses_of(learner, samples)
    torch.testing.assert_close(losses.kl, torch.zeros(3), atol=1e-6, rtol=0)
    log_probs = learner.distribution.log_prob(learner.policy(samples.states), samples.actions)
    plain = -(log_probs * samples.advantages).mean(0)
    for parameter in learner.policy.parameters():
        (ours,) = torch.autograd.grad(losses.policy.sum(), parameter, retain_graph=True)
        (theirs,) = torch.autograd.grad(plain.sum(), parameter, retain_graph=True)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-3)


def test_the_early_stop_keeps_every_agent_near_the_collecting_policy() -> None:
    free, stopped = (
        make_learner(nx.path_graph(3), epochs=20, lr_policy=0.01, kl_target=target, clip=10.0)
        for target in (None, 0.01)
    )
    batch = random_batch(free)
    without, with_stop = free.improve(batch, 0.0), stopped.improve(batch, 0.0)
    assert without["policy/gradient_steps"] == 40
    assert without["policy/kl_stopped"] == 0
    assert 0 < with_stop["policy/gradient_steps"] < 40
    assert with_stop["policy/kl_stopped"] == 1
    assert with_stop["policy/kl_max"] < 0.05 < without["policy/kl_max"]


def test_an_agent_that_went_too_far_stops_alone() -> None:
    learner = make_learner(nx.empty_graph(3), epochs=20, lr_policy=5e-3, kl_target=0.01)
    batch = random_batch(learner)
    batch.rewards[..., [0, 2]] = 0.0
    learner.critic.network.head.weight.data[[0, 2]] = 0.0  # nor have these two any advantage to climb
    metrics = learner.improve(batch, 0.0)
    steps = learner.update.actor_critic.policy_optimizer.steps.flatten().tolist()
    assert steps[0] == steps[2] == 40 > steps[1] > 0
    assert metrics["policy/kl_stopped"] == pytest.approx(1 / 3)
    assert metrics["policy/gradient_steps"] == pytest.approx(sum(steps) / 3)


def test_the_stop_counts_from_where_the_batch_began() -> None:
    # Agent 1 is far from the policy that collected the batch, as after earlier batches of an iteration.
    learner = make_learner(nx.empty_graph(3), epochs=5, lr_policy=1e-5, kl_target=0.01)
    batch = random_batch(learner)
    old_dist_params = batch.old_dist_params.clone()
    old_dist_params[:, :, 1, :2] += 2
    metrics = learner.improve(replace(batch, old_dist_params=old_dist_params), 0.0)
    assert metrics["policy/kl_stopped"] == 0 and metrics["policy/kl"] < 0.01
    assert learner.update.actor_critic.policy_optimizer.steps.flatten().tolist() == [10, 10, 10]


def test_critics_learn_on_once_all_policies_have_stopped() -> None:
    learner = make_learner(nx.path_graph(3), epochs=5, kl_target=1e-9, lr_policy=0.01)
    before = [p.detach().clone() for p in learner.critic.parameters()]
    metrics = learner.improve(random_batch(learner), 0.0)
    assert metrics["policy/gradient_steps"] == 1
    assert learner.update.actor_critic.value_optimizer.steps.flatten().tolist() == [10, 10, 10]
    assert not any(torch.equal(b, p) for b, p in zip(before, learner.critic.parameters(), strict=True))


def test_gradients_of_critics_do_not_depend_on_policies_that_have_stopped(graph: nx.Graph) -> None:
    found = []
    for kl_target in (None, 1e-9):
        learner = make_learner(graph, epochs=2, lr_policy=0.01, kl_target=kl_target)
        metrics = learner.improve(random_batch(learner), 0.0)
        networks = learner.update.actor_critic
        found.append((metrics["value/loss"], *learner.critic.parameters(), networks.value_optimizer.first))
    assert metrics["policy/kl_stopped"] == 1
    for beside, alone in zip(*found, strict=True):
        assert beside == alone if isinstance(beside, float) else torch.equal(beside, alone)


def test_a_policy_with_nan_outputs_is_refused_and_not_stopped(graph: nx.Graph) -> None:
    learner = make_learner(graph, kl_target=0.01, epochs=2, minibatches=3)
    batch = random_batch(learner)
    first = next(iter(learner.policy.network.parameters()))
    first.data.fill_(3e38)  # finite, but not what comes out: the sum of infinities of both signs
    # In the kernels' sums there are none, as products are not rounded before they are added.
    with calls.limited(calls.NONE), pytest.raises(TrainingError, match="policy loss of agent"):
        learner.improve(batch, 0.0)


def test_the_learning_rate_and_the_entropy_bonus_are_annealed() -> None:
    learner = make_learner(nx.path_graph(3), entropy_coef=0.1, entropy_coef_final=0.02)
    assert learner.settings.entropy_coef_at(0.0) == pytest.approx(0.1)
    assert learner.settings.entropy_coef_at(0.75) == pytest.approx(0.04)
    assert make_learner(nx.path_graph(3), entropy_coef=0.1).settings.entropy_coef_at(0.75) == 0.1
    moved = []
    for progress in (0.0, 0.9):
        learner = make_learner(nx.path_graph(3), lr_decay=True, epochs=1, minibatches=1)
        before = flat(learner)
        learner.improve(random_batch(learner), progress)
        moved.append((flat(learner) - before).abs())
    bias_free = moved[0] > 1e-5  # the critic's head moves with its normalizer as well
    ratio = (moved[1] / moved[0])[bias_free]
    assert float(ratio.median()) == pytest.approx(0.1, rel=0.05)


def test_the_entropy_bonus_keeps_policies_random() -> None:
    entropies = []
    for entropy_coef in (0.0, 1.0):
        learner = make_learner(
            nx.path_graph(3), "discrete", entropy_coef=entropy_coef, epochs=20, lr_policy=0.01, kl_target=None
        )
        entropies.append(learner.improve(random_batch(learner), 0.0)["policy/entropy"])
    assert entropies[0] < entropies[1]


def test_more_minibatches_than_samples_are_as_many_as_samples() -> None:
    learner = make_learner(nx.path_graph(3), minibatches=1000, epochs=1)
    learner.improve(random_batch(learner), 0.0)
    assert learner.update.actor_critic.value_optimizer.steps.flatten().tolist() == [24, 24, 24]
