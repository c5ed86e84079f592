"""Branched rollouts: short imagined trajectories that begin in real states (DMPO paper, Algorithm 1)."""

from collections.abc import Callable

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout
from dmpo.errors import check_imagined
from dmpo.models.trainer import ModelLearner
from dmpo.nn.policy import Policy


@torch.no_grad()
def branch(
    models: ModelLearner,
    policy: Policy,
    starts: Tensor,
    steps: int,
    states: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> Rollout:
    """Let all agents act in their models at once, each step's predictions being exchanged with the neighbors.

    A rollout ends where one of its agents predicts its end, which all others are told, as they are of real ends; what
    lies behind is padding. At the last step it is cut off, so that the value of the state it is in counts.

    Args:
        models: of all agents.
        policy: who acts.
        starts: (B, N, D), real states.
        steps: T.
        states: what the policy makes of states, such as normalizing them.
        generator: where actions are drawn from.

    Returns:
        A rollout of T steps in B environments.

    Raises:
        TrainingError: a model exploded on the way.
    """
    observations, actions, behavior, rewards, ended = [starts], [], [], [], []
    over = [torch.zeros_like(starts[:, 0, 0], dtype=torch.bool)]  # (B,), whether there was an end before that step
    for _ in range(steps):
        parameters = policy(states(observations[-1]))  # (B, N, P)
        drawn = policy.distribution.sample(parameters, generator)
        step = models.predict(observations[-1].transpose(0, 1), drawn.transpose(0, 1))
        # What is over stays where it is: on its way through padding nothing can explode.
        following = torch.where(over[-1].view(-1, 1, 1), observations[-1], step.states.transpose(0, 1))
        observations.append(following.contiguous())
        actions.append(drawn)
        behavior.append(parameters)
        rewards.append(step.rewards.T)
        ended.append(step.ends.any(0))
        over.append(over[-1] | ended[-1])
    followed, ends = torch.stack(observations), torch.stack(ended)  # (T+1, B, N, D) and (T, B)
    valid = ~torch.stack(over[:-1])  # (T, B)
    # What is farthest out is the least or the greatest of each number; a NaN is both.
    extremes = torch.stack([followed[1:].amin(1), followed[1:].amax(1)], 1)  # (T, B, N, D) -> (T, 2, N, D)
    check_imagined(models.distance(extremes).transpose(1, 2))
    return Rollout(
        observations=followed,
        actions=torch.stack(actions),
        behavior=torch.stack(behavior),
        rewards=torch.stack(rewards),
        terminated=ends & valid,
        truncated=torch.zeros_like(ends),
        valid=valid,
        final_index=torch.empty(0, dtype=torch.int64, device=starts.device),
        final_observations=starts[:0],
    )
