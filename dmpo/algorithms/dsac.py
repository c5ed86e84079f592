"""DSAC: decentralized soft actor-critic with extended action values, from replayed real steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import gymnasium
import torch
from pydantic import Field
from torch import Tensor

from dmpo.algorithms.base import FeedforwardLearner
from dmpo.data.replay_buffer import ReplayBuffer, Role, SequenceSampler
from dmpo.data.rollout import Rollout, told_of_ends
from dmpo.learner import Setup
from dmpo.nn.critics import QCritic
from dmpo.nn.distributions import SquashedGaussian
from dmpo.registry import register
from dmpo.updates.sac import SAC, SACSettings, Transitions


class Losses(dict[str, list[Tensor]]):
    """Losses (N,) of the gradient steps of an iteration, by metric."""


class DSACSettings(SACSettings):
    """Decentralized SAC with extended action values."""

    name: Literal["dsac"] = Field("dsac", description="Decentralized SAC.")


@register("dsac")
class DSAC(FeedforwardLearner):
    """N agents, each with its own policy π_i(a_i | s_(N_i^1)) and twin action values Q_i(s_(N_i^κ), a_(N_i^κ)).

    Args: see `BaseLearner`.
    """

    Settings: ClassVar[type[SACSettings]] = DSACSettings
    settings: SACSettings

    def __init__(self, settings: SACSettings, setup: Setup) -> None:
        space = setup.action_space
        squashed = SquashedGaussian(space, setup.device) if isinstance(space, gymnasium.spaces.Box) else None
        super().__init__(settings, setup, squashed)
        shape = (self.features, self.distribution.actions, settings.hidden_sizes, self.stacks)
        critic = QCritic(setup.graph, settings.kappa, *shape, self.init_generator, settings.neighbor_order)
        self.critic = self.placed(critic)
        self.update = SAC(self.policy, self.critic, settings, self.generator)
        self.replay = ReplayBuffer(settings.buffer_size, 0.0, self.device)

    def improve(self, batch: Rollout, progress: float) -> dict[str, float]:
        """Gradient steps on steps replayed from the buffer, once the warm-up is over."""
        replay, losses = self.store(batch), Losses()
        if replay is not None:
            self.take_steps(partial(self.replayed, replay, self.settings.batch_size), progress, losses)
        return self.metrics(losses) | self.communication()

    def store(self, batch: Rollout) -> SequenceSampler | None:
        """Add real steps to the replay buffer, and return its steps; None before the warm-up is over."""
        batch = batch.to(self.device)
        self.update_normalizer(batch.starts)
        # The reward of an episode's last step may be of any size.
        self.update.observe_rewards(batch.rewards[batch.taken & ~batch.terminated.any(-1)])
        self.replay.add(batch)
        if self.replay.added < self.settings.warm_up_steps:
            return None
        steps = self.replay.sequences(1, Role.TRAINING)
        return steps if len(steps) else None

    def take_steps(self, draw: Callable[[], Transitions], progress: float, losses: Losses) -> None:
        """G gradient steps, each on a fresh batch; `losses` collects theirs.

        Raises:
            TrainingError: a loss or parameter became NaN or infinite.
        """
        for _ in range(self.settings.gradient_steps):
            with_policy = len(losses.get("value/loss", [])) % self.settings.policy_delay == 0
            for name, x in self.update.update(draw(), progress, with_policy).items():
                losses.setdefault(name, []).append(x)
        self.update.check({name: torch.stack(x).mean(0) for name, x in losses.items()})

    def metrics(self, losses: Losses) -> dict[str, float]:
        """Means over gradient steps and agents; none where no gradient step was taken."""
        if not losses:
            return {}
        return {name: float(torch.stack(x).mean(0).mean()) for name, x in losses.items()} | {
            "policy/temperature": float(self.update.temperature.mean()),
            "policy/gradient_steps": float(len(losses["policy/loss"])),
        }

    def replayed(self, replay: SequenceSampler, count: int) -> Transitions:
        """Real steps drawn from the replay buffer with replacement."""
        steps = replay.draw(count, self.generator)
        states, next_states = (self.states(x.transpose(0, 1)) for x in (steps.states, steps.next_states[0]))
        parts = steps.actions, steps.rewards, steps.ended_by
        actions, rewards, ended_by = (x[0].transpose(0, 1) for x in parts)  # (B, N, ...)
        terminated = steps.terminated[0].unsqueeze(1) & told_of_ends(ended_by, self.told_within)  # (B, N)
        return Transitions(states, actions, rewards, next_states, terminated)

    def parts(self) -> dict[str, Any]:
        """Policy, normalizer, critic, optimizers and replay buffer."""
        return super().parts() | {"critic": self.critic, **self.update.parts(), "replay": self.replay}

    def communication(self) -> dict[str, float]:
        """Bytes that an agent receives per step.

        Acting needs neighbors' states; training, within κ hops, states and actions twice (s, a, s', a'), and what the
        Q_j expect of its own action.
        """
        states, actions, width = self.critic.neighborhood, self.critic.actions, self.features
        return {
            "comm/bytes_per_agent_step": self.policy.neighborhood.bytes_per_agent(width),
            "comm/training_bytes_per_agent_step": states.bytes_per_agent(2 * (width + actions) + actions),
        }
