"""Fitting the localized models to real steps: one loss per agent, stopped early on held-out trajectories."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dmpo.data.replay_buffer import ReplayBuffer, Sequences
from dmpo.data.rollout import Rollout
from dmpo.errors import check_finite
from dmpo.models.loss import STATE_BOUND, ModelLoss, NormalizedSequences
from dmpo.models.settings import ModelSettings
from dmpo.nn.normalization import RunningNormalizer
from dmpo.nn.optimizer import StackedAdam

if TYPE_CHECKING:  # torch-geometric takes as long to load as torch itself
    from dmpo.models.local_model import LocalModel

VALIDATION_SEQUENCES = 2_048
HOLDOUT_STATES = 2**20  # of agents in held-out sequences at most, where many agents are rolled many steps
OBSERVED_STATES = 2**20  # of agents that normalizers take in at once
# PyTorch computes so many messages at once, each over a batch of sequences, but at least so many sequences, as their
# gradient is as large as all parameters.
CHUNK_MESSAGES, CHUNK_MIN_SEQUENCES = 2**16, 128


class Step(NamedTuple):
    """Predictions of the models in the environment's units; the agents come first."""

    states: Tensor  # (N, B, D)
    ordinary_rewards: Tensor  # (N, B), of a step after which the episode goes on
    rewards: Tensor  # (N, B), that of an end where one is predicted
    terminated: Tensor  # (N, B) bool


class ModelTrainer:
    """The models of all agents, with the data they are fitted to and the normalizers of these.

    States, continuous actions, changes of state and rewards are normalized per agent by the training trajectories.
    The reward of an episode's last step is learned apart, as a mean per agent: it may be of another size than all other
    rewards, and the reward head would fit it before everything else.

    Args:
        model: the models, on the device where they learn.
        loss: that they are fitted to.
        settings: of the fit.
        generator: of the holdout and of the sequences, on the same device.
    """

    def __init__(
        self, model: "LocalModel", loss: ModelLoss, settings: ModelSettings, generator: torch.Generator
    ) -> None:
        self.model, self.loss, self.settings, self.generator = model, loss, settings, generator
        self.buffer = ReplayBuffer(settings.model_buffer_size, settings.model_holdout, generator)
        self.ready = False  # whether the models have learned anything, before which nobody trains on their rollouts
        features = (model.features,)
        self.state_normalizer, self.change_normalizer = self._normalizer(features), self._normalizer(features)
        self.reward_normalizer, self.terminal_reward_normalizer = self._normalizer(()), self._normalizer(())
        self.action_normalizer = self._normalizer((model.actions,))  # of continuous ones
        self.optimizers = [StackedAdam(group, settings.model_max_grad_norm) for group in model.parameter_groups()]

    def fit(self, batch: Rollout) -> dict[str, float]:
        """Add a real batch and, once the warm-up is over, learn until the validation loss stops falling.

        The validation loss is the mean over agents: when to stop is the one decision here that they take together.
        Without metrics where no episode was long enough for a sequence yet.
        """
        settings = self.settings
        self.buffer.add(batch)
        if self.buffer.added < settings.warm_up_steps:
            return {}
        training, holdout = (self.buffer.sequences(settings.model_loss_steps, held) for held in (False, True))
        if not len(training):
            return {}
        most = settings.model_fit_steps if self.ready else settings.model_warm_up_fit_steps or settings.model_fit_steps
        self.ready = True
        self._update_normalizers()
        validation = (holdout if len(holdout) else training).draw(VALIDATION_SEQUENCES, self.generator)
        best, since, steps = self._validate(validation), 0, 0
        while steps < most and since < settings.model_patience:
            block = min(settings.model_validation_every, most - steps)
            for _ in range(block):
                self.update(training.draw(settings.model_batch_size, self.generator))
            steps += block
            loss = self._validate(validation)
            best, since = (loss, 0) if loss < best else (best, since + 1)
        return {"model/gradient_steps": float(steps), "model/validation_loss": best}

    def holdout(self, steps: int) -> Sequences | None:
        """Held-out sequences of so many steps; None without a holdout, or where no episode goes on for so long."""
        holdout = self.buffer.sequences(steps, holdout=True)
        count = min(VALIDATION_SEQUENCES, max(CHUNK_MIN_SEQUENCES, HOLDOUT_STATES // (steps * self.model.num_agents)))
        return holdout.draw(count, self.generator) if len(holdout) else None

    def update(self, sequences: Sequences) -> None:
        """One gradient step of all models."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for piece, share in self._chunks(sequences):
            self.loss.accumulate_gradients(self.model, self.normalized(piece), share)
        for optimizer in self.optimizers:
            optimizer.step(self.settings.lr_model)

    def normalized(self, sequences: Sequences) -> NormalizedSequences:
        """Sequences as a model's loss takes them."""
        # (H, N, B, ...) -> (N, H·B, ...) -> (N, W, H·B), of all steps at once
        actions = self.model.encode_actions(self._normalized_actions(sequences.actions.transpose(0, 1).flatten(1, 2)))
        state, next_states = (
            _normalize(self.state_normalizer, x).transpose(-1, -2).contiguous()
            for x in (sequences.states, sequences.next_states)
        )
        return NormalizedSequences(
            ratio=self.change_normalizer.std / self.state_normalizer.std,
            drift=self.change_normalizer.mean / self.state_normalizer.std,
            state=state,
            actions=actions.view(*actions.shape[:2], len(sequences.actions), -1).contiguous(),
            next_states=next_states,
            rewards=_normalize(self.reward_normalizer, sequences.rewards).contiguous(),
            terminated=sequences.terminated.to(state.dtype),
        )

    @torch.no_grad()
    def predict(self, states: Tensor, actions: Tensor) -> Step:
        """Step from states (N, B, D) with actions (N, B, A) or (N, B)."""
        normalized = _normalize(self.state_normalizer, states).clamp(-STATE_BOUND, STATE_BOUND)
        found = self.model(normalized, self._normalized_actions(actions))
        next_states = states + _denormalize(self.change_normalizer, found.change)
        terminated = found.termination > 0
        ordinary = _denormalize(self.reward_normalizer, found.reward)
        terminal = self.terminal_reward_normalizer.mean.unsqueeze(1)  # (N, 1)
        return Step(next_states, ordinary, torch.where(terminated, terminal, ordinary), terminated)

    def distance(self, states: Tensor) -> Tensor:
        """Distance of states (..., N, D) from the mean of the data, in standard deviations."""
        return self.state_normalizer.normalize(states)

    def state_dict(self) -> dict[str, Any]:
        """Models, normalizers, optimizers and buffer."""
        parts = {name: part.state_dict() for name, part in self._modules().items()}
        rest = {"ready": self.ready, "buffer": self.buffer.state_dict()}
        return {**parts, "optimizers": [o.state_dict() for o in self.optimizers], **rest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name, part in self._modules().items():
            part.load_state_dict(state[name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.buffer.load_state_dict(state["buffer"])
        self.ready = state["ready"]

    def _normalized_actions(self, actions: Tensor) -> Tensor:
        # Small ones would vanish beside the states if they were not normalized.
        return actions if self.model.discrete else _normalize(self.action_normalizer, _clipped(actions))

    def _normalizer(self, features: tuple[int, ...]) -> RunningNormalizer:
        return RunningNormalizer(self.model.num_agents, features).to(self.model.edges.device)

    def _modules(self) -> dict[str, torch.nn.Module]:
        kinds = ("state", "change", "action", "reward", "terminal_reward")
        return {"model": self.model, **{f"{kind}_normalizer": getattr(self, f"{kind}_normalizer") for kind in kinds}}

    @torch.no_grad()
    def _validate(self, sequences: Sequences) -> float:
        parts = [self.loss(self.model, self.normalized(piece)) * share for piece, share in self._chunks(sequences)]
        losses = torch.stack(parts).sum(0)  # (N,)
        check_finite("model loss", losses.unsqueeze(1), len(losses))
        return float(losses.mean())

    def _chunks(self, sequences: Sequences) -> Iterator[tuple[Sequences, float]]:
        # Pieces, each with its share of all sequences.
        for piece in sequences.split(max(CHUNK_MIN_SEQUENCES, CHUNK_MESSAGES // self.model.edges.shape[1])):
            yield piece, piece.states.shape[1] / sequences.states.shape[1]

    def _update_normalizers(self) -> None:
        # Statistics of everything that is in the buffer now, from the beginning.
        begun = set()
        count = max(1, OBSERVED_STATES // self.model.num_agents)
        for sequences in self.buffer.sequences(1, holdout=False).pieces(count):
            for normalizer, x in self._observed(sequences).items():
                if x.shape[1]:
                    if normalizer not in begun:
                        normalizer.weight.zero_()
                        begun.add(normalizer)
                    normalizer.update(x.transpose(0, 1))  # (B, N, ...)

    def _observed(self, sequences: Sequences) -> dict[RunningNormalizer, Tensor]:
        # Data of each normalizer, (N, B, ...).
        last = sequences.terminated[0]
        observed = {
            self.state_normalizer: sequences.states,
            self.change_normalizer: sequences.next_states[0] - sequences.states,
            self.reward_normalizer: sequences.rewards[0][:, ~last],
            self.terminal_reward_normalizer: sequences.rewards[0][:, last],
        }
        return observed if self.model.discrete else observed | {self.action_normalizer: _clipped(sequences.actions[0])}


def _clipped(actions: Tensor) -> Tensor:
    # As the environment does.
    return actions.clamp(-1.0, 1.0)


def _normalize(normalizer: RunningNormalizer, x: Tensor) -> Tensor:
    # Normalizers have the agents last but for features; here the samples are, x (..., N, B, *features).
    agents = -1 - normalizer.mean.dim()
    return normalizer.normalize(x.transpose(agents, agents + 1)).transpose(agents, agents + 1)


def _denormalize(normalizer: RunningNormalizer, x: Tensor) -> Tensor:
    agents = -1 - normalizer.mean.dim()
    return normalizer.denormalize(x.transpose(agents, agents + 1)).transpose(agents, agents + 1)
