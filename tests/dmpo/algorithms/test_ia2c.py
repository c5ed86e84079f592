from dataclasses import replace
from typing import Literal

import networkx as nx
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from dmpo import Trainer, TrainingError, evaluate, settings_of
from dmpo.algorithms.on_policy import OnPolicyLearner
from dmpo.data.rollout import Rollout
from dmpo.nn.layers import StackedMLP
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import flat, learner_for, losses_of, make_learner, random_batch

Kind = Literal["continuous", "discrete"]
DIRECTED = nx.DiGraph([(0, 1), (1, 2), (3, 2), (4, 3)])
DIRECTED.add_node(5)


def closed_neighborhood(graph: nx.Graph, i: int) -> list[int]:
    """Agent i, then its neighbors."""
    return [i, *sorted(graph.predecessors(i) if graph.is_directed() else graph.neighbors(i))]


def output(network: StackedMLP, stack: int, x: Tensor) -> Tensor:
    """Output of one agent's network, layer by layer."""
    for layer in network.hidden:
        x = torch.tanh(x @ layer.weight[stack] + layer.bias[stack])
    return x @ network.head.weight[stack] + network.head.bias[stack]


def loss_of(learner: OnPolicyLearner, graph: nx.Graph, batch: Rollout, i: int, entropy_coef: float) -> Tensor:
    """-log π · Â - β H + (R - V)² of agent i on a batch of its own, as in the paper and with a loop over steps."""
    gamma, (steps, environments) = learner.settings.gamma, batch.truncated.shape
    stack = i if learner.stacks > 1 else 0
    width = learner.policy.neighborhood.size * 3
    mean, std = learner.critic.normalizer.mean[stack], learner.critic.normalizer.std[stack]

    def inputs(observations: Tensor) -> Tensor:
        received = torch.cat([observations[..., j, :] for j in closed_neighborhood(graph, i)], -1)
        return torch.nn.functional.pad(received, (0, width - received.shape[-1]))

    def value(observations: Tensor) -> Tensor:
        return mean + std * output(learner.critic.network, stack, inputs(observations)).squeeze(-1)

    returns = torch.zeros(steps, environments)
    with torch.no_grad():
        for e in range(environments):
            next_v = value(batch.observations[-1, e])
            for t in reversed(range(steps)):
                if batch.truncated[t, e]:
                    next_v = value(batch.final_observations[batch.final_index.tolist().index(t * environments + e)])
                elif batch.terminated[t, e, i]:
                    next_v = torch.zeros(())
                next_v = returns[t, e] = batch.rewards[t, e, i] + gamma * next_v
    values = value(batch.observations[:-1])
    advantage = (returns - values).detach()
    advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    outputs = output(learner.policy.network, stack, inputs(batch.observations[:-1]))
    if batch.actions.is_floating_point():
        normal = torch.distributions.Normal(outputs, learner.policy.log_std[stack].exp())
        log_prob, entropy = normal.log_prob(batch.actions[..., i, :]).sum(-1), normal.entropy().sum(-1)
    else:
        categorical = torch.distributions.Categorical(logits=outputs)
        log_prob, entropy = categorical.log_prob(batch.actions[..., i]), categorical.entropy()
    return (-log_prob * advantage - entropy_coef * entropy + ((returns - values) / std).square()).mean()


@pytest.mark.parametrize(("actions", "shared"), [("continuous", False), ("discrete", False), ("discrete", True)])
def test_the_gradient_is_that_of_a_loop_over_agents(graph: nx.Graph, actions: str, shared: bool) -> None:
    for here in (graph, DIRECTED):
        learner, oracle = (
            make_learner(here, actions, name="ia2c", share_parameters=shared, entropy_coef=0.1) for _ in range(2)
        )
        batch = random_batch(learner, seed=1)
        batch.terminated[4, 2] = True
        for each in (learner, oracle):
            each.improve(random_batch(each), 0.0)  # values are in units of the returns seen
        oracle.update.actor_critic.prepare(batch)  # these as well
        oracle.policy.zero_grad()
        oracle.critic.zero_grad()
        mean = sum(loss_of(oracle, here, batch, i, entropy_coef=0.1) for i in here) / (6 if shared else 1)
        mean.backward()
        learner.improve(batch, 0.0)
        for part in ("policy", "critic"):
            pairs = zip(getattr(learner, part).parameters(), getattr(oracle, part).parameters(), strict=True)
            for ours, theirs in pairs:
                if theirs.numel():  # discrete actions have no standard deviation
                    torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_no_loss_has_a_gradient_outside_the_neighborhood(graph: nx.Graph, actions: str) -> None:
    for here in (graph, DIRECTED):
        learner = make_learner(here, actions, name="ia2c")
        samples, _ = learner.update.actor_critic.prepare(random_batch(learner))
        samples = replace(samples, states=samples.states.requires_grad_())
        losses = losses_of(learner, samples, 0.01)
        for i in here:
            for loss in (losses.policy, losses.value):
                (to_states,) = torch.autograd.grad(loss[i], samples.states, retain_graph=True)
                reached = to_states.abs().sum((0, 2)).nonzero().flatten().tolist()
                assert reached == sorted(closed_neighborhood(here, i))


def test_only_the_own_reward_counts(graph: nx.Graph) -> None:
    first, second = (make_learner(graph, name="ia2c") for _ in range(2))
    batch = random_batch(first)
    other = replace(batch, rewards=batch.rewards.clone())
    other.rewards[..., 4:] *= -3
    first.improve(batch, 0.0)
    metrics = second.improve(other, 0.0)
    assert (flat(first) != flat(second)).any(1).tolist() == [False] * 4 + [True] * 2
    near = sum(len(graph[i]) for i in graph) / 6
    assert metrics["comm/bytes_per_agent_step"] == pytest.approx(near * 3 * 4)
    assert metrics["comm/training_bytes_per_agent_step"] == pytest.approx(near * 3 * 4)  # no reward, no value


def test_a_batch_gives_one_gradient_step_of_every_agent() -> None:
    learner = make_learner(nx.path_graph(3), name="ia2c")
    for step in (1, 2):
        assert learner.improve(random_batch(learner), 0.0)["policy/gradient_steps"] == 1
        assert learner.update.actor_critic.policy_optimizer.steps.flatten().tolist() == [step] * 3
        assert learner.update.actor_critic.value_optimizer.steps.flatten().tolist() == [step] * 3


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_the_entropy_bonus_raises_the_entropy(actions: str) -> None:
    def entropy(entropy_coef: float) -> tuple[float, float]:
        learner = make_learner(nx.path_graph(3), actions, name="ia2c", entropy_coef=entropy_coef, lr_policy=0.01)
        with torch.no_grad():
            learner.policy.network.head.bias.copy_(torch.linspace(-1, 1, learner.distribution.outputs))
        batch = random_batch(learner)
        before = float(learner.distribution.entropy(batch.old_dist_params).mean())
        for _ in range(10):
            after = learner.improve(batch, 0.0)["policy/entropy"]
        return before, after

    before, after = entropy(100.0)
    assert after > before + 0.05
    assert entropy(0.0)[1] < after


def test_lost_steps_do_not_count() -> None:
    first, second = (make_learner(nx.path_graph(3), name="ia2c") for _ in range(2))
    batch = random_batch(first)
    batch.valid[4:, 0] = False
    batch.terminated[3, 0] = True
    garbage = replace(batch, rewards=batch.rewards.clone(), observations=batch.observations.clone())
    garbage.rewards[4:, 0] = 1e9
    garbage.observations[4:, 0] = 1e9
    first.improve(batch, 0.0)
    second.improve(garbage, 0.0)
    assert torch.equal(flat(first), flat(second))


def test_a_reward_that_is_not_finite_is_refused_with_its_agent() -> None:
    learner = make_learner(nx.empty_graph(3), name="ia2c")
    batch = random_batch(learner)
    batch.rewards[0, 0, 1] = torch.nan
    with pytest.raises(TrainingError, match="of agent 1 became NaN"):
        learner.improve(batch, 0.0)


@pytest.mark.parametrize(
    ("actions", "shared", "normalize"),
    [("continuous", False, True), ("discrete", False, False), ("discrete", True, True)],
)
def test_it_learns(actions: Kind, shared: bool, normalize: bool) -> None:
    env, test = (PointMasses(num_envs=16, actions=actions, horizon=30) for _ in range(2))
    options = {"share_parameters": shared, "normalize_observations": normalize, "rollout_steps": 30, "gae_lambda": 1}
    learner = learner_for(env, name="ia2c", lr_policy=0.01, lr_value=0.02, **options)
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 30 * 16 * 30, seed=0).iterations():
        pass
    assert evaluate(test, learner, seed=1).metrics["eval/reward"] > 0.4 * before  # rewards are negative


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_a_restored_run_continues_to_the_last_bit_and_another_seed_does_not(actions: Kind) -> None:
    def trainer(seed: int) -> Trainer:
        env = PointMasses(actions=actions, horizon=7)
        options = {"normalize_observations": True, "lr_decay": True, "entropy_coef_final": 0.0}
        return Trainer(env, learner_for(env, seed, "ia2c", **options), 4 * 10 * 6, seed=0)

    whole, resumed, other = trainer(1), trainer(2), trainer(2)
    for _ in whole.iterations():
        if whole.iteration == 3:
            resumed.load_state_dict(whole.state_dict())
    for run in (resumed, other):
        for _ in run.iterations():
            pass
    assert torch.equal(flat(whole.learner), flat(resumed.learner))
    networks = [run.learner.update.actor_critic for run in (whole, resumed)]
    assert torch.equal(*(each.policy_optimizer.second for each in networks))
    assert not torch.equal(flat(whole.learner), flat(other.learner))


@pytest.mark.parametrize("foreign", ["kappa", "clip", "kl_target", "epochs", "minibatches"])
def test_settings_of_ppo_are_no_settings_of_ia2c(foreign: str) -> None:
    with pytest.raises(ValidationError, match=foreign):
        settings_of("ia2c").model_validate({foreign: 1})
    assert all(field.description for field in settings_of("ia2c").model_fields.values())
