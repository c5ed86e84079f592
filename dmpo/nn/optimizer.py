"""Adam for stacked parameters, where each agent clips, steps and stops for itself."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dmpo.nn import kernels
from dmpo.nn.kernels import adam

BETA_1, BETA_2 = 0.9, 0.999


class StackedAdam:
    """Adam (Kingma & Ba 2015) on R parameter sets that know nothing of each other.

    Each set's gradient is clipped to its own norm, has its own count of steps, and a set that is not active keeps its
    parameters and moments untouched, which Adam with a gradient of zero would not.

    Args:
        parameters: tensors (R, ...).
        max_norm: largest norm of one set's gradient.
        epsilon: what gradients much smaller than this hardly move.
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
    def step(self, learning_rate: float, active: Tensor) -> None:
        """One step of the active sets, active (R,) bool."""
        gradients = [_gradient(p).flatten(1) for p in self.parameters]
        if kernels.suit(self.first, self.parameters):
            self._step_at_once([_side_by_side(gradient) for gradient in gradients], learning_rate, active)
            return
        gradient = torch.cat(gradients, 1)  # (R, P)
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient *= self.max_norm / norm.clamp(min=self.max_norm)
        on = active.to(gradient.dtype).unsqueeze(1)  # (R, 1)
        self.steps += on
        self.first.lerp_(gradient, on * (1 - BETA_1))
        self.second.lerp_(gradient.square_(), on * (1 - BETA_2))
        taken = self.steps.clamp(min=1)
        scale = on * learning_rate / (1 - BETA_1**taken)
        root = (self.second / (1 - BETA_2**taken)).sqrt_().add_(self.epsilon)
        change = self.first.div(root).mul_(scale)  # (R, P)
        pieces = torch.split(change, [p[0].numel() for p in self.parameters], 1)
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            parameter.sub_(piece.view_as(parameter))

    def _step_at_once(self, gradients: list[Tensor], learning_rate: float, active: Tensor) -> None:
        settings = {"max_norm": self.max_norm, "rate": learning_rate, "epsilon": self.epsilon}
        state = self.first, self.second, self.steps
        adam.step(self.parameters, gradients, state, active.contiguous(), **settings, beta_1=BETA_1, beta_2=BETA_2)

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and counts, as copies."""
        return {"first": self.first.clone(), "second": self.second.clone(), "steps": self.steps.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps.copy_(state["steps"])


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _side_by_side(gradient: Tensor) -> Tensor:
    # (R, numbers), each set's in a row, whatever lies between two sets.
    return gradient if gradient.stride(1) == 1 else gradient.contiguous()
