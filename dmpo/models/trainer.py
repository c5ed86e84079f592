"""Learning the localized models from real steps: one loss per agent, stopped on trajectories that are held out."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dmpo.data.replay_buffer import Memory, Windows
from dmpo.data.rollout import Rollout
from dmpo.errors import check_finite
from dmpo.models.local_model import LocalModel
from dmpo.nn import kernels
from dmpo.nn.normalization import Moments
from dmpo.nn.optimizer import StackedAdam
from dmpo.settings import ModelSettings

# Standard deviations from the mean at which a state looks to a model as any further one: beyond what has been seen
# networks go on in straight lines, which in open loop end at infinity.
FAR = 100.0
JUDGED = 2_048  # held-out windows on which the models are judged
MEASURED = 2**20  # states of agents in such windows at most, where many agents are rolled many steps
OBSERVED = 2**20  # states of agents whose moments are taken at once
PIECE = 2**16  # messages that are computed at once, each over a batch of windows, where PyTorch computes them
LEAST = 128  # about so many windows at once however many messages: gradients are as large as all parameters


class Step(NamedTuple):
    """What the models say follows, in the environment's units; the agents first."""

    states: Tensor  # (N, B, D)
    ordinary_rewards: Tensor  # (N, B), of a step that goes on
    rewards: Tensor  # (N, B), that of an end where one is predicted
    ends: Tensor  # (N, B) bool


class _Known(NamedTuple):
    # What windows tell, normalized, with the windows last.

    ratio: Tensor  # (N, D), units of changes in those of states
    drift: Tensor  # (N, D), the mean change in those
    state: Tensor  # (N, D, B), at the begin
    acted: Tensor  # (N, EMBEDDING or A, H, B)
    following: Tensor  # (H, N, D, B)
    rewards: Tensor  # (H, N, B)
    ends: Tensor  # (H, B), 0 or 1


class ModelLearner:
    """The models of all agents, with what they are learned from.

    States, continuous actions, changes of state and rewards are normalized per agent by what the training trajectories
    hold. What the end of an episode pays is learned apart, as a mean per agent: it may be of another size than all other
    rewards, and the reward head would serve it before everything else.

    Args:
        model: the models, where they are to learn.
        settings: how they learn.
        generator: where trajectories and windows are drawn from, on the same device.
    """

    def __init__(self, model: LocalModel, settings: ModelSettings, generator: torch.Generator) -> None:
        self.model, self.settings, self.generator = model, settings, generator
        self.memory = Memory(settings.model_buffer_size, settings.model_holdout, generator)
        self.ready = False  # whether they have learned anything, before which nobody practises in them
        features = (model.features,)
        self.states, self.changes = self._moments(features), self._moments(features)
        self.rewards, self.last_rewards = self._moments(()), self._moments(())
        self.actions = self._moments((model.actions,))  # of continuous ones
        self.optimizers = [StackedAdam(group, settings.model_max_grad_norm) for group in model.parameter_groups()]

    def fit(self, batch: Rollout) -> dict[str, float]:
        """Take in a real batch and, once the warm-up is over, learn until the held-out error stops falling.

        The error is the mean over agents: when to stop is the one thing here that they decide together. Where no
        episode was long enough for a window there is nothing to learn from yet, and no metrics.
        """
        settings = self.settings
        self.memory.add(batch)
        if self.memory.added < settings.warm_up_steps:
            return {}
        training, held_out = (self.memory.windows(settings.model_loss_steps, held) for held in (False, True))
        if not len(training):
            return {}
        most = settings.model_fit_steps if self.ready else settings.model_warm_up_fit_steps or settings.model_fit_steps
        self.ready = True
        self._observe()
        judged = (held_out if len(held_out) else training).draw(JUDGED, self.generator)
        best, since, steps = self._judge(judged), 0, 0
        while steps < most and since < settings.model_patience:
            block = min(settings.model_validation_every, most - steps)
            for _ in range(block):
                self.update(training.draw(settings.model_batch_size, self.generator))
            steps += block
            loss = self._judge(judged)
            best, since = (loss, 0) if loss < best else (best, since + 1)
        return {"model/gradient_steps": float(steps), "model/validation_loss": best}

    def unseen(self, steps: int) -> Windows | None:
        """Windows of so many steps that were held out; none where no trajectory is, or none goes on for so long."""
        held_out = self.memory.windows(steps, held_out=True)
        count = min(JUDGED, max(LEAST, MEASURED // (steps * self.model.num_agents)))
        return held_out.draw(count, self.generator) if len(held_out) else None

    def update(self, windows: Windows) -> None:
        """One gradient step of all models."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for piece, share in self._pieces(windows):
            self._gradients(piece, share)
        for optimizer in self.optimizers:
            everybody = torch.ones_like(optimizer.steps, dtype=torch.bool).squeeze(1)  # (R,)
            optimizer.step(self.settings.lr_model, everybody)

    def losses(self, windows: Windows) -> Tensor:
        """MSE(s) + c_r MSE(r) + BCE(d) per agent (N,), over H steps in open loop; normalized units."""
        known = self._known(windows)
        drift, ratio, state = known.drift.unsqueeze(2), known.ratio.unsqueeze(2), known.state  # (N, D, 1) and (N, D, B)
        outputs, states = [], []
        for action in known.acted.unbind(2):
            outputs.append(self.model.step(state.clamp(-FAR, FAR), action))
            state = torch.addcmul(state + drift, ratio, outputs[-1][:, :-2])
            states.append(state)
        # As the change was predicted from where the state before had got to, its error is that of the state.
        state_error = ((torch.stack(states) - known.following) / ratio).square().mean((2, 3))
        reward, end = torch.stack([output[:, -2:] for output in outputs]).unbind(2)  # (H, N, B) each
        ends = known.ends.unsqueeze(1)  # (H, 1, B)
        reward_error = ((reward - known.rewards).square() * (1 - ends)).mean(2)
        end_error = binary_cross_entropy_with_logits(end, ends.expand_as(end), reduction="none").mean(2)
        return (state_error + self.settings.model_reward_coef * reward_error + end_error).mean(0)  # (H, N) -> (N,)

    def _gradients(self, windows: Windows, share: float) -> None:
        # Those of the sum of so much of the losses, added to what parameters have.
        networks = self.model.networks()
        if not all(kernels.suit(windows.states, parameters) for parameters, _ in networks.values()):
            (self.losses(windows).sum() * share).backward()  # type: ignore[no-untyped-call]
            return
        known, (source, target) = self._known(windows), self.model.edges
        tensors = known._asdict() | {"pairs": torch.stack([target, source], 1), "targets": target}
        tensors["acted"] = known.acted.detach()
        settings = {"hears": self.model.hears_actions, "far": FAR, "reward_weight": self.settings.model_reward_coef}
        found, to_acted = kernels.model_gradients(networks, tensors, **settings, scale=share)
        if known.acted.requires_grad:
            known.acted.backward(to_acted)  # type: ignore[no-untyped-call]
        for name, (parameters, _) in networks.items():
            for parameter, gradient in zip(parameters, found[name], strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def _known(self, windows: Windows) -> "_Known":
        # (H, N, B, ...) -> (N, H·B, ...) -> (N, EMBEDDING or A, H·B), of all steps at once
        acted = self.model.acted(self._prepared(windows.actions.transpose(0, 1).flatten(1, 2)))
        state, following = (
            _apply(self.states, x, Moments.normalize).transpose(-1, -2).contiguous()
            for x in (windows.states, windows.following)
        )
        return _Known(
            ratio=self.changes.std / self.states.std,
            drift=self.changes.mean / self.states.std,
            state=state,
            acted=acted.view(*acted.shape[:2], len(windows.actions), -1).contiguous(),
            following=following,
            rewards=_apply(self.rewards, windows.rewards, Moments.normalize).contiguous(),
            ends=windows.ends.to(state.dtype),
        )

    @torch.no_grad()
    def predict(self, states: Tensor, actions: Tensor) -> Step:
        """What follows states (N, B, D) and actions (N, B, A) or (N, B)."""
        normalized = _apply(self.states, states, Moments.normalize).clamp(-FAR, FAR)
        found = self.model(normalized, self._prepared(actions))
        following = states + _apply(self.changes, found.change, Moments.denormalize)
        ends = found.end > 0
        ordinary = _apply(self.rewards, found.reward, Moments.denormalize)
        return Step(following, ordinary, torch.where(ends, self.last_rewards.mean.unsqueeze(1), ordinary), ends)

    def distance(self, states: Tensor) -> Tensor:
        """How far states (..., N, D) are from the mean of those seen, in standard deviations."""
        return self.states.normalize(states)

    def state_dict(self) -> dict[str, Any]:
        """Models, moments, optimizers and memory."""
        parts = {name: part.state_dict() for name, part in self._modules().items()}
        rest = {"ready": self.ready, "memory": self.memory.state_dict()}
        return {**parts, "optimizers": [o.state_dict() for o in self.optimizers], **rest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        for name, part in self._modules().items():
            part.load_state_dict(state[name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.memory.load_state_dict(state["memory"])
        self.ready = state["ready"]

    def _prepared(self, actions: Tensor) -> Tensor:
        # Small ones would vanish beside the states if they were not normalized.
        return actions if self.model.discrete else _apply(self.actions, _clipped(actions), Moments.normalize)

    def _moments(self, features: tuple[int, ...]) -> Moments:
        return Moments(self.model.num_agents, features).to(self.model.edges.device)

    def _modules(self) -> dict[str, torch.nn.Module]:
        names = ("model", "states", "changes", "actions", "rewards", "last_rewards")
        return {name: getattr(self, name) for name in names}

    @torch.no_grad()
    def _judge(self, windows: Windows) -> float:
        losses = torch.stack([self.losses(piece) * share for piece, share in self._pieces(windows)]).sum(0)  # (N,)
        check_finite("model loss", losses.unsqueeze(1), len(losses))
        return float(losses.mean())

    def _pieces(self, windows: Windows) -> Iterator[tuple[Windows, float]]:
        # And the share of all windows each is.
        for piece in windows.split(max(LEAST, PIECE // self.model.edges.shape[1])):
            yield piece, piece.states.shape[1] / windows.states.shape[1]

    def _observe(self) -> None:
        # Moments of everything that is in the memory now, from the beginning.
        begun = set()
        for windows in self.memory.windows(1, held_out=False).pieces(max(1, OBSERVED // self.model.num_agents)):
            for moments, x in self._samples(windows).items():
                if x.shape[1]:
                    if moments not in begun:
                        moments.weight.zero_()
                        begun.add(moments)
                    moments.update(x.transpose(0, 1))  # (B, N, ...)

    def _samples(self, windows: Windows) -> dict[Moments, Tensor]:
        # What each is of, (N, B, ...).
        last = windows.ends[0]
        samples = {
            self.states: windows.states,
            self.changes: windows.following[0] - windows.states,
            self.rewards: windows.rewards[0][:, ~last],
            self.last_rewards: windows.rewards[0][:, last],
        }
        return samples if self.model.discrete else samples | {self.actions: _clipped(windows.actions[0])}


def _clipped(actions: Tensor) -> Tensor:
    # As the environment does.
    return actions.clamp(-1.0, 1.0)


def _apply(moments: Moments, x: Tensor, what: Any) -> Tensor:
    # Moments have the agents last but for features; here the samples are, x (..., N, B, *features).
    agents = -1 - moments.mean.dim()
    result: Tensor = what(moments, x.transpose(agents, agents + 1)).transpose(agents, agents + 1)
    return result
