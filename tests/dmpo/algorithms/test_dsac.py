from typing import Any, Literal

import pytest
import torch

from dmpo import Trainer, evaluate
from dmpo.algorithms.dsac import DSAC
from dmpo.collector import Collector
from dmpo.settings import DSACSettings
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import whole_and_restored

Kind = Literal["continuous", "discrete"]


def learner_for(env: PointMasses, **settings: object) -> DSAC:
    quick = {
        "hidden_sizes": [16],
        "kappa": 1,
        "gamma": 0.95,
        "rollout_steps": 10,
        "gradient_steps": 10,
        "batch_size": 64,
    }
    chosen = DSACSettings(**{**quick, **settings})
    return DSAC(chosen, env.graph, env.observation_space, env.action_space, seed=0)


def parameters(learner: DSAC) -> torch.Tensor:
    return torch.cat([p.detach().flatten(1) for m in (learner.policy, learner.critic) for p in m.parameters()], 1)


@pytest.mark.parametrize(
    ("actions", "shared", "overlap"),
    [("continuous", False, False), ("discrete", False, True), ("continuous", True, True), ("discrete", True, False)],
)
def test_it_learns(actions: Kind, shared: bool, overlap: bool) -> None:
    env, test = (PointMasses(num_envs=8, actions=actions, horizon=30) for _ in range(2))
    rates = {"lr_policy": 3e-3, "lr_value": 3e-3, "tau": 0.02}
    learner = learner_for(env, **rates, gradient_steps=30, share_parameters=shared, overlap=overlap)
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 10 * 8 * 50, seed=0).iterations():
        pass
    after = evaluate(test, learner, seed=1).metrics["eval/reward"]
    assert after > 0.4 * before  # rewards are negative


def test_nothing_is_learnt_before_the_warm_up_is_over() -> None:
    env = PointMasses()
    learner = learner_for(env, warm_up_steps=100)
    collector, start = Collector(env, learner, seed=0), parameters(learner)
    for steps in (40, 80, 120):
        learner.improve(collector.collect()[0], 0.0)
        assert torch.equal(parameters(learner), start) == (steps < 100)


@pytest.mark.parametrize(
    ("gradient_steps", "shares"), [(10, [1] * 10), (25, [2, 3] * 5), (3, [0, 0, 0, 1, 0, 0, 1, 0, 0, 1])]
)
def test_with_overlap_all_gradient_steps_are_taken_in_the_environments_steps(
    gradient_steps: int, shares: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = PointMasses()
    learner = learner_for(env, gradient_steps=gradient_steps, overlap=True)
    collector, taken, pending = Collector(env, learner, seed=0), [], []
    update, meanwhile = learner.sac.update, learner.meanwhile

    def counted(*arguments: Any) -> dict[str, torch.Tensor]:
        pending.append(env.pending is not None)
        return update(*arguments)

    def noted(step: int, progress: float) -> None:
        before = len(pending)
        meanwhile(step, progress)
        taken.append(len(pending) - before)

    monkeypatch.setattr(learner.sac, "update", counted)
    monkeypatch.setattr(learner, "meanwhile", noted)
    assert "policy/gradient_steps" not in learner.improve(
        collector.collect()[0], 0.0
    )  # there was nothing to replay yet
    taken.clear()
    metrics = learner.improve(collector.collect()[0], 0.0)
    assert taken == shares and all(pending) and len(pending) == gradient_steps
    assert metrics["policy/gradient_steps"] == -(-gradient_steps // 2)  # every second one, with the first


def test_with_overlap_a_gradient_step_knows_nothing_of_what_the_environment_is_about_to_tell() -> None:
    found = []
    for wind in (0.0, 1.0):
        env = PointMasses()
        learner = learner_for(env, overlap=True, gradient_steps=1)  # in the last of ten steps
        collector = Collector(env, learner, seed=0)
        learner.improve(collector.collect()[0], 0.0)
        env.speed += wind
        collector.collect()
        found.append(parameters(learner))
    assert torch.equal(*found)
    start = parameters(learner_for(PointMasses()))
    assert not torch.equal(found[0], start)


def test_without_overlap_nothing_is_learnt_while_the_environment_steps() -> None:
    env = PointMasses()
    learner = learner_for(env)
    collector = Collector(env, learner, seed=0)
    learner.improve(collector.collect()[0], 0.0)
    before = parameters(learner)
    collector.collect()
    assert torch.equal(parameters(learner), before)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_a_restored_run_goes_on_to_the_last_bit(actions: Kind, overlap: bool) -> None:
    def trainer() -> Trainer:
        env = PointMasses(actions=actions, horizon=7)
        return Trainer(env, learner_for(env, buffer_size=90, overlap=overlap), 4 * 10 * 6, seed=0)

    whole, second = whole_and_restored(trainer)
    assert torch.equal(parameters(whole.learner), parameters(second.learner))  # type: ignore[arg-type]


def test_what_a_broken_iteration_has_learnt_is_not_counted_in_the_next() -> None:
    env = PointMasses()
    learner = learner_for(env, overlap=True)
    collector = Collector(env, learner, seed=0)
    learner.improve(collector.collect()[0], 0.0)
    for step in range(3):  # three gradient steps, and then Ctrl-C
        learner.meanwhile(step, 0.0)
    metrics = learner.improve(collector.collect()[0], 0.0)
    assert metrics["policy/gradient_steps"] == 5
