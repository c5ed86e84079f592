"""Errors of the models on steps that they never saw (DMPO paper, Figure 3): of one step, along a rollout, at ends."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dmpo.data.replay_buffer import Sequences
from dmpo.models.trainer import ModelTrainer
from dmpo.nn.normalization import SMALLEST_STD, RunningNormalizer


@torch.no_grad()
def one_step_errors(models: ModelTrainer, sequences: Sequences) -> dict[str, float]:
    """MSE over variance, one step ahead: of states, of their change, of rewards; on average and per agent.

    The variances are those of the training data. A feature that is constant there has none and does not count. Rewards
    of terminal steps are not the reward head's to predict.

    Args:
        models: of all agents.
        sequences: held-out, of one step or more.
    """
    found = models.predict(sequences.states, sequences.actions[0])
    error = (found.states - sequences.next_states[0]).square().mean(1)  # (N, D)
    goes_on = ~sequences.terminated[0]
    reward_error = (found.rewards - sequences.rewards[0])[:, goes_on].square().mean(1)  # (N,)
    parts = {
        "state_error": _over_variance(error, models.state_normalizer),
        "change_error": _over_variance(error, models.change_normalizer),
        "reward_error": _over_variance(reward_error.unsqueeze(1), models.reward_normalizer),
    }
    metrics = {f"model/{name}": float(x.mean()) for name, x in parts.items()}
    return metrics | {f"model/{name}.{i}": float(v) for name, x in parts.items() for i, v in enumerate(x)}


@torch.no_grad()
def open_loop_errors(models: ModelTrainer, sequences: Sequences) -> dict[str, float]:
    """MSE over variance of the state after k = 1 … H steps in the models with recorded actions, mean over agents.

    It shows how far a branched rollout may go. `model/open_loop_error.k` is `model/state_error` at k = 1.

    Args:
        models: of all agents.
        sequences: held-out, of H steps.
    """
    metrics, states = {}, sequences.states
    for k, actions in enumerate(sequences.actions, start=1):
        states = models.predict(states, actions).states
        error = (states - sequences.next_states[k - 1]).square().mean(1)  # (N, D)
        metrics[f"model/open_loop_error.{k}"] = float(_over_variance(error, models.state_normalizer).mean())
    return metrics


@torch.no_grad()
def end_errors(models: ModelTrainer, pieces: Iterable[Sequences]) -> dict[str, float]:
    """How well agents' models know which steps end the episode by the agent's own state.

    `model/end_precision` and `model/end_recall` count steps of single agents; `model/end_rate_ratio` compares how many
    steps end by anybody's state in the models and on the road. Each is left out where it would be a division by zero.

    Args:
        models: of all agents.
        pieces: held-out sequences of one step or more.
    """
    real = imagined = right = real_steps = imagined_steps = 0
    for sequences in pieces:
        label, found = sequences.ended_by[0], models.predict(sequences.states, sequences.actions[0]).ended_by  # (N, B)
        real, imagined, right = real + int(label.sum()), imagined + int(found.sum()), right + int((label & found).sum())
        real_steps, imagined_steps = real_steps + int(label.any(0).sum()), imagined_steps + int(found.any(0).sum())
    metrics = {"model/held_out_ends": float(real)}
    if imagined:
        metrics["model/end_precision"] = right / imagined
    if real:
        metrics |= {"model/end_recall": right / real, "model/end_rate_ratio": imagined_steps / real_steps}
    return metrics


def _over_variance(error: Tensor, normalizer: RunningNormalizer) -> Tensor:
    # (N, D) -> (N,), mean over the features that vary
    variance = normalizer.variance.view_as(error)
    varies = variance > SMALLEST_STD**2
    return (error / variance.clamp(min=SMALLEST_STD**2) * varies).sum(1) / varies.sum(1).clamp(min=1)
