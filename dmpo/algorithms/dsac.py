"""DSAC: decentralized soft actor-critic with extended action values, from replayed real steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import networkx as nx
import torch

from dmpo.algorithms.base import Agents
from dmpo.data.replay_buffer import Memory, WindowSampler
from dmpo.data.rollout import Rollout
from dmpo.nn.action_critics import ActionCritic
from dmpo.nn.distributions import Acting, Categorical, SquashedGaussian
from dmpo.settings import SACSettings
from dmpo.updates.sac import SAC, ContinuousSAC, DiscreteSAC, Transitions


class DSAC(Agents):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and twin action values Q_i(s_(N_i^κ), a_(N_i^κ)).

    Args: see `Agents`.
    """

    settings: SACSettings

    def _distribution(self, action_space: gymnasium.Space[Any]) -> Acting:
        if isinstance(action_space, gymnasium.spaces.Box):
            return SquashedGaussian(action_space, self.device)
        return super()._distribution(action_space)

    def _build(self, graph: nx.Graph, seed: int) -> None:
        settings, shape = (
            self.settings,
            (self.features, self.distribution.actions, self.settings.hidden_sizes, self.stacks),
        )
        order = settings.neighbor_order
        self.critic = ActionCritic(graph, settings.kappa, *shape, self.initial, order).to(self.device)
        self.critic.neighborhood = self.critic.neighborhood.to(self.device)
        kind = DiscreteSAC if isinstance(self.distribution, Categorical) else ContinuousSAC
        self.sac: SAC = kind(self.policy, self.critic, settings, self.generator)
        self.replay = Memory(settings.buffer_size, 0.0, self.generator)
        self._begin()

    def meanwhile(self, step: int, progress: float) -> None:
        """With `overlap` a share of the gradient steps, which need nothing of what the environment is about to tell."""
        if self.settings.overlap:
            if step == 0:
                self._begin()
            share, steps = self._portions, self.collect_steps
            self._learn(share * (step + 1) // steps - share * step // steps, progress)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Gradient steps on replayed steps, once the warm-up is over; without `overlap`, or they have been taken."""
        batch = batch.to(self.device)
        states = batch.observations[:-1][batch.valid]  # (S, N, D)
        self._see(states)
        self.sac.observe(batch.rewards[batch.valid & ~batch.terminated])  # what an end pays may be of any size
        self.replay.add(batch)
        if not self.settings.overlap:
            self._begin()
            self._learn(self._portions, progress)
        metrics = self._metrics()
        self._begin()
        return metrics | self._communication(batch.observations.shape[-1])

    def _begin(self) -> None:
        # What the gradient steps of one iteration have in common: what they replay, and losses so far, (N,) each.
        self._replayed: WindowSampler | None = None
        self._losses: dict[str, list[torch.Tensor]] = {}

    @property
    def _portions(self) -> int:
        # In which an iteration's gradient steps can be taken.
        return self.settings.gradient_steps

    def _learn(self, portions: int, progress: float) -> None:
        if portions == 0 or self.replay.added < self.settings.warm_up_steps:
            return
        if self._replayed is None:
            self._replayed = self.replay.windows(1, held_out=False)
        if len(self._replayed):
            self._learn_from(self._replayed, portions, progress)

    def _learn_from(self, replay: WindowSampler, portions: int, progress: float) -> None:
        self._steps(partial(self._drawn, replay, self.settings.batch_size), portions, progress)

    def _steps(self, draw: Callable[[], Transitions], count: int, progress: float) -> None:
        for _ in range(count):
            taken = len(self._losses.get("value/loss", []))
            with_policy = taken % self.settings.policy_delay == 0
            for name, x in self.sac.update(draw(), progress, with_policy).items():
                self._losses.setdefault(name, []).append(x)
        self.sac.check(self._averages())

    def _averages(self) -> dict[str, torch.Tensor]:
        return {name: torch.stack(values).mean(0) for name, values in self._losses.items()}  # (N,) each

    def _metrics(self) -> dict[str, float]:
        # None where no gradient step was taken.
        if not self._losses:
            return {}
        return {name: float(x.mean()) for name, x in self._averages().items()} | {
            "policy/temperature": float(self.sac.temperature.mean()),
            "policy/gradient_steps": float(len(self._losses["policy/loss"])),
        }

    def _drawn(self, replay: WindowSampler, count: int) -> Transitions:
        steps = replay.draw(count, self.generator)
        states, following = (self.states(x.transpose(0, 1)) for x in (steps.states, steps.following[0]))  # (B, N, D)
        actions, rewards = (x[0].transpose(0, 1) for x in (steps.actions, steps.rewards))  # (B, N, ...)
        return Transitions(states, actions, rewards, following, steps.ends[0])

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {"critic": self.critic, **self.sac.parts(), "replay": self.replay}

    def _communication(self, width: int) -> dict[str, float]:
        # Acting needs neighbors' states; training, of κ hops, states, actions and what Q_j says of them.
        near, far, actions = self.policy.neighborhood, self.critic.neighborhood, self.critic.actions
        return {
            "comm/bytes_per_agent_step": near.bytes_per_agent(width),
            "comm/training_bytes_per_agent_step": far.bytes_per_agent(2 * (width + actions) + actions),
        }
