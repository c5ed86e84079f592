from typing import Literal

import pytest
import torch

from dmpo import Trainer, evaluate
from dmpo.algorithms.dmpo_sac import DMPOSAC
from dmpo.collector import Collector
from dmpo.settings import DMPOSACSettings
from dmpo.updates.sac import Transitions
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import whole_and_restored

QUICK = {"hidden_sizes": [16], "kappa": 1, "gamma": 0.95, "rollout_steps": 10, "gradient_steps": 10, "batch_size": 64}


def learner_for(env: PointMasses, **settings: object) -> DMPOSAC:
    chosen = DMPOSACSettings(**{**QUICK, "model_fit_steps": 50, "model_starts": 128, **settings})
    return DMPOSAC(chosen, env.graph, env.observation_space, env.action_space, seed=0)


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


def test_the_share_of_imagined_steps_is_q0(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses()
    learner = learner_for(env, model_share=0.3, gradient_steps=50)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    mark = 1e6
    imagined = learner._imagined

    def marked(starts: torch.Tensor, horizon: int) -> Transitions:
        found = imagined(starts, horizon)
        return Transitions(found.states, found.actions, found.rewards * 0 + mark, found.following, found.ends)

    seen: list[torch.Tensor] = []
    update = learner.sac.update
    monkeypatch.setattr(learner, "_imagined", marked)
    monkeypatch.setattr(learner.sac, "update", lambda b, *a: seen.append(b.rewards[:, 0] == mark) or update(b, *a))
    learner.improve(batch, 0.0)
    draws = torch.cat(seen)
    assert len(draws) == 50 * 64
    # Four standard deviations of a binomial.
    assert float(draws.float().mean()) == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / len(draws)) ** 0.5)


def test_with_overlap_it_practises_while_the_environment_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PointMasses()
    learner = learner_for(env, inner_iterations=5, overlap=True)
    collector, pending = Collector(env, learner, seed=0), []
    imagined = learner._imagined
    monkeypatch.setattr(learner, "_imagined", lambda *a: pending.append(env.pending is not None) or imagined(*a))
    for _ in range(2):
        batch, _ = collector.collect()
        learner.fit(batch, 0.0)
        metrics = learner.improve(batch, 0.0)
    assert pending == [True] * 5
    assert metrics["policy/gradient_steps"] == 10 / 2 and metrics["model/horizon"] == learner.settings.model_horizon


@pytest.mark.parametrize("overlap", [False, True])
def test_a_restored_run_goes_on_to_the_last_bit(overlap: bool) -> None:
    def trainer() -> Trainer:
        env = PointMasses(horizon=7)
        return Trainer(
            env, learner_for(env, overlap=overlap, inner_iterations=2, model_fit_steps=5), 4 * 10 * 5, seed=0
        )

    whole, second = whole_and_restored(trainer)
    pairs = zip(whole.learner.policy.parameters(), second.learner.policy.parameters(), strict=True)  # type: ignore[attr-defined]
    assert all(torch.equal(a, b) for a, b in pairs)


def test_it_is_fed_with_what_the_models_say_follows() -> None:
    env = PointMasses()
    learner = learner_for(env, model_horizon=3)
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch, 0.0)
    found = learner._imagined(batch.observations[0], 3)
    said = learner.practice.models.predict(found.states.transpose(0, 1), found.actions.transpose(0, 1))
    torch.testing.assert_close(said.states.transpose(0, 1), found.following)
    torch.testing.assert_close(said.rewards.T, found.rewards)
    assert len(found.rewards) == 3 * 128
