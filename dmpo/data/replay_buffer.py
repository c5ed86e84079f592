"""Replay buffer of real steps, and sequences of consecutive steps drawn from it."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout

_STORED = ("states", "actions", "rewards", "next_states", "terminated", "ended_by")
_GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, are as evenly spread as any sequence's


class Role(IntEnum):
    """What an episode serves for: to train a model, to tell when training stops, or to report the model's errors."""

    TRAINING = 0
    VALIDATION = 1
    TEST = 2


@dataclass(frozen=True)
class Trajectories:
    """S trajectories of T steps; one may hold several episodes, one after the other."""

    states: Tensor  # (S, T, N, D)
    actions: Tensor  # (S, T, N, A) or (S, T, N), in the policy's units
    rewards: Tensor  # (S, T, N)
    next_states: Tensor  # (S, T, N, D), s'; where an episode ended, its own last state
    terminated: Tensor  # (S, T) bool, true ends, not time limits
    ended_by: Tensor  # (S, T, N) bool, agents whose own state was that end
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
    ended_by: Tensor  # (H, N, B) bool

    def split(self, count: int) -> "Iterator[Sequences]":
        """Pieces of about so many sequences, at most half as many again, equal to within one."""
        pieces = max(1, round(self.states.shape[1] / count))
        parts = (self.states, self.actions, self.rewards, self.next_states, self.terminated, self.ended_by)
        dims = (1, 2, 2, 2, 1, 2)  # of the sequences
        split = (torch.tensor_split(x, pieces, dim) for x, dim in zip(parts, dims, strict=True))
        return (Sequences(*piece) for piece in zip(*split, strict=True))


@dataclass(frozen=True)
class _Block:
    # Rows of the buffer that hold the S·T steps of a batch's trajectories, one after the other.

    first: int  # row
    continues: Tensor  # (S, T) bool, as in `Trajectories`
    valid: Tensor  # (S, T) bool
    roles: Tensor  # (S, T) uint8, a `Role` each

    @property
    def end(self) -> int:
        return self.first + self.valid.numel()


def trajectories(batch: Rollout) -> Trajectories:
    """The trajectories of a real batch, S = E."""
    next_states = batch.observations[1:].clone()  # (T, E, N, D)
    next_states.flatten(0, 1)[batch.final_index] = batch.final_observations
    steps = batch.observations[:-1], batch.actions, batch.rewards, next_states
    flags = batch.terminated.any(-1), batch.ended_by, batch.taken & ~batch.over, batch.taken
    return Trajectories(*(x.transpose(0, 1).clone() for x in (*steps, *flags)))


class ReplayBuffer:
    """Replay buffer of the latest trajectories, in which each episode has one role from its first step to its last.

    Half of the holdout validates and half tests. The roles of successive episodes are spread as evenly as can be, so
    that few episodes are already divided in about these shares; the first one trains.

    Args:
        capacity: steps of one environment to keep; the oldest are overwritten.
        holdout: share of the episodes that training never sees.
        device: where it lives.
    """

    def __init__(self, capacity: int, holdout: float, device: torch.device | str) -> None:
        self.capacity, self.holdout, self.device = capacity, holdout, torch.device(device)
        self.added = 0  # steps of one environment, those overwritten since included
        self.episodes = 0  # begun so far, those of all environments numbered in one sequence
        self.running = torch.empty(
            0, dtype=torch.int64, device=device
        )  # (S,), number of each trajectory's last episode
        self._rows: dict[str, Tensor] = {}  # (rows, ...) each; new steps overwrite the oldest
        self._blocks: deque[_Block] = deque()  # the oldest first

    def add(self, batch: Rollout) -> None:
        """Add a real batch, whatever its device."""
        new = trajectories(batch.to(self.device))
        self._keep(new, self._roles(self._numbers(~new.continues)))
        self.added += new.terminated.numel()

    def sequences(self, steps: int, role: Role) -> "SequenceSampler":
        """Sequences of `steps` steps from episodes with that role, until the next batch is added."""
        return SequenceSampler(self._rows, self._blocks, steps, role)

    def state_dict(self) -> dict[str, Any]:
        """The trajectories themselves, and the numbers of the running episodes."""
        counts = {"added": self.added, "episodes": self.episodes, "running": self.running}
        return counts | {"batches": [(vars(self._at(b)), b.roles) for b in self._blocks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            RuntimeError: it was saved before the steps said whose state ended an episode.
        """
        if "running" not in state:
            raise RuntimeError(
                "its recorded steps do not say which agent's state ended an episode, which learners need since; "
                "the run can be evaluated, and trained only from the start"
            )
        self.added, self.episodes, self.running = state["added"], state["episodes"], state["running"].to(self.device)
        self._blocks.clear()
        for parts, roles in state["batches"]:
            self._keep(Trajectories(**{name: x.to(self.device) for name, x in parts.items()}), roles.to(self.device))

    def _numbers(self, last: Tensor) -> Tensor:
        # Number of the episode of each step (S, T), from which steps are the last of theirs.
        if not len(self.running):
            self.episodes = len(last)
            self.running = torch.arange(self.episodes, device=self.device)
        before = last.cumsum(1) - last.long()  # (S, T), episodes of this batch that are over
        begun = last.sum(1)  # (S,)
        first = self.episodes + begun.cumsum(0) - begun  # (S,), number of the first episode to begin here
        numbers = torch.where(before == 0, self.running.unsqueeze(1), first.unsqueeze(1) + before - 1)
        self.running = torch.where(begun == 0, self.running, first + begun - 1)
        self.episodes += int(begun.sum())
        return numbers

    def _roles(self, numbers: Tensor) -> Tensor:
        place = (0.5 + numbers.double() * _GOLDEN) % 1
        held = (place < self.holdout).to(torch.uint8) * int(Role.VALIDATION)
        return held.masked_fill(place < self.holdout / 2, int(Role.TEST))

    def _keep(self, new: Trajectories, roles: Tensor) -> None:
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
        self._blocks.append(_Block(first, new.continues, new.valid, roles))

    def _at(self, block: _Block) -> Trajectories:
        parts = {n: x[block.first : block.end].view(*block.valid.shape, *x.shape[1:]) for n, x in self._rows.items()}
        return Trajectories(**parts, continues=block.continues, valid=block.valid)


class SequenceSampler:
    """Sequences of H steps, each within one episode.

    Args:
        rows: the fields of `Trajectories`, (rows, ...) each.
        blocks: which rows hold which trajectories.
        steps: H.
        role: of their episodes.
    """

    def __init__(self, rows: Mapping[str, Tensor], blocks: Iterable[_Block], steps: int, role: Role) -> None:
        self.steps, self._rows = steps, rows
        starts = []
        for block in blocks:
            length = block.valid.shape[1]
            if length < steps:
                continue
            # (S, T - H + 1), whether a sequence may begin there
            whole = block.valid[:, steps - 1 :] & (block.roles[:, : length - steps + 1] == role)
            for h in range(steps - 1):
                whole &= block.continues[:, h : h + whole.shape[1]]
            trajectory, step = whole.nonzero(as_tuple=True)
            starts.append(block.first + trajectory * length + step)
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
        names = ("actions", "rewards", "next_states", "ended_by")
        actions, rewards, next_states, ended_by = (rows[name][index].movedim(2, 1) for name in names)
        states = rows["states"][starts].transpose(0, 1)
        return Sequences(states, actions, rewards, next_states, rows["terminated"][index], ended_by)
