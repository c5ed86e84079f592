from pathlib import Path
from typing import Literal

import pytest
import torch

from dmpo import Trainer, TrainingError, load_checkpoint, save_checkpoint
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import flat, learner_for

ITERATION = 4 * 10  # environment steps: E · T


def make_trainer(actions: Literal["continuous", "discrete"] = "continuous", iterations: int = 6, **settings) -> Trainer:
    env = PointMasses(actions=actions, horizon=13)
    return Trainer(env, learner_for(env, **settings), iterations * ITERATION, seed=5)


def metrics_of(trainer: Trainer) -> list[dict[str, float]]:
    """Of all remaining iterations, without what a clock says."""
    return [{k: v for k, v in m.items() if not k.startswith("time/")} for m in trainer.iterations()]


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_a_run_that_is_saved_and_loaded_ends_as_one_that_was_not_interrupted(
    tmp_path: Path, actions: Literal["continuous", "discrete"]
) -> None:
    settings = {"normalize_observations": True, "lr_decay": True, "entropy_coef": 0.1}
    whole = make_trainer(actions, **settings)
    expected = []
    for metrics in whole.iterations():
        expected.append({k: v for k, v in metrics.items() if not k.startswith("time/")})
        if whole.iteration == 3:
            save_checkpoint(tmp_path / "checkpoint", whole.state_dict())
    resumed = make_trainer(actions, seed=99, **settings)
    resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint"))
    assert resumed.env_steps == 3 * ITERATION
    assert metrics_of(resumed) == expected[3:]
    assert torch.equal(flat(resumed.learner), flat(whole.learner))
    # So are the states that decide how training would continue.
    assert torch.equal(resumed.learner.generator.get_state(), whole.learner.generator.get_state())
    networks = [run.learner.update.actor_critic for run in (whole, resumed)]  # type: ignore[attr-defined]
    assert torch.equal(*(each.policy_optimizer.second for each in networks))


def test_it_stops_after_the_steps_asked_for() -> None:
    trainer = make_trainer(iterations=3)
    steps = [metrics["env_steps"] for metrics in trainer.iterations()]
    assert steps == [ITERATION, 2 * ITERATION, 3 * ITERATION]
    assert trainer.env_steps == 3 * ITERATION
    assert list(trainer.iterations()) == []


def test_repeated_actions_count_as_the_steps_they_simulate() -> None:
    env = PointMasses(action_repeat=5)
    trainer = Trainer(env, learner_for(env), 1, seed=0)
    assert next(trainer.iterations())["env_steps"] == 5 * ITERATION


def test_progress_begins_with_nothing_and_stays_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, found = make_trainer(iterations=4), []
    monkeypatch.setattr(trainer.learner, "improve", lambda _, progress: found.append(progress) or {})
    list(trainer.iterations())
    assert found == [0.0, 0.25, 0.5, 0.75]


def test_each_iteration_collects_then_fits_then_improves(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, order = make_trainer(iterations=2), []
    explore = trainer.learner.explore
    monkeypatch.setattr(trainer.learner, "explore", lambda *args: order.append("collect") or explore(*args))
    monkeypatch.setattr(trainer.learner, "fit", lambda *_: order.append("fit") or {"model/error": 1.0})
    monkeypatch.setattr(trainer.learner, "improve", lambda *_: order.append("improve") or {"policy/kl": 2.0})
    metrics = next(trainer.iterations())
    assert order == ["collect"] * 10 + ["fit", "improve"]
    assert metrics["model/error"] == 1.0
    assert metrics["policy/kl"] == 2.0


def test_metrics_are_finite_numbers_with_the_names_of_the_plots() -> None:
    trainer = make_trainer(iterations=3)
    *_, metrics = trainer.iterations()
    named = {
        *(
            "env_steps",
            "policy/train_reward",
            "policy/train_return",
            "policy/entropy",
            "policy/kl",
            "policy/clip_fraction",
        ),
        *("value/explained_variance", "time/env_seconds", "time/act_seconds", "time/update_seconds"),
        *("time/env_steps_per_second", "comm/bytes_per_agent_step"),
    }
    assert named <= metrics.keys()
    assert all(isinstance(value, float) and abs(value) < 1e9 for value in metrics.values())


@pytest.mark.parametrize(("part", "quantity"), [("policy", "policy loss"), ("critic", "value loss")])
def test_nan_is_noticed_and_agent_quantity_and_step_are_named(
    monkeypatch: pytest.MonkeyPatch, part: str, quantity: str
) -> None:
    trainer = make_trainer()
    iterations = trainer.iterations()
    next(iterations)
    bias = getattr(trainer.learner, part).network.head.bias.data
    monkeypatch.setattr(trainer.learner, "fit", lambda *_: {"poisoned": float(bias[1].fill_(torch.nan).numel())})
    with pytest.raises(TrainingError, match=f"{quantity} of agent 1 .* step {ITERATION}") as caught:
        next(iterations)
    assert (caught.value.agent, caught.value.quantity, caught.value.step) == (1, quantity, ITERATION)


def test_a_learning_rate_that_is_too_large_is_noticed() -> None:
    with pytest.raises(TrainingError, match="NaN or infinite"):
        list(make_trainer(lr_policy=1e30, lr_value=1e30, kl_target=None).iterations())


def test_a_state_of_another_number_of_environments_is_refused() -> None:
    trainer = make_trainer()
    next(trainer.iterations())
    env = PointMasses(num_envs=5)
    with pytest.raises(ValueError, match="as many environments"):
        Trainer(env, learner_for(env), 100).load_state_dict(trainer.state_dict())


@pytest.mark.usefixtures("threads")
def test_pytorch_has_more_threads_only_while_the_environment_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    env = PointMasses(horizon=13)
    learner, found = learner_for(env), {}

    def watch(name: str) -> None:
        inner = getattr(learner, name)

        def watched(*arguments):
            found[name] = torch.get_num_threads()
            return inner(*arguments)

        monkeypatch.setattr(learner, name, watched)

    for name in ("explore", "fit", "improve"):
        watch(name)
    next(Trainer(env, learner, ITERATION, seed=0, update_threads=2).iterations())
    assert found == {"explore": 1, "fit": 2, "improve": 2}
    assert torch.get_num_threads() == 1
    monkeypatch.setattr(learner, "improve", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(Trainer(env, learner, ITERATION, seed=0, update_threads=2).iterations())
    assert torch.get_num_threads() == 1
