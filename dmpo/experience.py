"""Real steps that the models learn from, and those held out from them, in windows of consecutive steps."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmpo.rollout import Rollout


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
        self._batches: deque[tuple[Trajectories, Tensor]] = deque()  # and which are held out, (S,) bool

    def add(self, batch: Rollout) -> None:
        """Take in a real batch, wherever it is."""
        device = self.generator.device
        new = trajectories(batch.to(device))
        count = len(new.states)
        order = torch.randperm(count, generator=self.generator, device=device)
        held = order < (max(1, round(self.held_out * count)) if self.held_out and count > 1 else 0)
        self._batches.append((new, held))
        self.added += new.ends.numel()
        while len(self._batches) > 1 and sum(b.ends.numel() for b, _ in self._batches) > self.capacity:
            self._batches.popleft()

    def windows(self, steps: int, held_out: bool) -> "WindowSampler":
        """All windows of `steps` steps in the trajectories held out, or in the others."""
        return WindowSampler([_chosen(b, held == held_out) for b, held in self._batches], steps)

    def state_dict(self) -> dict[str, Any]:
        """The trajectories themselves."""
        return {"added": self.added, "batches": [(dict(vars(b)), held) for b, held in self._batches]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.added = state["added"]
        device = self.generator.device
        self._batches = deque(
            (Trajectories(**{name: x.to(device) for name, x in b.items()}), held.to(device))
            for b, held in state["batches"]
        )


class WindowSampler:
    """Windows of H steps that lie within one episode each.

    Args:
        parts: trajectories, with any T each.
        steps: H.
    """

    def __init__(self, parts: Iterable[Trajectories], steps: int) -> None:
        kept = [p for p in parts if p.states.shape[0] and p.states.shape[1] >= steps]
        self.steps = steps
        names = ("states", "actions", "rewards", "following", "ends")
        self._flat = {n: torch.cat([getattr(p, n).flatten(0, 1) for p in kept]) for n in names} if kept else {}
        starts, offset = [], 0
        for part in kept:
            count, length = part.ends.shape
            whole = part.valid[:, steps - 1 :].clone()  # (S, T - H + 1), whether a window may begin there
            for h in range(steps - 1):
                whole &= part.joined[:, h : h + whole.shape[1]]
            possible = whole.nonzero()  # (·, 2)
            starts.append(offset + possible[:, 0] * length + possible[:, 1])
            offset += count * length
        self.starts = torch.cat(starts) if starts else torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.starts)

    def everything(self) -> Windows:
        """All there are."""
        return self.take(self.starts)

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        """Windows drawn with replacement."""
        return self.take(self.starts[torch.randint(len(self), (count,), generator=generator, device=generator.device)])

    def take(self, starts: Tensor) -> Windows:
        """The windows that begin at some of `starts`, (B,)."""
        index = starts.unsqueeze(0) + torch.arange(self.steps, device=starts.device).unsqueeze(1)  # (H, B)
        flat = self._flat
        actions, rewards, following = (flat[n][index].movedim(2, 1) for n in ("actions", "rewards", "following"))
        return Windows(flat["states"][starts].transpose(0, 1), actions, rewards, following, flat["ends"][index])


def _chosen(part: Trajectories, which: Tensor) -> Trajectories:
    return Trajectories(**{name: x[which] for name, x in vars(part).items()})
