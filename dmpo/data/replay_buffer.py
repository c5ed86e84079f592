"""Real steps that the models learn from, and those held out from them, in windows of consecutive steps."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmpo.data.rollout import Rollout

_OF_WINDOWS = ("states", "actions", "rewards", "following", "ends")


@dataclass(frozen=True)
class Trajectories:
    """S trajectories of T steps; one may hold several episodes, one after the other."""

    states: Tensor  # (S, T, N, D)
    actions: Tensor  # (S, T, N, A) or (S, T, N), in the policy's units
    rewards: Tensor  # (S, T, N)
    following: Tensor  # (S, T, N, D), s' of each step, that of the ended episode where one ended
    ends: Tensor  # (S, T) bool, true ends, not time limits
    joined: Tensor  # (S, T) bool, whether the next step goes on from here
    valid: Tensor  # (S, T) bool, False where a step was lost with its simulation


@dataclass(frozen=True)
class Windows:
    """B windows of H consecutive steps, the agents first, as the models are stacked over them."""

    states: Tensor  # (N, B, D), of the first step
    actions: Tensor  # (H, N, B, A) or (H, N, B)
    rewards: Tensor  # (H, N, B)
    following: Tensor  # (H, N, B, D)
    ends: Tensor  # (H, B) bool; only the last step of a window can be an end

    def split(self, count: int) -> "Iterator[Windows]":
        """About so many at a time, at most half as many again, equal to within one."""
        pieces = max(1, round(self.states.shape[1] / count))
        parts = (self.states, self.actions, self.rewards, self.following, self.ends)
        places = (1, 2, 2, 2, 1)  # where the windows are
        split = (torch.tensor_split(x, pieces, place) for x, place in zip(parts, places, strict=True))
        return (Windows(*piece) for piece in zip(*split, strict=True))


@dataclass(frozen=True)
class _Block:
    # Where a memory has the S·T steps of a batch's trajectories, one after the other.

    first: int  # row
    joined: Tensor  # (S, T) bool, as in `Trajectories`
    valid: Tensor  # (S, T) bool
    held_out: Tensor  # (S,) bool

    @property
    def end(self) -> int:
        return self.first + self.valid.numel()


def trajectories(batch: Rollout) -> Trajectories:
    """The trajectories of a real batch, S = E."""
    following = batch.observations[1:].clone()  # (T, E, N, D)
    following.flatten(0, 1)[batch.final_index] = batch.final_observations
    joined = batch.valid & ~(batch.terminated | batch.truncated)
    parts = (batch.observations[:-1], batch.actions, batch.rewards, following, batch.terminated, joined, batch.valid)
    return Trajectories(*(x.transpose(0, 1).clone() for x in parts))


class Memory:
    """The latest trajectories; a share of them, drawn anew with each batch, is held out.

    Args:
        capacity: steps of one environment to keep, the oldest go first.
        held_out: share of each batch's trajectories that training never sees; if not 0, at least one of several.
        generator: where they are drawn from; on its device they are kept.
    """

    def __init__(self, capacity: int, held_out: float, generator: torch.Generator) -> None:
        self.capacity, self.held_out, self.generator = capacity, held_out, generator
        self.added = 0  # steps of one environment, those that have gone again included
        self._rows: dict[str, Tensor] = {}  # (rows, ...) each; new steps take the oldest's place
        self._blocks: deque[_Block] = deque()  # the oldest first

    def add(self, batch: Rollout) -> None:
        """Take in a real batch, wherever it is."""
        device = self.generator.device
        new = trajectories(batch.to(device))
        count = len(new.states)
        order = torch.randperm(count, generator=self.generator, device=device)
        held = order < (max(1, round(self.held_out * count)) if self.held_out and count > 1 else 0)
        self._keep(new, held)
        self.added += new.ends.numel()

    def windows(self, steps: int, held_out: bool) -> "WindowSampler":
        """All windows of `steps` steps in the trajectories held out, or in the others, until the next batch comes."""
        return WindowSampler(self._rows, self._blocks, steps, held_out)

    def state_dict(self) -> dict[str, Any]:
        """The trajectories themselves."""
        return {"added": self.added, "batches": [(vars(self._at(b)), b.held_out) for b in self._blocks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.added, device = state["added"], self.generator.device
        self._blocks.clear()
        for parts, held in state["batches"]:
            self._keep(Trajectories(**{name: x.to(device) for name, x in parts.items()}), held.to(device))

    def _keep(self, new: Trajectories, held_out: Tensor) -> None:
        size = new.ends.numel()
        if not self._rows or size > len(self._rows["ends"]):
            self._blocks.clear()
            rows = max(self.capacity, size)
            self._rows = {n: (x := getattr(new, n)).new_empty(rows, *x.shape[2:]) for n in _OF_WINDOWS}
        first = self._blocks[-1].end if self._blocks else 0
        if first + size > len(self._rows["ends"]):
            first = 0
        while any(b.first < first + size and b.end > first for b in self._blocks):
            self._blocks.popleft()
        for name, kept in self._rows.items():
            kept[first : first + size] = getattr(new, name).flatten(0, 1)
        self._blocks.append(_Block(first, new.joined, new.valid, held_out))

    def _at(self, block: _Block) -> Trajectories:
        parts = {n: x[block.first : block.end].view(*block.valid.shape, *x.shape[1:]) for n, x in self._rows.items()}
        return Trajectories(**parts, joined=block.joined, valid=block.valid)


class WindowSampler:
    """Windows of H steps that lie within one episode each.

    Args:
        rows: what they are made of, as `Trajectories` has it, but (rows, ...).
        blocks: which of them hold what.
        steps: H.
        held_out: of which trajectories.
    """

    def __init__(self, rows: Mapping[str, Tensor], blocks: Iterable[_Block], steps: int, held_out: bool) -> None:
        self.steps, self._rows = steps, rows
        starts = []
        for block in blocks:
            which = (block.held_out == held_out).nonzero().squeeze(1)  # (S,)
            length = block.valid.shape[1]
            if length < steps:
                continue
            whole = block.valid[which, steps - 1 :]  # (S, T - H + 1), whether a window may begin there
            for h in range(steps - 1):
                whole &= block.joined[which, h : h + whole.shape[1]]
            trajectory, step = whole.nonzero(as_tuple=True)
            starts.append(block.first + which[trajectory] * length + step)
        self.starts = torch.cat(starts) if starts else torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.starts)

    def everything(self) -> Windows:
        """All there are."""
        return self.take(self.starts)

    def pieces(self, count: int) -> Iterator[Windows]:
        """All there are, so many at a time."""
        return (self.take(starts) for starts in torch.split(self.starts, count))

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        """Windows drawn with replacement."""
        return self.take(self.starts[torch.randint(len(self), (count,), generator=generator, device=generator.device)])

    def take(self, starts: Tensor) -> Windows:
        """The windows that begin at some of `starts`, (B,)."""
        index = starts.unsqueeze(0) + torch.arange(self.steps, device=starts.device).unsqueeze(1)  # (H, B)
        rows = self._rows
        actions, rewards, following = (rows[n][index].movedim(2, 1) for n in ("actions", "rewards", "following"))
        return Windows(rows["states"][starts].transpose(0, 1), actions, rewards, following, rows["ends"][index])
