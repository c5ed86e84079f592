"""Loss of the localized models over H steps in open loop, and its gradient."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dmpo.nn.functional import can_fuse_model_gradients, fused_model_gradients

if TYPE_CHECKING:  # torch-geometric takes as long to load as torch itself
    from dmpo.models.local_model import LocalModel

# Standard deviations from the mean at which a state looks to a model as any further one: beyond the data networks go on
# in straight lines, which in open loop end at infinity.
STATE_BOUND = 100.0


class NormalizedSequences(NamedTuple):
    """B sequences of H steps, normalized, the samples last."""

    ratio: Tensor  # (N, D), units of changes in those of states
    drift: Tensor  # (N, D), the mean change in those
    state: Tensor  # (N, D, B), at the start
    actions: Tensor  # (N, W, H, B), encoded
    next_states: Tensor  # (H, N, D, B)
    rewards: Tensor  # (H, N, B)
    terminated: Tensor  # (H, B), 0 or 1
    ended_by: Tensor  # (H, N, B), 0 or 1, whether the agent's own state was that end


class ModelLoss(Protocol):
    """Loss that models are fitted to."""

    def __call__(self, model: "LocalModel", data: NormalizedSequences) -> Tensor:
        """Loss of each agent's model, (N,)."""

    def accumulate_gradients(self, model: "LocalModel", data: NormalizedSequences, scale: float) -> None:
        """Add the gradient of `scale` times the sum of the losses to the parameters' gradients."""


class OpenLoopLoss:
    """MSE(s) + c_r MSE(r) + BCE(d) over H steps in open loop, per agent, in normalized units.

    Rewards count where the episode goes on. Ends are learned from the real states that steps led to, and they are those
    that the agent's own state was: of another's, out of its sight, it could only learn how often they happen.

    Args:
        reward_coef: c_r.
    """

    def __init__(self, reward_coef: float) -> None:
        self.reward_coef = reward_coef

    def __call__(self, model: "LocalModel", data: NormalizedSequences) -> Tensor:
        """Loss of each agent's model, (N,)."""
        drift, ratio, state = data.drift.unsqueeze(2), data.ratio.unsqueeze(2), data.state  # (N, D, 1) and (N, D, B)
        outputs, states = [], []
        for actions in data.actions.unbind(2):
            outputs.append(model.step(state.clamp(-STATE_BOUND, STATE_BOUND), actions))
            state = torch.addcmul(state + drift, ratio, outputs[-1][:, :-1])
            states.append(state)
        # The change was predicted from the state that the rollout had reached, so its error is that of the state.
        state_error = ((torch.stack(states) - data.next_states) / ratio).square().mean((2, 3))
        reward_error = (torch.stack([output[:, -1] for output in outputs]) - data.rewards).square()  # (H, N, B)
        reward_error = (reward_error * (1 - data.terminated.unsqueeze(1))).mean(2)
        return (state_error + self.reward_coef * reward_error).mean(0) + self._end_loss(model, data)  # (H, N) -> (N,)

    def _end_loss(self, model: "LocalModel", data: NormalizedSequences) -> Tensor:
        steps, agents, features, samples = data.next_states.shape
        states = (
            data.next_states.permute(1, 2, 0, 3)
            .reshape(agents, features, steps * samples)
            .clamp(-STATE_BOUND, STATE_BOUND)
        )
        labels = data.ended_by.transpose(0, 1).flatten(1)  # (H, N, B) -> (N, H·B)
        return binary_cross_entropy_with_logits(model.end_logits(states), labels, reduction="none").mean(1)

    def accumulate_gradients(self, model: "LocalModel", data: NormalizedSequences, scale: float) -> None:
        """Add the gradient of `scale` times the sum of the losses to the parameters' gradients."""
        networks = model.networks()
        if not can_fuse_model_gradients(networks, data.state):
            (self(model, data).sum() * scale).backward()  # type: ignore[no-untyped-call]
            return
        (self._end_loss(model, data).sum() * scale).backward()  # type: ignore[no-untyped-call]
        source, target = model.edges
        tensors = {name: x for name, x in data._asdict().items() if name != "ended_by"} | {
            "pairs": torch.stack([target, source], 1),
            "targets": target,
        }
        tensors["actions"] = data.actions.detach()
        settings = {
            "neighbor_actions": model.neighbor_actions,
            "own_gradient": model.own_gradient,
            "far": STATE_BOUND,
            "reward_coef": self.reward_coef,
        }
        found, to_actions = fused_model_gradients(networks, tensors, **settings, scale=scale)
        if data.actions.requires_grad:
            data.actions.backward(to_actions)  # type: ignore[no-untyped-call]
        for name, (parameters, _) in networks.items():
            for parameter, gradient in zip(parameters, found[name], strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
