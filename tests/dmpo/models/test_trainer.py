from collections.abc import Iterator

import networkx as nx
import pytest
import torch

import dmpo.models.trainer
from dmpo import TrainingError
from dmpo.algorithms.dmpo import DMPO
from dmpo.collector import Collector
from dmpo.data.rollout import Rollout
from dmpo.settings import DMPOSettings
from tests.dmpo.environment import PointMasses

E, T = 6, 20


def learner_for(env: PointMasses, **settings: object) -> DMPO:
    quick = {
        "hidden_sizes": [8],
        "kappa": 1,
        "rollout_steps": T,
        "epochs": 1,
        "model_fit_steps": 100,
        "model_starts": 16,
    }
    chosen = DMPOSettings(**{**quick, "model_horizon": 4, "inner_iterations": 4, **settings})
    return DMPO(chosen, env.graph, env.observation_space, env.action_space, seed=0)


def collected(env: PointMasses, learner: DMPO, batches: int) -> Iterator[Rollout]:
    collector = Collector(env, learner, seed=0)
    for _ in range(batches):
        yield collector.collect()[0]


@pytest.mark.parametrize(("actions", "model_loss_steps"), [("continuous", 1), ("discrete", 4)])
def test_models_come_to_predict_what_they_have_not_seen(actions: str, model_loss_steps: int) -> None:
    env = PointMasses(num_envs=E, actions=actions, horizon=15, crash=1e9)  # type: ignore[arg-type]
    learner = learner_for(
        env,
        model_fit_steps=300,
        model_patience=100,
        lr_model=1e-2,
        model_batch_size=256,
        model_loss_steps=model_loss_steps,
    )
    for batch in collected(env, learner, 4):
        metrics = learner.fit(batch, 0.0)
    assert metrics["model/state_error"] < 0.01
    assert metrics["model/change_error"] < 0.1
    assert metrics["model/reward_error"] < 0.1
    per_agent = [metrics[f"model/state_error.{i}"] for i in range(3)]
    assert sum(per_agent) / 3 == pytest.approx(metrics["model/state_error"])


def test_one_agents_loss_moves_its_own_parameters_only_and_those_of_the_edges_it_hears() -> None:
    env = PointMasses(num_envs=E)
    learner = learner_for(env)
    models = learner.practice.models
    models.fit(next(collected(env, learner, 1)))
    windows = models.memory.windows(1, held_out=False).everything()
    agents, edges = models.model.parameter_groups()
    for i in range(3):
        of_agents = torch.autograd.grad(models.losses(windows)[i], agents, allow_unused=True)
        of_edges = torch.autograd.grad(models.losses(windows)[i], edges)
        for gradient in of_agents:
            moved = gradient.abs().flatten(1).sum(1).nonzero().flatten().tolist()
            # An encoder is used by its agent for itself, and by the neighbors who hear of it.
            assert i in moved and set(moved) <= {i, *env.graph.neighbors(i)}
        heard = (models.model.edges[1] == i).nonzero().flatten().tolist()
        for gradient in of_edges:
            assert gradient.abs().flatten(1).sum(1).nonzero().flatten().tolist() == heard


def test_learning_piece_by_piece_is_learning_from_everything_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses(num_envs=E, horizon=15)
    fitted, learned = [], []
    for most in (10**9, 50):
        for limit in ("OBSERVED", "PIECE"):
            monkeypatch.setattr(dmpo.models.trainer, limit, most)
        monkeypatch.setattr(dmpo.models.trainer, "LEAST", 1)
        models = learner_for(env, model_fit_steps=1, model_loss_steps=2).practice.models
        models.fit(next(collected(env, learner_for(env), 1)))
        fitted.append([x for moments in (models.states, models.changes, models.rewards) for x in moments.buffers()])
        models.update(models.memory.windows(2, held_out=False).everything())
        learned.append([optimizer.first for optimizer in models.optimizers])
    for parts in (fitted, learned):
        for whole, pieces in zip(*parts, strict=True):
            torch.testing.assert_close(whole, pieces, atol=1e-6, rtol=1e-4)


def test_fitting_stops_when_the_held_out_error_does_not_fall() -> None:
    env = PointMasses(num_envs=E)
    learner = learner_for(env, lr_model=1e-12, model_patience=3, model_validation_every=5, model_fit_steps=1000)
    metrics = learner.practice.models.fit(next(collected(env, learner, 1)))
    assert metrics["model/gradient_steps"] <= 5 * 10


def test_what_an_end_pays_is_learnt_apart() -> None:
    env = PointMasses(num_envs=E, crash=1.0, horizon=1000)
    learner = learner_for(env)
    batch = next(collected(env, learner, 1))
    assert batch.terminated.any()
    batch.rewards[batch.terminated] = -1e6
    learner.practice.models.fit(batch)
    assert float(learner.practice.models.last_rewards.mean.mean()) == pytest.approx(-1e6)
    assert float(learner.practice.models.rewards.mean.abs().max()) < 1e3


def test_a_model_that_explodes_is_noticed_and_its_agent_named() -> None:
    env = PointMasses(num_envs=E)
    learner = learner_for(env)
    with torch.no_grad():
        learner.practice.models.model.heads[0].weight[2] = torch.nan
    with pytest.raises(TrainingError, match="model loss of agent 2"):
        learner.practice.models.fit(next(collected(env, learner, 1)))


def test_an_isolated_agent_models_itself() -> None:
    env = PointMasses(num_envs=E, horizon=15, crash=1e9)
    env.graph = nx.empty_graph(3)
    learner = learner_for(env, model_fit_steps=300, model_patience=100, lr_model=5e-3)
    for batch in collected(env, learner, 3):
        metrics = learner.fit(batch, 0.0)
    assert metrics["model/state_error"] < 0.01


def test_continuous_actions_are_clipped_as_the_environment_does() -> None:
    env = PointMasses(num_envs=E)
    models = learner_for(env).practice.models
    batch = next(collected(env, learner_for(env), 1))
    models.fit(batch)
    states, beyond = batch.observations[0].transpose(0, 1), torch.full((3, E, 1), 4.0)
    assert torch.equal(models.predict(states, beyond).states, models.predict(states, torch.ones(3, E, 1)).states)


def test_small_actions_are_not_lost_beside_large_states() -> None:
    # The model sees actions in units of how far they vary, so that a thousandth of them is as visible.
    def learned(scale: float) -> float:
        env = PointMasses(num_envs=E, horizon=15, crash=1e9)
        learner = learner_for(env, model_fit_steps=300, model_patience=100, lr_model=5e-3)
        batch = next(collected(env, learner, 1))
        batch.actions.mul_(scale)
        return learner.fit(batch, 0.0)["model/change_error"]

    assert learned(1e-3) < 1.5 * learned(1.0)


def test_episodes_too_short_for_a_window_are_no_reason_to_stop() -> None:
    env = PointMasses(num_envs=E, horizon=3)
    learner = learner_for(env, model_loss_steps=4)
    (batch,) = collected(env, learner, 1)
    assert learner.fit(batch, 0.0) == {} and not learner.practice.models.ready
    assert "model/share" not in learner.improve(batch, 0.0)  # nobody practises in models that know nothing


def test_the_first_fit_after_the_warm_up_is_a_longer_one() -> None:
    env = PointMasses(num_envs=E)
    learner = learner_for(
        env, warm_up_steps=2 * E * T, model_warm_up_fit_steps=70, model_fit_steps=10, model_patience=100
    )
    updates = [learner.fit(batch, 0.0).get("model/gradient_steps") for batch in collected(env, learner, 4)]
    assert updates == [None, 70, 10, 10]  # not whole blocks of `model_validation_every`
