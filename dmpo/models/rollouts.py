"""Branched rollouts: short model trajectories that begin in real states (DMPO paper, Algorithm 1)."""

from collections.abc import Callable

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout, told_of_ends
from dmpo.errors import check_model_states
from dmpo.models.trainer import ModelTrainer
from dmpo.nn.policy import Policy
from graphs import Neighborhood


@torch.no_grad()
def branched_rollout(
    models: ModelTrainer,
    policy: Policy,
    normalize: Callable[[Tensor], Tensor],
    starts: Tensor,
    steps: int,
    told_within: Neighborhood | None,
    generator: torch.Generator,
) -> Rollout:
    """T steps of B rollouts, all agents in their models at once, exchanging predicted states after each step.

    Those who are told of an end that a model predicts are paid, once, their own mean reward at real ends, and stay
    where they are, as padding. After T steps values are bootstrapped.

    Args:
        models: of all agents.
        policy: of all agents.
        normalize: from observations to the states that the policy sees.
        starts: (B, N, D), real observations.
        steps: T.
        told_within: neighborhoods in which ends are told; None tells all.
        generator: of the actions.

    Raises:
        TrainingError: a model exploded on the way.
    """
    observations, steps_taken = [starts], []
    going = torch.ones_like(starts[..., 0], dtype=torch.bool)  # (B, N)
    for _ in range(steps):
        dist_params = policy(normalize(observations[-1]))  # (B, N, P)
        actions = policy.distribution.sample(dist_params, generator)
        step = models.predict(observations[-1].transpose(0, 1), actions.transpose(0, 1))
        ended_by = step.ended_by.T & going  # (B, N)
        told = told_of_ends(ended_by, told_within) & ended_by.any(-1, keepdim=True) & going
        rewards = torch.where(told, models.terminal_rewards, step.rewards.T)
        steps_taken.append((actions, dist_params, rewards, told, ended_by, going))
        observations.append(torch.where(going.unsqueeze(-1), step.states.transpose(0, 1), observations[-1]))
        going = going & ~told
    return _rollout(models, torch.stack(observations), *(torch.stack(x) for x in zip(*steps_taken, strict=True)))


def _rollout(
    models: ModelTrainer,
    states: Tensor,
    actions: Tensor,
    dist_params: Tensor,
    rewards: Tensor,
    terminated: Tensor,
    ended_by: Tensor,
    valid: Tensor,
) -> Rollout:
    # (T+1, B, N, D) states, and (T, B, N, ...) each
    _check(models, states[1:])
    return Rollout(
        observations=states,
        actions=actions,
        old_dist_params=dist_params,
        rewards=rewards,
        terminated=terminated,
        truncated=torch.zeros_like(terminated[..., 0]),
        ended_by=ended_by,
        valid=valid,
        final_index=torch.empty(0, dtype=torch.int64, device=states.device),
        final_observations=states[0, :0],
    )


def _check(models: ModelTrainer, states: Tensor) -> None:
    # The farthest state is the least or the greatest of each feature; a NaN is both.
    extremes = torch.stack([states.amin(1), states.amax(1)], 1)  # (T, B, N, D) -> (T, 2, N, D)
    check_model_states(models.distance(extremes).transpose(1, 2))
