"""Properties of every learner."""

from contextlib import nullcontext
from typing import Any, Literal

import networkx as nx
import pytest
import torch

import dmpo
from dmpo import Trainer
from dmpo.algorithms.base import FeedforwardLearner
from dmpo.nn.kernels import calls
from tests.dmpo.devices import MODES, Generator
from tests.dmpo.environment import PointMasses
from tests.dmpo.learners import D, make_learner

Kind = Literal["continuous", "discrete"]
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
LEARNERS = [(name, "discrete") for name in dmpo.names()] + [(name, "continuous") for name in ("dmpo", "dsac")]
SETTINGS: dict[str, Any] = {
    "rollout_steps": 6,
    "normalize_observations": True,
    "epochs": 1,
    "minibatches": 2,
    "model_fit_steps": 2,
    "model_validation_every": 1,
    "model_loss_steps": 2,
    "model_batch_size": 16,
    "model_starts": 12,
    "model_horizon": 2,
    "model_share": 0.5,
    "inner_iterations": 2,
    "model_holdout": 0.3,
    "batch_size": 8,
    "gradient_steps": 2,
    "warm_up_steps": 0,
    "consensus": 0.5,
}


def settings_of(name: str) -> Any:
    kind = dmpo.settings_of(name)
    return kind(**{key: value for key, value in SETTINGS.items() if key in kind.model_fields})


def make_trainer(name: str, actions: Kind, device: str) -> Trainer:
    """A small learner there and an environment in which episodes end soon."""
    env = PointMasses(num_envs=6, actions=actions, horizon=5, crash=1.2)
    spaces = env.observation_space, env.action_space
    learner = dmpo.make_learner(settings_of(name), env.graph, *spaces, seed=3, device=device)
    return Trainer(env, learner, 1_000_000, seed=1)


def tensors_of(state: Any, where: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a state by their places, on the CPU."""
    if isinstance(state, torch.Tensor):
        return {where: state.detach().cpu()}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {place: x for key, part in items for place, x in tensors_of(part, f"{where}.{key}").items()}


def on_cpu(state: Any) -> Any:
    """A state as a checkpoint holds it."""
    if isinstance(state, dict):
        return {key: on_cpu(x) for key, x in state.items()}
    if isinstance(state, list | tuple):
        return [on_cpu(x) for x in state]
    return state.detach().cpu().clone() if isinstance(state, torch.Tensor) else state


@pytest.mark.filterwarnings("ignore:.*non-meta parameter.*:UserWarning")  # it copies them, and does not know
@pytest.mark.parametrize("device", ["meta", GPU])
@pytest.mark.parametrize(("name", "actions"), LEARNERS)
def test_a_learner_on_another_device_computes_the_same_and_resumes_there(
    name: str, actions: Kind, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(calls, "level", lambda: calls.NONE)  # the other device has no kernels, and they round otherwise
    for method in ("explore", "act"):  # PyTorch's inference mode does not reach other modes
        plain = getattr(FeedforwardLearner, method).__wrapped__
        monkeypatch.setattr(FeedforwardLearner, method, torch.no_grad()(plain))
    found: dict[str, dict[str, torch.Tensor]] = {}
    for place in ("cpu", device):
        with nullcontext() if place == "cpu" else MODES[place]():
            trainer, resumed = make_trainer(name, actions, place), make_trainer(name, actions, place)
            next(trainer.iterations())
            resumed.load_state_dict(on_cpu(trainer.state_dict()))
            for each in (trainer, resumed):
                next(each.iterations())
            found[place], again = (tensors_of(each.learner.state_dict()) for each in (trainer, resumed))
        assert {key for key, x in found[place].items() if not torch.equal(x, again[key])} == set()
    exact = {"rtol": 0.0, "atol": 0.0} if device == "meta" else {"rtol": 1e-3, "atol": 1e-4}
    for key, x in found["cpu"].items():
        torch.testing.assert_close(found[device][key], x, **exact, msg=lambda text, key=key: f"{key}: {text}")


def test_a_learner_whose_networks_are_float32_only_refuses_another_precision() -> None:
    env = PointMasses()
    for name in dmpo.names():
        parts = settings_of(name), env.graph, env.observation_space, env.action_space
        if name == "ic3net":
            with pytest.raises(ValueError, match="precision=torch.bfloat16 is of no use"):
                dmpo.make_learner(*parts, precision="bfloat16")
        else:
            dmpo.make_learner(*parts, precision="bfloat16")


@pytest.mark.parametrize("share_parameters", [False, True])
def test_it_learns_as_much_with_bfloat16_products(share_parameters: bool) -> None:
    rewards: dict[str, list[float]] = {}
    for precision in ("float32", "bfloat16"):
        env, test = (PointMasses(num_envs=16, horizon=30) for _ in range(2))
        settings = dmpo.settings_of("dppo")(
            hidden_sizes=[16], gamma=0.95, gae_lambda=0.9, rollout_steps=30, lr_policy=5e-3, lr_value=5e-3,
            share_parameters=share_parameters,
        )  # fmt: skip
        spaces = env.observation_space, env.action_space
        learner: Any = dmpo.make_learner(settings, env.graph, *spaces, seed=0, precision=precision)
        found = rewards[precision] = [dmpo.evaluate(test, learner, seed=1).metrics["eval/reward"]]
        for _ in Trainer(env, learner, 30 * 16 * 10, seed=0).iterations():
            pass
        found.append(dmpo.evaluate(test, learner, seed=1).metrics["eval/reward"])
        assert {p.dtype for p in learner.policy.parameters()} == {torch.float32}
    for found in rewards.values():
        assert found[1] > 0.5 * found[0]  # rewards are negative: at most half of what the untrained one pays
    assert rewards["bfloat16"][1] == pytest.approx(rewards["float32"][1], rel=0.2)


@pytest.mark.parametrize("graph", [nx.cycle_graph(6), nx.complete_graph(5)], ids=["cycle", "complete"])
@pytest.mark.parametrize("name", ["dppo", "ia2c", "dsac"])
def test_one_network_treats_all_agents_alike_in_cyclic_order_and_not_by_number(graph: nx.Graph, name: str) -> None:
    states, actions = torch.randn(4, len(graph), D), torch.zeros(4, len(graph), 1, 2)
    for order in ("cyclic", "number"):
        learner = make_learner(graph, name=name, share_parameters=True, neighbor_order=order)
        policy, critic = learner.policy, learner.critic
        others = [actions.expand(-1, -1, critic.neighborhood.size, -1)] if name == "dsac" else []
        for turned, straight in (
            (policy(states.roll(1, 1)), policy(states)),  # (B, N, P)
            (critic(states.roll(1, 1), *others).mT, critic(states, *others).mT),  # (N, B), or (2, N, B) of two critics
        ):
            agents = 1 if turned.shape[0] == 4 else -2
            assert torch.allclose(turned, straight.roll(1, agents), atol=1e-5) == (order == "cyclic")


@pytest.mark.parametrize("name", dmpo.names())
def test_a_normalized_observation_is_never_far_out(name: str) -> None:
    # A feature that hardly varied so far makes any other value a thousand standard deviations.
    learner: Any = make_learner(nx.path_graph(3), "discrete", name=name, normalize_observations=True)
    learner.update_normalizer(1e-3 * torch.randn(100, 3, D))
    states = learner.states(torch.tensor([-1e6, 0.0, 1e6]).view(3, 1, 1).expand(3, 3, D))
    assert states.min() == -10 and states.max() == 10 and states[1].abs().max() < 1
