"""Adam for stacked parameters, where each agent clips, steps and stops for itself."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dmpo.nn.functional import adam


class StackedAdam:
    """Adam on R parameter sets that know nothing of each other; see `dmpo.nn.functional.adam`.

    Args:
        parameters: tensors (R, ...).
        max_norm: largest norm of one set's gradient.
        epsilon: gradients much smaller than this hardly move their parameters.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], max_norm: float, epsilon: float = 1e-5) -> None:
        self.parameters = list(parameters)
        self.max_norm, self.epsilon = max_norm, epsilon
        flat = torch.cat([p.detach().flatten(1) for p in self.parameters], 1)  # (R, P), P numbers a set
        self.first, self.second = torch.zeros_like(flat), torch.zeros_like(flat)  # moments of the gradient
        self.steps = flat.new_zeros(len(flat), 1)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float, active: Tensor | None = None) -> None:
        """One step of the active sets, (R,) bool; of all if left out."""
        gradients = [_gradient(p).flatten(1) for p in self.parameters]
        active = torch.ones_like(self.steps, dtype=torch.bool).squeeze(1) if active is None else active
        state = self.first, self.second, self.steps
        adam(
            self.parameters,
            gradients,
            state,
            active,
            rate=learning_rate,
            max_norm=self.max_norm,
            epsilon=self.epsilon,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and counts, as copies."""
        return {"first": self.first.clone(), "second": self.second.clone(), "steps": self.steps.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from `state_dict`."""
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps.copy_(state["steps"])


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
