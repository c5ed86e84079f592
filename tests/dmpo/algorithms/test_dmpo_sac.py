from dataclasses import replace
from typing import Literal

import pytest
import torch

from dmpo import Trainer, evaluate
from dmpo.algorithms.dmpo_sac import DMPOSAC, DMPOSACSettings
from dmpo.collector import Collector
from dmpo.data.rollout import Rollout
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import setup_of, whole_and_restored

QUICK = {"hidden_sizes": [16], "kappa": 1, "gamma": 0.95, "rollout_steps": 10, "gradient_steps": 10, "batch_size": 64}


def learner_for(env: PointMasses, **settings: object) -> DMPOSAC:
    chosen = DMPOSACSettings(**{**QUICK, "model_fit_steps": 50, "model_starts": 128, **settings})
    return DMPOSAC(chosen, setup_of(env))


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_it_learns_from_few_real_steps(actions: Literal["continuous", "discrete"]) -> None:
    env, test = (PointMasses(num_envs=8, actions=actions, horizon=30, crash=1e9) for _ in range(2))
    rates = {"lr_policy": 3e-3, "lr_value": 3e-3, "lr_model": 3e-3, "tau": 0.02}
    learner = learner_for(env, **rates, gradient_steps=50, model_share=0.5, model_horizon=2)
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 10 * 8 * 35, seed=0).iterations():
        pass
    after = evaluate(test, learner, seed=1).metrics["eval/reward"]
    assert after > 0.5 * before  # rewards are negative


def test_the_share_of_steps_from_the_models_is_q0(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses()
    learner = learner_for(env, model_share=0.3, gradient_steps=50)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    mark, rollout = 1e6, learner.models.rollout

    def marked(starts: torch.Tensor, steps: int) -> Rollout:
        found = rollout(starts, steps)
        return replace(found, rewards=found.rewards * 0 + mark)

    from_model: list[torch.Tensor] = []
    update = learner.update.update
    monkeypatch.setattr(learner.models, "rollout", marked)
    monkeypatch.setattr(
        learner.update, "update", lambda b, *a: from_model.append(b.rewards[:, 0] == mark) or update(b, *a)
    )
    learner.improve(batch, 0.0)
    draws = torch.cat(from_model)
    assert len(draws) == 50 * 64
    # Four standard deviations of a binomial.
    assert float(draws.float().mean()) == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / len(draws)) ** 0.5)


def test_each_inner_iteration_rolls_the_models_out_once_and_takes_all_gradient_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = PointMasses()
    learner = learner_for(env, inner_iterations=5)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    order: list[str] = []
    rollout, update = learner.models.rollout, learner.update.update
    monkeypatch.setattr(learner.models, "rollout", lambda *a: order.append("rollout") or rollout(*a))
    monkeypatch.setattr(learner.update, "update", lambda *a: order.append("update") or update(*a))
    metrics = learner.improve(batch, 0.0)
    assert order == (["rollout"] + ["update"] * 10) * 5
    assert metrics["policy/gradient_steps"] == 10 / 2  # every second one, per rollout
    assert metrics["model/horizon"] == learner.settings.model_horizon


def test_a_restored_run_continues_to_the_last_bit() -> None:
    def trainer() -> Trainer:
        env = PointMasses(horizon=7)
        return Trainer(env, learner_for(env, inner_iterations=2, model_fit_steps=5), 4 * 10 * 5, seed=0)

    whole, second = whole_and_restored(trainer)
    pairs = zip(whole.learner.policy.parameters(), second.learner.policy.parameters(), strict=True)  # type: ignore[attr-defined]
    assert all(torch.equal(a, b) for a, b in pairs)


def test_transitions_from_the_models_are_their_predictions() -> None:
    env = PointMasses()
    learner = learner_for(env, model_horizon=3)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    found = learner.transitions(learner.models.rollout(batch.observations[0], 3))
    predicted = learner.models.trainer.predict(found.states.transpose(0, 1), found.actions.transpose(0, 1))
    torch.testing.assert_close(predicted.states.transpose(0, 1), found.next_states)
    torch.testing.assert_close(predicted.rewards.T, found.rewards)
    assert len(found.rewards) == 3 * 128
