"""Fitting the localized models to real steps: one loss per agent, stopped early on held-out episodes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dmpo.data.replay_buffer import ReplayBuffer, Role, Sequences, SequenceSampler
from dmpo.data.rollout import Rollout
from dmpo.errors import check_finite
from dmpo.models.loss import STATE_BOUND, ModelLoss, NormalizedSequences
from dmpo.models.settings import ModelSettings
from dmpo.nn.normalization import RunningNormalizer
from dmpo.nn.optimizer import StackedAdam

if TYPE_CHECKING:  # torch-geometric takes as long to load as torch itself
    from dmpo.models.local_model import LocalModel

VALIDATION_SEQUENCES = 2_048
TEST_STATES = 2**20  # of agents in test sequences at most, where many agents are rolled many steps
OBSERVED_STATES = 2**20  # of agents that normalizers take in at once
# PyTorch computes so many messages at once, each over a batch of sequences, but at least so many sequences, as their
# gradient is as large as all parameters.
CHUNK_MESSAGES, CHUNK_MIN_SEQUENCES = 2**16, 128


class Step(NamedTuple):
    """Predictions of the models in the environment's units; the agents come first."""

    states: Tensor  # (N, B, D)
    rewards: Tensor  # (N, B), of a step after which the episode goes on
    ended_by: Tensor  # (N, B) bool, whether the agent's own state ends the episode


class ModelTrainer:
    """The models of all agents, with the data they are fitted to and the normalizers of these.

    States, continuous actions, changes of state and rewards are normalized per agent by the training trajectories.
    The reward of an episode's last step is learned apart, as a mean per agent: it may be of another size than all other
    rewards, and the reward head would fit it before everything else.

    Args:
        model: the models, on the device where they learn.
        loss: that they are fitted to.
        settings: of the fit.
        generator: of the sequences, on the same device.
    """

    def __init__(
        self, model: "LocalModel", loss: ModelLoss, settings: ModelSettings, generator: torch.Generator
    ) -> None:
        self.model, self.loss, self.settings, self.generator = model, loss, settings, generator
        self.buffer = ReplayBuffer(settings.model_buffer_size, settings.model_holdout, generator.device)
        self.ready = False  # whether the models have learned anything, before which nobody trains on their rollouts
        features = (model.features,)
        self.state_normalizer, self.change_normalizer = self._normalizer(features), self._normalizer(features)
        self.reward_normalizer, self.terminal_reward_normalizer = self._normalizer(()), self._normalizer(())
        self.action_normalizer = self._normalizer((model.actions,))  # of continuous ones
        self.optimizers = [StackedAdam(group, settings.model_max_grad_norm) for group in model.parameter_groups()]

    def fit(self, batch: Rollout) -> dict[str, float]:
        """Add a real batch and, once the warm-up is over, learn until validation losses stop falling; keep the best.

        All models stop together, by their mean loss, and the parameters of the least mean loss are kept. If the learner
        is strictly local each agent stops for itself and keeps its own. Without metrics where no episode was long
        enough for a sequence yet.
        """
        settings = self.settings
        self.buffer.add(batch)
        if self.buffer.added < settings.warm_up_steps:
            return {}
        training, validation = (self.sequences(settings.model_loss_steps, r) for r in (Role.TRAINING, Role.VALIDATION))
        if not len(training):
            return {}
        most = settings.model_fit_steps if self.ready else settings.model_warm_up_fit_steps or settings.model_fit_steps
        self.ready = True
        self._update_normalizers()
        # A stream of its own for as many steps as it takes: later draws must not depend on when an agent stopped.
        random = torch.Generator(self.generator.device).manual_seed(_seed(self.generator))
        held_out = (validation if len(validation) else training).draw(VALIDATION_SEQUENCES, random)
        best = BestModels(self.model, self._validate(held_out))
        steps, taken = 0, torch.zeros_like(best.losses)
        while steps < most and bool((active := best.since < settings.model_patience).any()):
            block = min(settings.model_validation_every, most - steps)
            for _ in range(block):
                self.update(training.draw(settings.model_batch_size, random), active)
            steps, taken = steps + block, taken + block * active
            best.compare(self._validate(held_out))
        best.restore()
        return {"model/gradient_steps": float(taken.mean()), "model/validation_loss": float(best.losses.mean())}

    def sequences(self, steps: int, role: Role) -> SequenceSampler:
        """Sequences of so many real steps from episodes with that role."""
        return self.buffer.sequences(steps, role)

    def test(self, steps: int) -> Sequences | None:
        """Sequences of so many steps that had no part in fitting; None where there are none."""
        sampler = self.sequences(steps, Role.TEST)
        count = min(VALIDATION_SEQUENCES, max(CHUNK_MIN_SEQUENCES, TEST_STATES // (steps * self.model.num_agents)))
        return sampler.draw(count, self.generator) if len(sampler) else None

    def update(self, sequences: Sequences, active: Tensor | None = None) -> None:
        """One gradient step of the models of active agents, (N,) bool; of all if left out."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for piece, share in self._chunks(sequences):
            self.loss.accumulate_gradients(self.model, self.normalized(piece), share)
        for optimizer, owners in zip(self.optimizers, self.model.owners(), strict=True):
            optimizer.step(self.settings.lr_model, None if active is None else active[owners])

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
            ended_by=sequences.ended_by.to(state.dtype).contiguous(),
        )

    @torch.no_grad()
    def predict(self, states: Tensor, actions: Tensor) -> Step:
        """Step from states (N, B, D) with actions (N, B, A) or (N, B)."""
        normalized = _normalize(self.state_normalizer, states).clamp(-STATE_BOUND, STATE_BOUND)
        found = self.model(normalized, self._normalized_actions(actions))
        next_states = states + _denormalize(self.change_normalizer, found.change)
        reached = _normalize(self.state_normalizer, next_states).clamp(-STATE_BOUND, STATE_BOUND)
        ended_by = self.model.end_logits(reached.transpose(1, 2)) > 0
        return Step(next_states, _denormalize(self.reward_normalizer, found.reward), ended_by)

    @property
    def terminal_rewards(self) -> Tensor:
        """(N,), each agent's mean reward at real ends, whoever caused them."""
        return self.terminal_reward_normalizer.mean

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
        self.buffer.load_state_dict(state["buffer"])  # first, as it says best what is wrong with an old state
        for name, part in self._modules().items():
            part.load_state_dict(state[name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
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
    def _validate(self, sequences: Sequences) -> Tensor:
        # Losses (N,) by which each agent stops: its own, or all agents' mean.
        parts = [self.loss(self.model, self.normalized(piece)) * share for piece, share in self._chunks(sequences)]
        losses = torch.stack(parts).sum(0)  # (N,)
        check_finite("model loss", losses.unsqueeze(1), len(losses))
        return losses if self.settings.strictly_local else losses.mean().expand_as(losses)

    def _chunks(self, sequences: Sequences) -> Iterator[tuple[Sequences, float]]:
        # Pieces, each with its share of all sequences.
        for piece in sequences.split(max(CHUNK_MIN_SEQUENCES, CHUNK_MESSAGES // self.model.edges.shape[1])):
            yield piece, piece.states.shape[1] / sequences.states.shape[1]

    def _update_normalizers(self) -> None:
        # Statistics of everything that is in the buffer now, from the beginning.
        begun = set()
        count = max(1, OBSERVED_STATES // self.model.num_agents)
        for sequences in self.sequences(1, Role.TRAINING).pieces(count):
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


class BestModels:
    """The parameters with which each agent's validation loss was least.

    Args:
        model: the models, as they are to begin with.
        losses: their validation losses, (N,).
    """

    def __init__(self, model: "LocalModel", losses: Tensor) -> None:
        self.model, self.losses = model, losses
        self.since = torch.zeros_like(losses, dtype=torch.int64)  # (N,), validations since the best one
        self._kept = [[parameter.detach().clone() for parameter in group] for group in model.parameter_groups()]

    def compare(self, losses: Tensor) -> None:
        """Keep what is better now, losses (N,)."""
        better = losses < self.losses
        self.losses = torch.where(better, losses, self.losses)
        self.since = torch.where(better, 0, self.since + 1)
        self._copy(better, to_model=False)

    def restore(self) -> None:
        """Put back what was best."""
        self._copy(torch.ones_like(self.losses, dtype=torch.bool), to_model=True)

    @torch.no_grad()
    def _copy(self, agents: Tensor, to_model: bool) -> None:
        for group, kept, owners in zip(self.model.parameter_groups(), self._kept, self.model.owners(), strict=True):
            rows = agents[owners]
            for parameter, copy in zip(group, kept, strict=True):
                target, source = (parameter, copy) if to_model else (copy, parameter)
                target[rows] = source[rows]


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


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
