from collections.abc import Iterator

import networkx as nx
import pytest
import torch

import dmpo.models.trainer
from dmpo import TrainingError
from dmpo.algorithms.dmpo import DMPO, DMPOSettings
from dmpo.collector import Collector
from dmpo.data.replay_buffer import Role
from dmpo.data.rollout import Rollout
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import setup_of

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
    return DMPO(chosen, setup_of(env))


def collected(env: PointMasses, learner: DMPO, batches: int) -> Iterator[Rollout]:
    collector = Collector(env, learner, seed=0)
    for _ in range(batches):
        yield collector.collect()[0]


@pytest.mark.parametrize(("actions", "model_loss_steps"), [("continuous", 1), ("discrete", 4)])
def test_models_learn_to_predict_held_out_steps(actions: str, model_loss_steps: int) -> None:
    env = PointMasses(num_envs=E, actions=actions, horizon=15, crash=1e9)  # type: ignore[arg-type]
    learner = learner_for(
        env,
        model_fit_steps=300,
        model_patience=100,
        lr_model=1e-2,
        model_batch_size=256,
        model_loss_steps=model_loss_steps,
        model_holdout=0.4,  # a few episodes more, as one unusual one makes the reward's error
    )
    for batch in collected(env, learner, 6):
        metrics = learner.fit(batch, 0.0)
    assert metrics["model/state_error"] < 0.01
    assert metrics["model/change_error"] < 0.1
    assert metrics["model/reward_error"] < 0.1
    per_agent = [metrics[f"model/state_error.{i}"] for i in range(3)]
    assert sum(per_agent) / 3 == pytest.approx(metrics["model/state_error"])


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("model_gradient", ["own", "neighborhood"])
def test_an_agents_loss_reaches_as_far_as_the_setting_says(model_gradient: str, steps: int) -> None:
    env = PointMasses(num_envs=E)
    env.graph = nx.path_graph(3)
    learner = learner_for(env, model_gradient=model_gradient, model_loss_steps=steps, model_actions="neighbors")
    models = learner.models.trainer
    models.fit(next(collected(env, learner, 1)))
    sequences = models.sequences(steps, Role.TRAINING).everything()
    agents, edges = models.model.parameter_groups()
    losses = models.loss(models.model, models.normalized(sequences))
    for i in range(3):
        of_agents = torch.autograd.grad(losses[i], agents, allow_unused=True, retain_graph=True)
        of_edges = torch.autograd.grad(losses[i], edges, retain_graph=True)
        moved: set[int] = set()
        for gradient in of_agents:
            moved |= set(gradient.abs().flatten(1).sum(1).nonzero().flatten().tolist())
        # An encoder serves its agent and the neighbors that receive its messages, over several steps theirs as well.
        reach = 0 if model_gradient == "own" else steps
        assert moved == set(nx.single_source_shortest_path_length(env.graph, i, cutoff=reach))
        if reach > 1:
            continue
        incoming = (models.model.edges[1] == i).nonzero().flatten().tolist()
        for gradient in of_edges:
            assert gradient.abs().flatten(1).sum(1).nonzero().flatten().tolist() == incoming


def test_learning_in_chunks_is_learning_from_the_whole_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses(num_envs=E, horizon=15)
    fitted, learned = [], []
    for most in (10**9, 50):
        for limit in ("OBSERVED_STATES", "CHUNK_MESSAGES"):
            monkeypatch.setattr(dmpo.models.trainer, limit, most)
        monkeypatch.setattr(dmpo.models.trainer, "CHUNK_MIN_SEQUENCES", 1)
        models = learner_for(env, model_fit_steps=1, model_loss_steps=2).models.trainer
        models.fit(next(collected(env, learner_for(env), 1)))
        normalizers = models.state_normalizer, models.change_normalizer, models.reward_normalizer
        fitted.append([x for normalizer in normalizers for x in normalizer.buffers()])
        models.update(models.sequences(2, Role.TRAINING).everything())
        learned.append([optimizer.first for optimizer in models.optimizers])
    for parts in (fitted, learned):
        for whole, pieces in zip(*parts, strict=True):
            torch.testing.assert_close(whole, pieces, atol=1e-6, rtol=1e-4)


def test_fitting_stops_when_the_validation_loss_does_not_fall() -> None:
    env = PointMasses(num_envs=E)
    learner = learner_for(env, lr_model=1e-12, model_patience=3, model_validation_every=5, model_fit_steps=1000)
    metrics = learner.models.trainer.fit(next(collected(env, learner, 1)))
    assert metrics["model/gradient_steps"] <= 5 * 10


def test_terminal_rewards_are_learned_apart() -> None:
    env = PointMasses(num_envs=E, crash=1.0, horizon=1000)
    learner = learner_for(env)
    batch = next(collected(env, learner, 1))
    assert batch.terminated.any()
    batch.rewards[batch.terminated.any(-1)] = -1e6
    learner.models.trainer.fit(batch)
    assert float(learner.models.trainer.terminal_reward_normalizer.mean.mean()) == pytest.approx(-1e6)
    assert float(learner.models.trainer.reward_normalizer.mean.abs().max()) < 1e3


def test_a_model_that_explodes_is_noticed_and_its_agent_named() -> None:
    env = PointMasses(num_envs=E)
    learner = learner_for(env)
    with torch.no_grad():
        learner.models.trainer.model.heads[0].weight[2] = torch.nan
    with pytest.raises(TrainingError, match="model loss of agent 2"):
        learner.models.trainer.fit(next(collected(env, learner, 1)))


def test_an_isolated_agent_models_itself() -> None:
    env = PointMasses(num_envs=E, horizon=15, crash=1e9)
    env.graph = nx.empty_graph(3)
    learner = learner_for(env, model_fit_steps=300, model_patience=100, lr_model=5e-3)
    for batch in collected(env, learner, 3):
        metrics = learner.fit(batch, 0.0)
    assert metrics["model/state_error"] < 0.01


def test_continuous_actions_are_clipped_as_the_environment_does() -> None:
    env = PointMasses(num_envs=E)
    models = learner_for(env).models.trainer
    batch = next(collected(env, learner_for(env), 1))
    models.fit(batch)
    states, beyond = batch.observations[0].transpose(0, 1), torch.full((3, E, 1), 4.0)
    assert torch.equal(models.predict(states, beyond).states, models.predict(states, torch.ones(3, E, 1)).states)


def test_small_actions_count_as_much_as_large_ones() -> None:
    # Actions are normalized.
    def change_error(scale: float) -> float:
        env = PointMasses(num_envs=E, horizon=15, crash=1e9)
        learner = learner_for(env, model_fit_steps=300, model_patience=100, lr_model=5e-3)
        batch = next(collected(env, learner, 1))
        batch.actions.clamp_(-1, 1).mul_(scale)
        return learner.fit(batch, 0.0)["model/change_error"]

    assert change_error(1e-3) < 1.5 * change_error(1.0)


def test_episodes_shorter_than_a_sequence_give_no_fit_and_no_error() -> None:
    env = PointMasses(num_envs=E, horizon=3)
    learner = learner_for(env, model_loss_steps=4)
    (batch,) = collected(env, learner, 1)
    assert learner.fit(batch, 0.0) == {} and not learner.models.trainer.ready
    assert "model/share" not in learner.improve(batch, 0.0)  # no rollouts in models that have learned nothing


def test_the_first_fit_after_the_warm_up_is_a_longer_one() -> None:
    env = PointMasses(num_envs=E)
    learner = learner_for(
        env, warm_up_steps=2 * E * T, model_warm_up_fit_steps=70, model_fit_steps=10, model_patience=100
    )
    updates = [learner.fit(batch, 0.0).get("model/gradient_steps") for batch in collected(env, learner, 4)]
    assert updates == [None, 70, 10, 10]  # not whole blocks of `model_validation_every`


def test_the_parameters_of_the_least_validation_loss_are_kept() -> None:
    # Steps far too large: the validation loss rises from some point on.
    env = PointMasses(num_envs=E, horizon=15)
    learner = learner_for(env, lr_model=0.3, model_patience=6, model_validation_every=5, model_holdout=0.3)
    models, validated = learner.models.trainer, []
    draw, validate = models.sequences, models._validate
    models._validate = lambda drawn: validated.append((drawn, validate(drawn))) or validated[-1][1]  # type: ignore[method-assign]
    for batch in collected(env, learner, 3):
        validated.clear()
        metrics = models.fit(batch)
        losses = [float(loss.mean()) for _, loss in validated]
        assert min(losses) < losses[-1]
        assert metrics["model/validation_loss"] == min(losses)
        assert float(validate(validated[0][0]).mean()) == min(losses)
    assert draw


def test_a_strictly_local_learner_stops_each_agent_for_itself() -> None:
    env = PointMasses(num_envs=E, horizon=15)
    settings = {"model_patience": 2, "model_validation_every": 5, "model_fit_steps": 200, "lr_model": 0.03}
    learner = learner_for(env, strictly_local=True, **settings)
    models = learner.models.trainer
    (batch,) = collected(env, learner, 1)
    metrics = models.fit(batch)
    taken = [set(optimizer.steps.flatten().tolist()) for optimizer in models.optimizers]
    assert len(taken[0]) > 1  # the agents of one optimizer have taken different numbers of steps
    assert metrics["model/gradient_steps"] == pytest.approx(float(models.optimizers[0].steps.mean()))
