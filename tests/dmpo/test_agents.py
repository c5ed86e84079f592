"""What holds of every learner."""

from contextlib import nullcontext
from typing import Any, Literal

import pytest
import torch

import dmpo
from dmpo import Trainer
from dmpo.agents import Agents
from tests.dmpo.devices import MODES, Generator
from tests.dmpo.environment import PointMasses

Kind = Literal["continuous", "discrete"]
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
LEARNERS = [(name, "discrete") for name in dmpo.names()] + [(name, "continuous") for name in ("dmpo", "dsac")]
SETTINGS: dict[str, Any] = {
    "rollout_steps": 6,
    "normalize_observations": True,
    "epochs": 1,
    "minibatches": 2,
    "fit_steps": 2,
    "check_every": 1,
    "loss_steps": 2,
    "model_batch": 16,
    "model_starts": 12,
    "model_steps": 2,
    "model_share": 0.5,
    "inner_iterations": 2,
    "held_out": 0.3,
    "batch": 8,
    "gradient_steps": 2,
    "warm_up_steps": 0,
}


def begun(name: str, actions: Kind, device: str) -> Trainer:
    """A small learner there and an environment in which episodes end soon."""
    env = PointMasses(num_envs=6, actions=actions, horizon=5, crash=1.2)
    kind = dmpo.settings(name)
    settings = kind(**{key: value for key, value in SETTINGS.items() if key in kind.model_fields})
    learner = dmpo.make_learner(settings, env.graph, env.observation_space, env.action_space, seed=3, device=device)
    return Trainer(env, learner, 1_000_000, seed=1)


def numbers(state: Any, where: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a state by their places, on the CPU."""
    if isinstance(state, torch.Tensor):
        return {where: state.detach().cpu()}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {place: x for key, part in items for place, x in numbers(part, f"{where}.{key}").items()}


def on_the_cpu(state: Any) -> Any:
    """As it comes from a checkpoint."""
    if isinstance(state, dict):
        return {key: on_the_cpu(x) for key, x in state.items()}
    if isinstance(state, list | tuple):
        return [on_the_cpu(x) for x in state]
    return state.detach().cpu().clone() if isinstance(state, torch.Tensor) else state


@pytest.mark.filterwarnings("ignore:.*non-meta parameter.*:UserWarning")  # it copies them, and does not know
@pytest.mark.parametrize("device", ["meta", GPU])
@pytest.mark.parametrize(("name", "actions"), LEARNERS)
def test_a_learner_on_another_device_is_the_same_and_goes_on_there(
    name: str, actions: Kind, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "Generator", Generator)
    for method in ("explore", "act"):  # PyTorch's inference mode knows nothing of other modes
        monkeypatch.setattr(Agents, method, torch.no_grad()(getattr(Agents, method).__wrapped__))
    found: dict[str, dict[str, torch.Tensor]] = {}
    for place in ("cpu", device):
        with nullcontext() if place == "cpu" else MODES[place]():
            trainer, resumed = begun(name, actions, place), begun(name, actions, place)
            next(trainer.iterations())
            resumed.load_state_dict(on_the_cpu(trainer.state_dict()))
            for each in (trainer, resumed):
                next(each.iterations())
            found[place], again = (numbers(each.learner.state_dict()) for each in (trainer, resumed))
        assert {key for key, x in found[place].items() if not torch.equal(x, again[key])} == set()
    exact = {"rtol": 0.0, "atol": 0.0} if device == "meta" else {"rtol": 1e-3, "atol": 1e-4}
    for key, x in found["cpu"].items():
        torch.testing.assert_close(found[device][key], x, **exact, msg=lambda text, key=key: f"{key}: {text}")
