"""How wrong the models are on what they have not learned from (DMPO paper, Figure 3), and how far they can be rolled."""

import torch
from torch import Tensor

from dmpo.data.replay_buffer import Windows
from dmpo.models.trainer import ModelLearner
from dmpo.nn.normalization import SMALLEST_STD, Moments


@torch.no_grad()
def one_step_errors(models: ModelLearner, windows: Windows) -> dict[str, float]:
    """MSE over variance, one step ahead: of states, of their change, of rewards; on average and per agent.

    The variances are those of the latest real steps. A feature that is constant there has none and does not count.
    What an end pays is not a model's to predict.

    Args:
        models: of all agents.
        windows: of one step or more, held out.
    """
    found = models.predict(windows.states, windows.actions[0])
    error = (found.states - windows.following[0]).square().mean(1)  # (N, D)
    goes_on = ~windows.ends[0]
    reward_error = (found.ordinary_rewards - windows.rewards[0])[:, goes_on].square().mean(1)  # (N,)
    parts = {
        "state_error": _over_variance(error, models.states),
        "change_error": _over_variance(error, models.changes),
        "reward_error": _over_variance(reward_error.unsqueeze(1), models.rewards),
    }
    metrics = {f"model/{name}": float(x.mean()) for name, x in parts.items()}
    return metrics | {f"model/{name}.{i}": float(v) for name, x in parts.items() for i, v in enumerate(x)}


@torch.no_grad()
def open_loop_errors(models: ModelLearner, windows: Windows) -> dict[str, float]:
    """MSE over variance of the state after k = 1 … H steps in the models with recorded actions, mean over agents.

    It says how far a branched rollout may go. What it calls `model/open_loop_error.k` is `model/state_error` at k = 1.

    Args:
        models: of all agents.
        windows: of H steps, held out.
    """
    metrics, states = {}, windows.states
    for k, actions in enumerate(windows.actions, start=1):
        states = models.predict(states, actions).states
        error = (states - windows.following[k - 1]).square().mean(1)  # (N, D)
        metrics[f"model/open_loop_error.{k}"] = float(_over_variance(error, models.states).mean())
    return metrics


def _over_variance(error: Tensor, moments: Moments) -> Tensor:
    # (N, D) -> (N,), mean over the features that vary
    variance = moments.variance.view_as(error)
    varies = variance > SMALLEST_STD**2
    return (error / variance.clamp(min=SMALLEST_STD**2) * varies).sum(1) / varies.sum(1).clamp(min=1)
