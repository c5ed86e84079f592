"""All agents at once compute what loops over agents and edges do: values, gradients, steps and model rollouts."""

from dataclasses import replace
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from benchmarks.reference import Reference
from dmpo.algorithms.dmpo import DMPO
from dmpo.data.replay_buffer import Role
from dmpo.data.rollout import Rollout
from dmpo.nn.distributions import Categorical
from dmpo.nn.optimizer import StackedAdam
from dmpo.updates.actor_critic import ActorCritic
from dmpo.updates.ppo import PPO
from tests.dmpo.learners import make_learner, random_batch

DIRECTED = nx.DiGraph([(0, 1), (1, 2), (3, 1)])
DIRECTED.add_node(4)
GRAPHS = {"star": nx.star_graph(3), "directed": DIRECTED}
QUICK = {
    "minibatches": 1,
    "kl_target": None,
    "model_fit_steps": 2,
    "model_validation_every": 1,
    "model_batch_size": 8,
    "model_starts": 5,
}


@pytest.fixture(params=[(g, a) for g in GRAPHS for a in ("continuous", "discrete")], ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[DMPO, Rollout]:
    """A learner that has fitted its models to a batch, and has improved once; and a batch."""
    graph, actions = request.param
    model = {"model_actions": "own", "model_gradient": "own"}
    if graph == "star":
        model = {"model_actions": "neighbors", "model_gradient": "neighborhood"}
    settings: dict[str, Any] = QUICK | model | {"entropy_coef": 0.01, "model_loss_steps": 2}
    learner: Any = make_learner(GRAPHS[graph], actions, name="dmpo", lr_policy=0.01, **settings)
    learner.fit(random_batch(learner), 0.0)
    # Normalizers have seen returns then, and heads are no longer small.
    learner.update.improve(random_batch(learner), 0.0)
    batch = random_batch(learner, seed=1)
    valid = batch.valid.clone()
    valid[4:, 0] = False
    return learner, replace(batch, valid=valid)


def restarted(learner: DMPO) -> Reference:
    """Reference of a learner, both with optimizers that have taken no steps."""
    ppo, models = learner.update, learner.models.trainer
    networks = ppo.actor_critic
    fresh = ActorCritic(networks.policy, networks.critic, networks.reward_neighborhood, ppo.settings)
    learner.update = PPO(fresh, ppo.settings, ppo.generator)
    norm = models.settings.model_max_grad_norm
    models.optimizers = [StackedAdam(group, norm) for group in models.model.parameter_groups()]
    return Reference(learner)


def numbers(reference: Reference) -> list[torch.Tensor]:
    """All parameters, agent by agent and edge by edge."""
    agents, model = reference.ppo.agents, reference.models.model
    modules = [module for agent in agents for module in (agent.policy, agent.critic)]
    modules += [*model.encoders, *model.nodes, *model.heads, *model.ends, *(network for _, _, network in model.edges)]
    parameters = [*model.embeddings, *(parameter for module in modules for parameter in module.parameters())]
    return [parameter for parameter in parameters if parameter.numel()]


def assert_same(stacked: DMPO, reference: Reference, rtol: float, atol: float) -> None:
    for ours, theirs in zip(numbers(Reference(stacked)), numbers(reference), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def changes(before: list[torch.Tensor], reference: Reference) -> list[float]:
    return [float((a - b).detach().abs().max()) for a, b in zip(before, numbers(reference), strict=True)]


def test_epochs_of_policies_and_values_end_with_the_same_parameters(case: tuple[DMPO, Rollout]) -> None:
    learner, batch = case
    reference, before = restarted(learner), numbers(Reference(learner))
    learner.update.improve(batch, 0.0)
    reference.improve(batch, learner.settings.epochs)
    assert_same(learner, reference, rtol=1e-3, atol=1e-4)  # a step is a hundred times as large
    assert max(changes(before, reference)) > 0.01
    for i, agent in enumerate(reference.ppo.agents):
        assert agent.critic.mean == pytest.approx(float(learner.critic.normalizer.mean[i]), rel=1e-4)
        assert agent.critic.std == pytest.approx(float(learner.critic.normalizer.std[i]), rel=1e-4)


def test_minibatches_end_with_the_same_parameters(case: tuple[DMPO, Rollout], monkeypatch: pytest.MonkeyPatch) -> None:
    learner, batch = case
    learner.update.settings = learner.settings.model_copy(update={"minibatches": 3})
    reference, before = restarted(learner).ppo, numbers(Reference(learner))
    draw, orders = torch.randperm, []
    monkeypatch.setattr(torch, "randperm", lambda *given, **also: orders.append(draw(*given, **also)) or orders[-1])
    learner.update.improve(batch, 0.0)
    assert len(orders) == learner.settings.epochs
    targets, advantages = (torch.stack(parts, 1) for parts in reference.prepare(batch))  # (S, N)
    valid = batch.taken.flatten().nonzero().squeeze(1)  # (S,), which of the T·E
    recorded = batch.observations[:-1], batch.actions, batch.old_dist_params
    states, actions, old_dist_params = (x.flatten(0, 1) for x in recorded)
    for part in (part for order in orders for part in order.tensor_split(3)):
        for i, agent in enumerate(reference.agents):
            index = valid[part]
            mine = actions[index, i]
            old = agent.policy.described(old_dist_params[index, i]).log_prob(mine)
            agent.step(reference.loss(agent, states[index], mine, old, advantages[part, i], targets[part, i]))
    found = Reference(learner)
    found.ppo = reference
    assert_same(learner, found, rtol=1e-3, atol=1e-4)
    assert max(changes(before, found)) > 0.01


def test_returns_and_advantages_are_the_same(case: tuple[DMPO, Rollout]) -> None:
    learner, batch = case
    reference = restarted(learner)
    samples, _ = learner.update.actor_critic.prepare(batch)
    for found, expected in zip(reference.ppo.prepare(batch), (samples.targets, samples.advantages), strict=True):
        torch.testing.assert_close(torch.stack(found, 1), expected, rtol=1e-3, atol=1e-4)


def test_a_step_of_the_models_ends_with_the_same_parameters(case: tuple[DMPO, Rollout]) -> None:
    learner, _ = case
    reference, models = restarted(learner), learner.models.trainer
    before = numbers(Reference(learner))
    sequences = models.sequences(2, Role.TRAINING).everything()
    stacked = models.loss(models.model, models.normalized(sequences))
    torch.testing.assert_close(torch.stack(reference.models.losses(sequences)), stacked)
    models.update(sequences)
    reference.update(sequences)
    assert_same(learner, reference, rtol=1e-3, atol=1e-5)
    assert sum(x > 0 for x in changes(before, reference)) >= len(before) // 2  # only the models


def test_many_steps_of_the_models_end_with_the_same_parameters(case: tuple[DMPO, Rollout]) -> None:
    # After one step or two, Adam's moments of earlier gradients hardly matter.
    learner, _ = case
    reference, models = restarted(learner), learner.models.trainer
    sequences, random = models.sequences(2, Role.TRAINING), torch.Generator().manual_seed(0)
    for _ in range(40):
        drawn = sequences.draw(4, random)
        models.update(drawn)
        reference.update(drawn)
    assert_same(learner, reference, rtol=1e-3, atol=1e-4)


def test_gradients_are_the_same(case: tuple[DMPO, Rollout]) -> None:
    learner, batch = case
    reference, models = restarted(learner), learner.models.trainer
    networks = learner.update.actor_critic
    for optimizer in (networks.policy_optimizer, networks.value_optimizer, *models.optimizers):
        optimizer.max_norm = 1e9
    reference.models.settings = learner.settings.model_copy(update={"model_max_grad_norm": 1e9})
    sequences = models.sequences(2, Role.TRAINING).everything()
    samples, _ = networks.prepare(batch)
    networks.value_gradient(samples)
    surrogate = partial(learner.update.surrogate_loss, entropy_coef=learner.settings.entropy_coef)
    networks.policy_gradient(surrogate, samples)
    models.update(sequences)
    for agent in reference.ppo.agents:
        agent.max_norm = 1e9
    reference.improve(batch, 1)
    reference.update(sequences)
    for module in (learner.policy, learner.critic, models.model):
        for parameter in module.parameters():
            parameter.data = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    for ours, theirs in zip(numbers(Reference(learner)), numbers(reference), strict=True):
        expected = theirs.grad if theirs.grad is not None else torch.zeros_like(theirs)
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_model_rollouts_are_the_same_where_actions_are_certain(case: tuple[DMPO, Rollout]) -> None:
    learner, batch = case
    learner.policy.log_std.data.fill_(-20.0)  # (R, A) of continuous actions, (R, 0) of discrete ones
    if isinstance(learner.distribution, Categorical):
        learner.policy.network.head.bias.data[:, 0, 1] = 100.0
    learner.models.trainer.model.end.get_parameter("1.bias").data[:] = 0.0  # some of them end
    starts = batch.observations[0, :1]
    ours, theirs = learner.models.rollout(starts, 4), Reference(learner).rollout(starts, 4)
    for name, found in vars(theirs).items():
        torch.testing.assert_close(found, getattr(ours, name), rtol=1e-3, atol=1e-4)
    likeliest = learner.act(starts, deterministic=True)
    np.testing.assert_allclose(Reference(learner).act(starts), likeliest, atol=1e-5)
