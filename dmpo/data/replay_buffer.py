"""Replay buffer of real steps, and sequences of consecutive steps drawn from it."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout

_STORED = ("states", "actions", "rewards", "next_states", "terminated")


@dataclass(frozen=True)
class Trajectories:
    """S trajectories of T steps; one may hold several episodes, one after the other."""

    states: Tensor  # (S, T, N, D)
    actions: Tensor  # (S, T, N, A) or (S, T, N), in the policy's units
    rewards: Tensor  # (S, T, N)
    next_states: Tensor  # (S, T, N, D), s'; where an episode ended, its own last state
    terminated: Tensor  # (S, T) bool, true ends, not time limits
    continues: Tensor  # (S, T) bool, whether the next step continues the episode
    valid: Tensor  # (S, T) bool, False where a step was lost with its simulation


@dataclass(frozen=True)
class Sequences:
    """B sequences of H consecutive steps; the agents come first, as the models are stacked over them."""

    states: Tensor  # (N, B, D), of the first step
    actions: Tensor  # (H, N, B, A) or (H, N, B)
    rewards: Tensor  # (H, N, B)
    next_states: Tensor  # (H, N, B, D)
    terminated: Tensor  # (H, B) bool; only the last step of a sequence can be an end

    def split(self, count: int) -> "Iterator[Sequences]":
        """Pieces of about so many sequences, at most half as many again, equal to within one."""
        pieces = max(1, round(self.states.shape[1] / count))
        parts = (self.states, self.actions, self.rewards, self.next_states, self.terminated)
        dims = (1, 2, 2, 2, 1)  # of the sequences
        split = (torch.tensor_split(x, pieces, dim) for x, dim in zip(parts, dims, strict=True))
        return (Sequences(*piece) for piece in zip(*split, strict=True))


@dataclass(frozen=True)
class _Block:
    # Rows of the buffer that hold the S·T steps of a batch's trajectories, one after the other.

    first: int  # row
    continues: Tensor  # (S, T) bool, as in `Trajectories`
    valid: Tensor  # (S, T) bool
    holdout: Tensor  # (S,) bool

    @property
    def end(self) -> int:
        return self.first + self.valid.numel()


def trajectories(batch: Rollout) -> Trajectories:
    """The trajectories of a real batch, S = E."""
    next_states = batch.observations[1:].clone()  # (T, E, N, D)
    next_states.flatten(0, 1)[batch.final_index] = batch.final_observations
    continues = batch.valid & ~(batch.terminated | batch.truncated)
    parts = (
        batch.observations[:-1],
        batch.actions,
        batch.rewards,
        next_states,
        batch.terminated,
        continues,
        batch.valid,
    )
    return Trajectories(*(x.transpose(0, 1).clone() for x in parts))


class ReplayBuffer:
    """Replay buffer of the latest trajectories; a share of each batch's trajectories, drawn at random, is held out.

    Args:
        capacity: steps of one environment to keep; the oldest are overwritten.
        holdout: share of each batch's trajectories that training never sees; unless 0, at least one of several.
        generator: of the holdout; the buffer lives on its device.
    """

    def __init__(self, capacity: int, holdout: float, generator: torch.Generator) -> None:
        self.capacity, self.holdout, self.generator = capacity, holdout, generator
        self.added = 0  # steps of one environment, those overwritten since included
        self._rows: dict[str, Tensor] = {}  # (rows, ...) each; new steps overwrite the oldest
        self._blocks: deque[_Block] = deque()  # the oldest first

    def add(self, batch: Rollout) -> None:
        """Add a real batch, whatever its device."""
        device = self.generator.device
        new = trajectories(batch.to(device))
        count = len(new.states)
        order = torch.randperm(count, generator=self.generator, device=device)
        held = order < (max(1, round(self.holdout * count)) if self.holdout and count > 1 else 0)
        self._keep(new, held)
        self.added += new.terminated.numel()

    def sequences(self, steps: int, holdout: bool) -> "SequenceSampler":
        """Sequences of `steps` steps, of the holdout or of the other trajectories, until the next batch is added."""
        return SequenceSampler(self._rows, self._blocks, steps, holdout)

    def state_dict(self) -> dict[str, Any]:
        """The trajectories themselves."""
        return {"added": self.added, "batches": [(vars(self._at(b)), b.holdout) for b in self._blocks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.added, device = state["added"], self.generator.device
        self._blocks.clear()
        for parts, held in state["batches"]:
            self._keep(Trajectories(**{name: x.to(device) for name, x in parts.items()}), held.to(device))

    def _keep(self, new: Trajectories, holdout: Tensor) -> None:
        size = new.terminated.numel()
        if not self._rows or size > len(self._rows["terminated"]):
            self._blocks.clear()
            rows = max(self.capacity, size)
            self._rows = {n: (x := getattr(new, n)).new_empty(rows, *x.shape[2:]) for n in _STORED}
        first = self._blocks[-1].end if self._blocks else 0
        if first + size > len(self._rows["terminated"]):
            first = 0
        while any(b.first < first + size and b.end > first for b in self._blocks):
            self._blocks.popleft()
        for name, kept in self._rows.items():
            kept[first : first + size] = getattr(new, name).flatten(0, 1)
        self._blocks.append(_Block(first, new.continues, new.valid, holdout))

    def _at(self, block: _Block) -> Trajectories:
        parts = {n: x[block.first : block.end].view(*block.valid.shape, *x.shape[1:]) for n, x in self._rows.items()}
        return Trajectories(**parts, continues=block.continues, valid=block.valid)


class SequenceSampler:
    """Sequences of H steps, each within one episode.

    Args:
        rows: the fields of `Trajectories`, (rows, ...) each.
        blocks: which rows hold which trajectories.
        steps: H.
        holdout: whether of the trajectories held out or of the others.
    """

    def __init__(self, rows: Mapping[str, Tensor], blocks: Iterable[_Block], steps: int, holdout: bool) -> None:
        self.steps, self._rows = steps, rows
        starts = []
        for block in blocks:
            which = (block.holdout == holdout).nonzero().squeeze(1)  # (S,)
            length = block.valid.shape[1]
            if length < steps:
                continue
            whole = block.valid[which, steps - 1 :]  # (S, T - H + 1), whether a sequence may begin there
            for h in range(steps - 1):
                whole &= block.continues[which, h : h + whole.shape[1]]
            trajectory, step = whole.nonzero(as_tuple=True)
            starts.append(block.first + which[trajectory] * length + step)
        self.starts = torch.cat(starts) if starts else torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.starts)

    def everything(self) -> Sequences:
        """All sequences."""
        return self.take(self.starts)

    def pieces(self, count: int) -> Iterator[Sequences]:
        """All sequences, so many at a time."""
        return (self.take(starts) for starts in torch.split(self.starts, count))

    def draw(self, count: int, generator: torch.Generator) -> Sequences:
        """Sequences drawn with replacement."""
        return self.take(self.starts[torch.randint(len(self), (count,), generator=generator, device=generator.device)])

    def take(self, starts: Tensor) -> Sequences:
        """The sequences that begin at some of `starts`, (B,)."""
        index = starts.unsqueeze(0) + torch.arange(self.steps, device=starts.device).unsqueeze(1)  # (H, B)
        rows = self._rows
        actions, rewards, next_states = (rows[n][index].movedim(2, 1) for n in ("actions", "rewards", "next_states"))
        return Sequences(
            rows["states"][starts].transpose(0, 1), actions, rewards, next_states, rows["terminated"][index]
        )
