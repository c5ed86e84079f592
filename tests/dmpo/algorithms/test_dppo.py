from typing import Literal

import networkx as nx
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dmpo import DPPOSettings, Trainer, evaluate
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import flat, learner_for, make_learner, random_batch

Kind = Literal["continuous", "discrete"]


@pytest.mark.parametrize(
    ("actions", "shared", "normalize"),
    [
        ("continuous", False, False),
        ("continuous", True, True),
        ("discrete", False, False),
        ("discrete", False, True),
        ("discrete", True, False),
    ],
)
def test_it_learns(actions: Kind, shared: bool, normalize: bool) -> None:
    env, test = (PointMasses(num_envs=16, actions=actions, horizon=30) for _ in range(2))
    learner = learner_for(
        env,
        rollout_steps=30,
        epochs=8,
        lr_policy=5e-3,
        lr_value=5e-3,
        kl_target=0.03,
        share_parameters=shared,
        normalize_observations=normalize,
    )
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 30 * 16 * 25, seed=0).iterations():
        pass
    after = evaluate(test, learner, seed=1).metrics["eval/reward"]
    assert before < -1
    assert after > 0.25 * before  # rewards are negative: at most a quarter of what the untrained one pays


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_actions_have_the_shape_and_units_of_the_environment(actions: Kind) -> None:
    env = PointMasses(actions=actions)
    learner, (observation, _) = learner_for(env), env.reset(seed=0)
    for deterministic in (False, True):
        commands = learner.act(observation, deterministic)
        assert commands.shape == ((4, 3, 1) if actions == "continuous" else (4, 3))
        assert all(env.action_space.contains(command) for row in commands for command in row)


def test_read_only_observations_are_accepted() -> None:
    env = PointMasses()
    observation = env.reset(seed=0)[0].copy()
    observation.flags.writeable = False
    assert learner_for(env).act(observation).shape == (4, 3, 1)


def test_deterministic_actions_are_always_the_same_and_sampled_ones_are_not() -> None:
    env = PointMasses()
    learner, (observation, _) = learner_for(env), env.reset(seed=0)
    assert np.array_equal(learner.act(observation, True), learner.act(observation, True))
    assert not np.array_equal(learner.act(observation), learner.act(observation))


def test_acting_does_not_disturb_training() -> None:
    env = PointMasses()
    learner, other = learner_for(env), learner_for(env)
    observation, first = torch.from_numpy(env.reset(seed=0)[0]), torch.ones(4, dtype=torch.bool)
    learner.act(observation)
    assert torch.equal(learner.explore(observation, first).actions, other.explore(observation, first).actions)


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_one_seed_gives_one_run(actions: Kind) -> None:
    runs = []
    for seed in (3, 3, 4):
        env = PointMasses(actions=actions)
        learner = learner_for(env, seed=seed)
        for _ in Trainer(env, learner, 120, seed=0).iterations():
            pass
        runs.append(flat(learner))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_each_agent_normalizes_its_state_by_its_own_observations() -> None:
    learner = make_learner(nx.path_graph(3), normalize_observations=True)
    batch = random_batch(learner)
    scale = torch.tensor([1.0, 10.0, 100.0])[:, None]
    batch.observations.mul_(scale).add_(5)
    learner.improve(batch, 0.0)
    observed = batch.observations[:-1].flatten(0, 1)
    torch.testing.assert_close(learner.obs_normalizer.mean, observed.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(learner.obs_normalizer.std, observed.std(0, correction=0), rtol=1e-4, atol=1e-4)
    states = learner.states(observed)
    torch.testing.assert_close(states.std(0, correction=0), torch.ones(3, 3), rtol=1e-3, atol=1e-3)


def test_shared_parameters_serve_any_number_of_agents() -> None:
    small, large = (make_learner(nx.cycle_graph(n), share_parameters=True, seed=n) for n in (5, 9))
    small.improve(random_batch(small), 0.0)
    large.load_state_dict(small.state_dict())
    states = torch.randn(2, 1, 3).expand(2, 9, 3)
    commands = large.act(states, deterministic=True)
    np.testing.assert_allclose(commands[:, :5], small.act(states[:, :5], deterministic=True), atol=1e-6)


def test_a_state_of_another_learner_is_refused() -> None:
    state = make_learner(nx.cycle_graph(5)).state_dict()
    for other in (make_learner(nx.cycle_graph(6)), make_learner(nx.cycle_graph(5), hidden_sizes=[9])):
        with pytest.raises(ValueError, match="Load it with the settings, graph and environment"):
            other.load_state_dict(state)


def test_a_state_is_a_copy_of_plain_values() -> None:
    learner = make_learner(nx.cycle_graph(5))
    state = learner.state_dict()
    kept = state["policy"]["log_std"].clone()
    learner.improve(random_batch(learner), 0.0)
    assert torch.equal(state["policy"]["log_std"], kept)
    assert {type(x) for part in state.values() if isinstance(part, dict) for x in part.values()} == {torch.Tensor}


def test_communication_is_counted_per_agent_and_step() -> None:
    learner = make_learner(nx.cycle_graph(6), kappa=2)
    metrics = learner.improve(random_batch(learner), 0.0)
    assert metrics["comm/bytes_per_agent_step"] == 2 * 3 * 4  # two neighbors, three numbers of four bytes
    assert metrics["comm/training_bytes_per_agent_step"] == 4 * (3 + 2) * 4  # and values and rewards


@pytest.mark.parametrize(
    "wrong",
    [{"kapa": 1}, {"kappa": -1}, {"gamma": 1.5}, {"epochs": 0}, {"hidden_sizes": [0]}, {"lr_policy": float("nan")}],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DPPOSettings.model_validate(wrong)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in DPPOSettings.model_fields.values())


def test_an_initial_mean_of_discrete_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="init_mean=0.1 is not possible: the actions are discrete"):
        make_learner(nx.path_graph(3), "discrete", init_mean=0.1)
