import pytest
import torch

from dmpo.data.replay_buffer import Windows
from dmpo.models.evaluation import one_step_errors, open_loop_errors
from dmpo.models.trainer import Step
from dmpo.nn.normalization import Moments

N, B, D, H = 2, 400, 2, 3


class Known:
    """The first feature doubles at each step, the second is constant; agent 1's model adds an error."""

    def __init__(self, windows: Windows) -> None:
        self.states, self.changes, self.rewards = Moments(N, (D,)), Moments(N, (D,)), Moments(N, ())
        self.states.update(windows.states.transpose(0, 1))
        self.changes.update((windows.following[0] - windows.states).transpose(0, 1))
        self.rewards.update(windows.rewards[0].T)
        self.error = torch.tensor([0.0, 0.5]).view(N, 1, 1) * torch.tensor([1.0, 0.0])

    def predict(self, states: torch.Tensor, actions: torch.Tensor) -> Step:
        doubled = states * torch.tensor([2.0, 1.0]) + self.error
        rewards = states[..., 0] + self.error[..., 0]
        return Step(doubled, rewards, rewards, torch.zeros(states.shape[:2], dtype=torch.bool))


def windows() -> Windows:
    states = torch.randn(N, B, D, generator=torch.Generator().manual_seed(0))
    states[..., 1] = 7.0
    following = [states * torch.tensor([2.0**k, 1.0]) for k in range(1, H + 1)]
    rewards = torch.stack([states[..., 0], *(x[..., 0] for x in following[:-1])])
    actions = torch.zeros(H, N, B, dtype=torch.int64)
    return Windows(states, actions, rewards, torch.stack(following), torch.zeros(H, B, dtype=torch.bool))


def test_errors_are_over_the_variance_of_what_varies() -> None:
    data = windows()
    found = one_step_errors(Known(data), data)  # type: ignore[arg-type]
    variance = float(data.states[1, :, 0].var(correction=0))
    for name in ("state_error", "change_error", "reward_error"):
        assert found[f"model/{name}.0"] == pytest.approx(0.0, abs=1e-9)
        assert found[f"model/{name}.1"] == pytest.approx(0.25 / variance, rel=1e-3)
        assert found[f"model/{name}"] == pytest.approx(0.125 / variance, rel=1e-3)


def test_an_end_is_not_counted_among_rewards() -> None:
    data = windows()
    data.rewards[0][:, :5], data.ends[0][:5] = -1e6, True
    assert one_step_errors(Known(windows()), data)["model/reward_error.0"] == pytest.approx(0.0, abs=1e-9)  # type: ignore[arg-type]


def test_in_open_loop_errors_add_up() -> None:
    data = windows()
    models = Known(data)
    found = open_loop_errors(models, data)  # type: ignore[arg-type]
    variance = float(data.states[1, :, 0].var(correction=0))
    # x -> 2 x + 1/2: wrong by 1/2, 3/2, 7/2
    expected = [0.5 * e**2 / variance for e in (0.5, 1.5, 3.5)]
    assert [found[f"model/open_loop_error.{k}"] for k in (1, 2, 3)] == pytest.approx(expected, rel=1e-3)
    assert found["model/open_loop_error.1"] == pytest.approx(one_step_errors(models, data)["model/state_error"])  # type: ignore[arg-type]
