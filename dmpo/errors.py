"""Errors of training and evaluation, which name the agent and the quantity."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

MAX_MODEL_DISTANCE = 1e6  # standard deviations that a model's state may lie from the mean of the data
_SMALLER_STEPS = (
    "Try smaller learning rates (algorithm.lr_policy, lr_value, lr_model), and look for observations or rewards "
    "without bounds."
)
_SHORTER_ROLLOUTS = (
    "Lower algorithm.model_horizon or algorithm.lr_model; the metrics model/open_loop_error.K show how fast errors "
    "grow over K steps."
)


class TrainingError(RuntimeError):
    """Number out of all bounds: names the quantity, the agent and, once the trainer has added it, the step."""

    def __init__(
        self,
        quantity: str,
        agent: int | None,
        step: int | None = None,
        problem: str = "became NaN or infinite",
        remedy: str = _SMALLER_STEPS,
    ) -> None:
        self.quantity, self.agent, self.step, self.problem, self.remedy = quantity, agent, step, problem, remedy
        who = "the parameters shared by all agents" if agent is None else f"agent {agent}"
        when = "" if step is None else f" in the iteration that began at environment step {step}"
        super().__init__(f"The {quantity} of {who} {problem}{when}. {remedy}")

    def at(self, step: int) -> Self:
        """The same error, with the environment step at which the iteration began."""
        return type(self)(self.quantity, self.agent, step, self.problem, self.remedy)


class EvaluationError(RuntimeError):
    """Evaluation that cannot be finished: episodes do not end, or are lost again and again."""


def check_finite(quantity: str, x: Tensor, agents: int) -> None:
    """Refuse NaN and infinities.

    Args:
        quantity: name of the numbers, for the message.
        x: (N, ...), or (1, ...) where all agents share them.
        agents: N.

    Raises:
        TrainingError: for the first agent with a number that is not finite.
    """
    finite = torch.isfinite(x.flatten(1)).all(1)  # (N,)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise TrainingError(quantity, first if len(x) == agents else None)


def check_parameters(modules: Mapping[str, torch.nn.Module], agents: int) -> None:
    """Refuse parameters that are NaN or infinite.

    Args:
        modules: by the name of their parameters, for the message.
        agents: N.

    Raises:
        TrainingError: for the first agent with one.
    """
    for name, module in modules.items():
        for parameter in module.parameters():
            check_finite(name, parameter, agents)


def check_actions(actions: np.ndarray[Any, Any]) -> None:
    """Refuse actions that are NaN or infinite.

    Args:
        actions: (E, N, A), or (E, N) action numbers.

    Raises:
        TrainingError: for the first agent with one.
    """
    if not np.isfinite(actions).all():
        check_finite("action", torch.from_numpy(actions).movedim(1, 0), actions.shape[1])


def check_model_states(distance: Tensor) -> None:
    """Refuse model states that have left everything in the data far behind.

    Args:
        distance: (T, N, B, D), of B states after 1 … T steps from the mean of the data, in standard deviations.

    Raises:
        TrainingError: for the first step, and there the first agent, with a state too far out.
    """
    fine = (distance.abs() <= MAX_MODEL_DISTANCE).flatten(2).all(2)  # (T, N), false for NaN as well
    if not bool(fine.all()):
        step, agent = (~fine).nonzero()[0].tolist()
        distance_text = f"over {MAX_MODEL_DISTANCE:,.0f} standard deviations out"
        problem = f"exploded: after {step + 1} steps in the models it is {distance_text}"
        raise TrainingError("model state", agent, problem=problem, remedy=_SHORTER_ROLLOUTS)
