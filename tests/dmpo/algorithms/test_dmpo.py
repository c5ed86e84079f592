from typing import Any, Literal

import networkx as nx
import pytest
import torch

from dmpo import Trainer, evaluate
from dmpo.collector import Collector
from dmpo.data.rollout import Rollout
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import flat, make_learner, random_batch, whole_and_restored
from tests.dmpo.models.test_trainer import learner_for

STEPS = {"policy/gradient_steps": 1.0}


def parameters(part: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in part.parameters()])


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_it_learns_from_few_real_steps(actions: Literal["continuous", "discrete"]) -> None:
    env, test = (PointMasses(num_envs=16, actions=actions, horizon=30, crash=1e9) for _ in range(2))
    ppo = {"gamma": 0.95, "gae_lambda": 0.9, "lr_policy": 5e-3, "lr_value": 5e-3, "kl_target": 0.03, "epochs": 4}
    rollouts = {"model_share": 1.0, "model_starts": 64, "model_horizon": 30, "lr_model": 3e-3, "total_kl": 0.03}
    learner = learner_for(
        env, **ppo, **rollouts, hidden_sizes=[16], rollout_steps=30, model_fit_steps=200, model_batch_size=128
    )
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 30 * 16 * 8, seed=0).iterations():
        pass
    after = evaluate(test, learner, seed=1).metrics["eval/reward"]
    assert after > 0.5 * before  # rewards are negative: at most half of what the untrained one pays


@pytest.mark.parametrize(
    ("final", "progress", "share"), [(None, 0.0, 0.3), (None, 0.9, 0.3), (0.1, 0.3, 0.2), (0.0, 0.5, 0.0)]
)
def test_the_share_of_batches_from_the_models_is_q0(
    final: float | None, progress: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = PointMasses()
    schedule = {"model_share": 0.3, "model_share_final": final, "model_share_schedule": (0.1, 0.5)}
    learner = learner_for(env, **schedule, inner_iterations=1000, total_kl=1e9, kl_target=None)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    sizes = []
    monkeypatch.setattr(learner.update, "improve", lambda data, *_: sizes.append(data.rewards.shape[1]) or STEPS)
    learner.improve(batch, progress)
    # 4 real environments, 16 model rollouts; four standard deviations of a binomial.
    assert set(sizes) <= {4, 16}
    assert len(sizes) == 1000
    assert sizes.count(16) == pytest.approx(1000 * share, abs=4 * (1000 * share * (1 - share)) ** 0.5)


@pytest.mark.parametrize("model_share", [0.5, 0.8])
def test_real_steps_have_their_share_of_the_gradient_steps_taken(model_share: float) -> None:
    env = PointMasses(num_envs=8, horizon=30, crash=1e9)
    stops = {"kl_target": 0.01, "total_kl": 0.05, "lr_policy": 3e-3, "epochs": 10, "minibatches": 1}
    learner = learner_for(
        env, **stops, model_share=model_share, inner_iterations=10, model_starts=64, model_fit_steps=10
    )
    taken = real = 0.0
    for metrics in Trainer(env, learner, 8 * 20 * 60, seed=0).iterations():
        assert 1 <= metrics["policy/inner_iterations"] <= 10
        taken += metrics["policy/gradient_steps"]
        real += metrics["policy/gradient_steps"] * metrics["policy/real_share"]
    assert taken < 0.9 * 60 * 10 * 10  # policies do stop early
    assert real / taken == pytest.approx(1 - model_share, abs=0.05)


def test_inner_iterations_stop_once_policies_are_far_from_the_collecting_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses()
    learner = learner_for(env, total_kl=1e-6, lr_policy=1e-2, inner_iterations=50)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    improve, calls = learner.update.improve, []
    monkeypatch.setattr(learner.update, "improve", lambda *a: calls.append(1) or improve(*a))
    learner.improve(batch, 0.0)
    assert len(calls) < 50


@pytest.mark.parametrize(("progress", "steps"), [(0.0, 1), (0.2, 1), (0.5, 8), (0.8, 15), (0.9, 15)])
def test_model_rollouts_lengthen_linearly_between_two_points_of_training(progress: float, steps: int) -> None:
    learner = learner_for(
        PointMasses(), model_horizon=1, model_horizon_final=15, model_horizon_schedule=(0.2, 0.8), model_fit_steps=1
    )
    batch, _ = Collector(PointMasses(), learner, seed=0).collect()
    learner.fit(batch, 0.0)
    assert learner.improve(batch, progress)["model/horizon"] == steps


def test_a_restored_run_continues_to_the_last_bit() -> None:
    def trainer() -> Trainer:
        env = PointMasses(horizon=7)
        return Trainer(env, learner_for(env, model_buffer_size=200, model_fit_steps=30), 4 * 20 * 6, seed=0)

    whole, second = whole_and_restored(trainer)
    assert torch.equal(flat(whole.learner), flat(second.learner))  # type: ignore[arg-type]
    model_of = [parameters(t.learner.models.trainer.model) for t in (whole, second)]  # type: ignore[attr-defined]
    assert torch.equal(*model_of)


def test_during_the_warm_up_critics_learn_and_policies_do_not() -> None:
    env = PointMasses()
    learner = learner_for(env, warm_up_steps=10_000)
    policy, critic = parameters(learner.policy), parameters(learner.critic)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    learner.improve(batch, 0.0)
    assert torch.equal(policy, parameters(learner.policy))
    assert not torch.equal(critic, parameters(learner.critic))


def test_models_learn_as_long_as_any_batch_will_come_from_them() -> None:
    env = PointMasses()
    learner = learner_for(env, model_share_final=0.0, model_share_schedule=(0.2, 0.5))
    models, collector = learner.models.trainer, Collector(env, learner, seed=0)
    assert learner.fit(collector.collect()[0], 0.49)["model/gradient_steps"] > 0
    before, added = parameters(models.model), models.buffer.added
    assert learner.fit(collector.collect()[0], 0.5) == {}
    assert torch.equal(before, parameters(models.model)) and models.buffer.added == added
    keeps = learner_for(env, model_share=0.0)
    # Without a schedule the errors may be of interest.
    assert keeps.fit(collector.collect()[0], 0.9)["model/gradient_steps"] > 0


@pytest.mark.parametrize(("actions", "shared"), [("continuous", False), ("discrete", False), ("continuous", True)])
def test_without_model_batches_one_inner_iteration_is_dppo_to_the_last_bit(actions: str, shared: bool) -> None:
    graph = nx.cycle_graph(5)
    common = {"share_parameters": shared, "normalize_observations": True, "entropy_coef": 0.01, "lr_decay": True}
    own = {"model_share": 0.0, "inner_iterations": 1, "total_kl": 1e9, "model_fit_steps": 3}
    model_based: Any = make_learner(graph, actions, name="dmpo", **common, **own)
    model_free: Any = make_learner(graph, actions, name="dppo", **common)
    assert torch.equal(flat(model_based), flat(model_free))  # models have a generator of their own for their weights
    for seed, progress in ((0, 0.0), (1, 0.5)):
        batch = random_batch(model_free, seed=seed)
        assert model_based.fit(batch, progress)["model/gradient_steps"] > 0
        # The fit and the choice of batches draw random numbers from the same generator, ahead of the minibatches:
        # DPPO starts where DMPO is after both.
        twin = torch.Generator()
        twin.set_state(model_based.generator.get_state())
        torch.rand(1, generator=twin)
        model_free.generator.set_state(twin.get_state())
        found, expected = model_based.improve(batch, progress), model_free.improve(batch, progress)
        assert {name: found[name] for name in expected} == expected
        assert (found["model/share"], found["policy/real_share"], found["policy/inner_iterations"]) == (0, 1, 1)
        assert torch.equal(flat(model_based), flat(model_free))
        networks = [learner.update.actor_critic for learner in (model_based, model_free)]
        for name in ("policy_optimizer", "value_optimizer"):
            states = [getattr(each, name).state_dict() for each in networks]
            assert all(torch.equal(x, states[1][key]) for key, x in states[0].items())
        assert torch.equal(model_based.obs_normalizer.mean, model_free.obs_normalizer.mean)
        assert torch.equal(model_based.generator.get_state(), model_free.generator.get_state())


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> int:
    """The farthest agent from agent 0, on a path, of whose rows any number differs."""
    different = {int(i) for name, x in one.items() for i in (x != other[name]).view(len(x), -1).any(1).nonzero()}
    return max(different, default=-1)


def after_one_iteration(learner: Any, batch: Rollout) -> dict[str, dict[str, torch.Tensor]]:
    """Parameters and statistics (N, ...) of each component; those of an edge count as its receiver's."""
    learner.fit(batch, 0.0)
    learner.improve(batch, 0.0)
    of_agents, of_edges = learner.models.trainer.model.parameter_groups()
    receivers = learner.models.trainer.model.edges[1]
    edges = [torch.zeros(40, p[0].numel()).index_add(0, receivers, p.detach().flatten(1)) for p in of_edges]
    parts = {
        "policy": list(learner.policy.parameters()),
        "critic": [*learner.critic.parameters(), *learner.critic.normalizer.buffers()],
        "model": [*of_agents, *edges],
    }
    return {
        name: {str(k): x.detach().clone() for k, x in enumerate(part) if x.dim() and x.numel()}
        for name, part in parts.items()
    }


@pytest.mark.parametrize("what", ["rewards", "policy", "model"])
def test_in_a_strictly_local_learner_a_change_reaches_no_further_than_its_messages(what: str) -> None:
    # Agent 0 of 40 on a path. A fit of F = 4 gradient steps carries a change of its model F hops, a rollout of T = 2
    # steps carries states T + 1 further, the advantages κ = 1, and this twice, for B = 2 batches.
    fit_steps, horizon, inner, kappa = 4, 2, 2, 1
    reach = {"model": fit_steps, "critic": fit_steps + inner * (horizon + 2 + kappa)}
    reach["policy"] = reach["critic"] + kappa
    settings = {
        "strictly_local": True,
        "kappa": kappa,
        "model_fit_steps": fit_steps,
        "model_validation_every": 1,
        "model_patience": 1,
        "inner_iterations": inner,
        "model_horizon": horizon,
        "model_share": 0.5,
        "model_starts": 8,
        "kl_target": 1e-3,
        "total_kl": 1e-3,
        "lr_policy": 0.02,
    }
    found = []
    for change in (False, True):
        learner: Any = make_learner(nx.path_graph(40), "discrete", name="dmpo", **settings)
        batch = random_batch(learner)
        if change and what == "rewards":
            batch.rewards[..., 0] *= 100
        with torch.no_grad():
            if change and what == "policy":
                learner.policy.network.head.weight[0] += 0.5
            elif change and what == "model":
                learner.models.trainer.model.encoder[0].weight[0] *= 3
        found.append(after_one_iteration(learner, batch))
    for part, farthest in reach.items():
        assert changed(*(each[part] for each in found)) <= farthest < 38
    assert changed(*(each["policy"] for each in found)) >= 0


def test_what_agents_decide_together_reaches_all_of_them() -> None:
    # The same with common decisions: one agent's rewards move when all models stop.
    found = []
    for change in (1.0, 1e4):
        learner: Any = make_learner(
            nx.path_graph(40), "discrete", name="dmpo", model_fit_steps=40, model_validation_every=1, model_patience=1
        )
        batch = random_batch(learner)
        batch.rewards[-1, :, 0] *= change
        found.append(after_one_iteration(learner, batch))
    assert changed(*(each["model"] for each in found)) == 39
