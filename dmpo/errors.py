"""What goes wrong while learning, said so that the agent and the quantity are known."""

from typing import Self

import torch
from torch import Tensor


class TrainingError(RuntimeError):
    """A number that is not finite: names the quantity, the agent and, once the trainer has added it, the step."""

    def __init__(self, quantity: str, agent: int | None, step: int | None = None) -> None:
        self.quantity, self.agent, self.step = quantity, agent, step
        who = "the parameters shared by all agents" if agent is None else f"agent {agent}"
        when = "" if step is None else f" in the iteration that began at environment step {step}"
        remedy = "Try a smaller learning rate, and look for observations or rewards without bounds."
        super().__init__(f"The {quantity} of {who} became NaN or infinite{when}. {remedy}")

    def at(self, step: int) -> Self:
        """The same error, with the environment step at which the iteration began."""
        return type(self)(self.quantity, self.agent, step)


def check_finite(quantity: str, x: Tensor, agents: int) -> None:
    """Refuse NaN and infinities.

    Args:
        quantity: what it is, for the message.
        x: (N, ...), or (1, ...) for what all agents share.
        agents: N.

    Raises:
        TrainingError: for the first agent with a number that is not finite.
    """
    finite = torch.isfinite(x.flatten(1)).all(1)  # (N,)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise TrainingError(quantity, first if len(x) == agents else None)
