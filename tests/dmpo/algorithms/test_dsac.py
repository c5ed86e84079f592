from typing import Literal

import pytest
import torch

from dmpo import Trainer, evaluate
from dmpo.algorithms.dsac import DSAC, DSACSettings
from dmpo.collector import Collector
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import setup_of, whole_and_restored

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
    return DSAC(chosen, setup_of(env))


def parameters(learner: DSAC) -> torch.Tensor:
    return torch.cat([p.detach().flatten(1) for m in (learner.policy, learner.critic) for p in m.parameters()], 1)


@pytest.mark.parametrize(
    ("actions", "shared"), [("continuous", False), ("discrete", False), ("continuous", True), ("discrete", True)]
)
def test_it_learns(actions: Kind, shared: bool) -> None:
    env, test = (PointMasses(num_envs=8, actions=actions, horizon=30) for _ in range(2))
    rates = {"lr_policy": 3e-3, "lr_value": 3e-3, "tau": 0.02}
    learner = learner_for(env, **rates, gradient_steps=30, share_parameters=shared)
    before = evaluate(test, learner, seed=1).metrics["eval/reward"]
    for _ in Trainer(env, learner, 10 * 8 * 50, seed=0).iterations():
        pass
    after = evaluate(test, learner, seed=1).metrics["eval/reward"]
    assert after > 0.4 * before  # rewards are negative


def test_nothing_is_learned_before_the_warm_up_is_over() -> None:
    env = PointMasses()
    learner = learner_for(env, warm_up_steps=100)
    collector, start = Collector(env, learner, seed=0), parameters(learner)
    for steps in (40, 80, 120):
        learner.improve(collector.collect()[0], 0.0)
        assert torch.equal(parameters(learner), start) == (steps < 100)


@pytest.mark.parametrize(("gradient_steps", "delay", "of_policies"), [(10, 2, 5), (25, 2, 13), (3, 1, 3), (7, 3, 3)])
def test_gradient_steps_are_as_many_as_set_and_policies_take_their_share(
    gradient_steps: int, delay: int, of_policies: int
) -> None:
    env = PointMasses()
    learner = learner_for(env, gradient_steps=gradient_steps, policy_delay=delay)
    metrics = learner.improve(Collector(env, learner, seed=0).collect()[0], 0.0)
    assert learner.update.value_optimizer.steps.flatten().tolist() == [gradient_steps] * 3
    assert learner.update.policy_optimizer.steps.flatten().tolist() == [of_policies] * 3  # with the first
    assert metrics["policy/gradient_steps"] == of_policies


def test_nothing_is_learned_while_steps_are_collected() -> None:
    env = PointMasses()
    learner = learner_for(env)
    collector = Collector(env, learner, seed=0)
    learner.improve(collector.collect()[0], 0.0)
    before = parameters(learner)
    collector.collect()
    assert torch.equal(parameters(learner), before)


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_a_restored_run_continues_to_the_last_bit(actions: Kind) -> None:
    def trainer() -> Trainer:
        env = PointMasses(actions=actions, horizon=7)
        return Trainer(env, learner_for(env, buffer_size=90), 4 * 10 * 6, seed=0)

    whole, second = whole_and_restored(trainer)
    assert torch.equal(parameters(whole.learner), parameters(second.learner))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "told"), [({}, [0, 1, 2]), ({"end_hops": 0}, [0]), ({"strictly_local": True}, [0, 1])]
)
def test_an_end_is_the_last_state_of_those_who_are_told(settings: dict[str, object], told: list[int]) -> None:
    env = PointMasses()  # on a path
    learner = learner_for(env, warm_up_steps=0, **settings)
    batch = Collector(env, learner, seed=0).collect()[0]
    batch.terminated[:], batch.ended_by[..., 0] = True, True
    replay = learner.store(batch)
    assert replay is not None
    drawn = learner.replayed(replay, 64)
    expected = torch.tensor([i in told for i in range(3)])
    assert torch.equal(drawn.terminated, expected.expand(64, 3))
