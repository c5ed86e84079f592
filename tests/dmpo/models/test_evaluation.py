import pytest
import torch

from dmpo.data.replay_buffer import Sequences
from dmpo.models.evaluation import end_errors, one_step_errors, open_loop_errors
from dmpo.models.trainer import Step
from dmpo.nn.normalization import RunningNormalizer

N, B, D, H = 2, 400, 2, 3


class KnownModel:
    """The first feature doubles at each step, the second is constant; agent 1's model adds an error."""

    def __init__(self, sequences: Sequences) -> None:
        self.state_normalizer, self.change_normalizer = (RunningNormalizer(N, (D,)) for _ in range(2))
        self.reward_normalizer = RunningNormalizer(N, ())
        self.state_normalizer.update(sequences.states.transpose(0, 1))
        self.change_normalizer.update((sequences.next_states[0] - sequences.states).transpose(0, 1))
        self.reward_normalizer.update(sequences.rewards[0].T)
        self.error = torch.tensor([0.0, 0.5]).view(N, 1, 1) * torch.tensor([1.0, 0.0])

    def predict(self, states: torch.Tensor, actions: torch.Tensor) -> Step:
        doubled = states * torch.tensor([2.0, 1.0]) + self.error
        rewards = states[..., 0] + self.error[..., 0]
        return Step(doubled, rewards, states[..., 0] > 1.5)


def make_sequences() -> Sequences:
    states = torch.randn(N, B, D, generator=torch.Generator().manual_seed(0))
    states[..., 1] = 7.0
    next_states = [states * torch.tensor([2.0**k, 1.0]) for k in range(1, H + 1)]
    rewards = torch.stack([states[..., 0], *(x[..., 0] for x in next_states[:-1])])
    actions = torch.zeros(H, N, B, dtype=torch.int64)
    nobody = torch.zeros(H, N, B, dtype=torch.bool)
    return Sequences(states, actions, rewards, torch.stack(next_states), nobody[:, 0], nobody)


def test_errors_are_over_the_variance_of_features_that_vary() -> None:
    data = make_sequences()
    found = one_step_errors(KnownModel(data), data)  # type: ignore[arg-type]
    variance = float(data.states[1, :, 0].var(correction=0))
    for name in ("state_error", "change_error", "reward_error"):
        assert found[f"model/{name}.0"] == pytest.approx(0.0, abs=1e-9)
        assert found[f"model/{name}.1"] == pytest.approx(0.25 / variance, rel=1e-3)
        assert found[f"model/{name}"] == pytest.approx(0.125 / variance, rel=1e-3)


def test_terminal_rewards_do_not_count() -> None:
    data = make_sequences()
    data.rewards[0][:, :5], data.terminated[0][:5] = -1e6, True
    assert one_step_errors(KnownModel(make_sequences()), data)["model/reward_error.0"] == pytest.approx(0.0, abs=1e-9)  # type: ignore[arg-type]


def test_in_open_loop_errors_add_up() -> None:
    data = make_sequences()
    models = KnownModel(data)
    found = open_loop_errors(models, data)  # type: ignore[arg-type]
    variance = float(data.states[1, :, 0].var(correction=0))
    # x -> 2 x + 1/2: wrong by 1/2, 3/2, 7/2
    expected = [0.5 * e**2 / variance for e in (0.5, 1.5, 3.5)]
    assert [found[f"model/open_loop_error.{k}"] for k in (1, 2, 3)] == pytest.approx(expected, rel=1e-3)
    assert found["model/open_loop_error.1"] == pytest.approx(one_step_errors(models, data)["model/state_error"])  # type: ignore[arg-type]


def test_ends_are_counted_by_agents_and_rates_by_steps() -> None:
    data = make_sequences()
    found = data.states[..., 0] > 1.5  # (N, B), what the model sees
    data.ended_by[0, 0] = data.states[0, :, 0] > 1.0  # of agent 0 more ends are real than it sees, of agent 1 none
    halves = list(data.split(B // 2))
    metrics = end_errors(KnownModel(data), halves)  # type: ignore[arg-type]
    real = int(data.ended_by[0].sum())
    assert metrics["model/held_out_ends"] == real > int(found[0].sum()) > 0
    assert metrics["model/end_recall"] == pytest.approx(int(found[0].sum()) / real)
    assert metrics["model/end_precision"] == pytest.approx(int(found[0].sum()) / int(found.sum()))
    assert metrics["model/end_rate_ratio"] == pytest.approx(int(found.any(0).sum()) / real)


def test_without_ends_there_is_nothing_to_divide_by() -> None:
    data = make_sequences()
    data.states.fill_(0.0)
    assert end_errors(KnownModel(make_sequences()), [data]) == {"model/held_out_ends": 0.0}  # type: ignore[arg-type]
