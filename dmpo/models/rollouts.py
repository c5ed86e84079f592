"""Branched rollouts: short model trajectories that begin in real states (DMPO paper, Algorithm 1)."""

from collections.abc import Callable

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.errors import check_model_states
from dmpo.models.trainer import ModelTrainer
from dmpo.nn.policy import Policy


@torch.no_grad()
def branched_rollout(
    models: ModelTrainer,
    policy: Policy,
    normalize: Callable[[Tensor], Tensor],
    starts: Tensor,
    steps: int,
    generator: torch.Generator,
) -> Rollout:
    """T steps of B rollouts, all agents in their models at once, exchanging predicted states after each step.

    A rollout ends where one of its agents predicts its end, as a real episode does for all; the steps behind are
    padding. The value of the state after T steps is bootstrapped, as where a real segment stops in mid-episode.

    Args:
        models: of all agents.
        policy: of all agents.
        normalize: from observations to the states that the policy sees.
        starts: (B, N, D), real observations.
        steps: T.
        generator: of the actions.

    Raises:
        TrainingError: a model exploded on the way.
    """
    observations = [starts]
    ended = [torch.zeros(len(starts), dtype=torch.bool, device=starts.device)]  # (B,) each, before that step
    recorded: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for _ in range(steps):
        dist_params = policy(normalize(observations[-1]))  # (B, N, P)
        actions = policy.distribution.sample(dist_params, generator)
        step = models.predict(observations[-1].transpose(0, 1), actions.transpose(0, 1))
        terminated = step.terminated.any(0)  # (B,)
        # An ended rollout stays where it is: on its way through padding nothing can explode.
        next_states = torch.where(ended[-1].view(-1, 1, 1), observations[-1], step.states.transpose(0, 1))
        recorded.append((actions, dist_params, step.rewards.T, terminated))
        observations.append(next_states.contiguous())
        ended.append(ended[-1] | terminated)
    states = torch.stack(observations)  # (T+1, B, N, D)
    _check(models, states[1:])
    return _rollout(states, recorded, valid=~torch.stack(ended[:-1]))


def _rollout(states: Tensor, recorded: list[tuple[Tensor, Tensor, Tensor, Tensor]], valid: Tensor) -> Rollout:
    actions, dist_params, rewards, ends = (torch.stack(x) for x in zip(*recorded, strict=True))  # (T, B, ...) each
    return Rollout(
        observations=states,
        actions=actions,
        old_dist_params=dist_params,
        rewards=rewards,
        terminated=ends & valid,
        truncated=torch.zeros_like(ends),
        ended_by=torch.zeros_like(rewards, dtype=torch.bool),
        valid=valid,
        final_index=torch.empty(0, dtype=torch.int64, device=states.device),
        final_observations=states[0, :0],
    )


def _check(models: ModelTrainer, states: Tensor) -> None:
    # The farthest state is the least or the greatest of each feature; a NaN is both.
    extremes = torch.stack([states.amin(1), states.amax(1)], 1)  # (T, B, N, D) -> (T, 2, N, D)
    check_model_states(models.distance(extremes).transpose(1, 2))
