"""DMPO the obvious way: networks of PyTorch's own for every agent and edge, and Python loops over them.

Each agent has its own modules, its own Adam and its own clipping, hears its neighbors through a `torch.cat` of their
states, and takes the whole batch at once. Parameters, moments and settings begin as copies of a stacked learner's, so
that both do the same work: the suite times one against the other, and tests hold one against the other. Not repeated
here are the stop at a divergence, minibatches, held-out data, shared parameters and optimizers that have gone on.
Matrices are multiplied as PyTorch comes, and not as in `dmpo.nn.matmul`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.nn.functional import binary_cross_entropy_with_logits

from dmpo.algorithms.dmpo import DMPO
from dmpo.data.replay_buffer import Windows
from dmpo.data.rollout import Rollout
from dmpo.models.local_model import LocalModel
from dmpo.models.trainer import FAR, ModelLearner
from dmpo.nn.critics import MEMORY, Critic
from dmpo.nn.distributions import Categorical
from dmpo.nn.layers import ColumnLayer, StackedColumns, StackedMLP
from dmpo.nn.normalization import SMALLEST_STD, Moments
from dmpo.nn.policy import Policy
from dmpo.updates.ppo import PPO
from graphs import Neighborhood

EPSILON = 1e-5  # of Adam, as `StackedAdam` has it; its β are those of the paper, PyTorch's own


class Reference:
    """The work of a DMPO learner's iteration, in loops over agents.

    Args:
        learner: whose parameters are copied.
    """

    def __init__(self, learner: DMPO) -> None:
        self.learner = learner
        self.ppo = LoopedPPO(learner.ppo, learner.features)
        self.models = LoopedModels(learner.practice.models)

    @torch.no_grad()
    def act(self, observations: Tensor) -> np.ndarray[Any, Any]:
        """Drawn actions for (E, N, D), in the environment's units."""
        states = self.learner.states(observations.to(self.learner.device))
        drawn = [agent.policy(states).sample() for agent in self.ppo.agents]
        return self.learner.distribution.commands(torch.stack(drawn, 1))

    def improve(self, batch: Rollout, epochs: int) -> None:
        """Epochs of one gradient step each on a batch of normalized states."""
        self.ppo.improve(batch, epochs)

    def update(self, windows: Windows) -> None:
        """One gradient step of all models."""
        self.models.update(windows)

    @torch.no_grad()
    def imagine(self, starts: Tensor, steps: int) -> Rollout:
        """`model_starts` rollouts of T steps from states that are drawn from `starts` (S, N, D)."""
        count = self.learner.settings.model_starts
        states = list(starts[torch.randint(len(starts), (count,))].unbind(1))  # N times (B, D)
        observations, actions, behavior, rewards, ended = [torch.stack(states, 1)], [], [], [], []
        before = [torch.zeros(count, dtype=torch.bool, device=starts.device)]
        for _ in range(steps):
            told = self.learner.states(observations[-1])  # (B, N, D)
            chosen = [agent.policy(told) for agent in self.ppo.agents]
            drawn = [distribution.sample() for distribution in chosen]
            following, paid, ends = self.models.predict(states, drawn)
            over = before[-1].unsqueeze(1)  # (B, 1), whose states stay where they are
            states = [torch.where(over, *pair) for pair in zip(states, following, strict=True)]
            observations.append(torch.stack(states, 1))
            actions.append(torch.stack(drawn, 1))
            behavior.append(torch.stack([_parameters(distribution) for distribution in chosen], 1))
            rewards.append(torch.stack(paid, 1))
            ended.append(torch.stack(ends, 1).any(1))
            before.append(before[-1] | ended[-1])
        valid = ~torch.stack(before[:-1])  # (T, B)
        return Rollout(
            observations=torch.stack(observations),
            actions=torch.stack(actions),
            behavior=torch.stack(behavior),
            rewards=torch.stack(rewards),
            terminated=torch.stack(ended) & valid,
            truncated=torch.zeros_like(valid),
            valid=valid,
            final_index=torch.empty(0, dtype=torch.int64),
            final_observations=observations[0][:0],
        )


class AgentPolicy(nn.Module):
    """One agent's policy: (B, N, D) -> a distribution over its actions, (B,) or (B, A)."""

    def __init__(self, policy: Policy, agent: int, features: int) -> None:
        super().__init__()
        self.discrete = isinstance(policy.distribution, Categorical)
        self.members = members(policy.neighborhood, agent)
        self.network = own_mlp(policy.network, agent, len(self.members) * features)
        self.log_std = nn.Parameter(policy.log_std.detach()[agent].clone())  # (A,)

    def forward(self, states: Tensor) -> td.Distribution:
        """The distribution, from the states of those it hears."""
        outputs = self.network(torch.cat([states[:, j] for j in self.members], -1))
        return self.described(outputs if self.discrete else torch.cat([outputs, self.log_std.expand_as(outputs)], -1))

    def described(self, parameters: Tensor) -> td.Distribution:
        """The distribution with the parameters (B, P) of the stacked policies."""
        if self.discrete:
            return td.Categorical(logits=parameters, validate_args=False)
        mean, log_std = parameters.chunk(2, -1)
        return td.Independent(td.Normal(mean, log_std.exp(), validate_args=False), 1, validate_args=False)


class AgentCritic(nn.Module):
    """One agent's values: (B, N, D) -> (B,) in units of its returns' standard deviation."""

    def __init__(self, critic: Critic, agent: int, features: int) -> None:
        super().__init__()
        self.members = members(critic.neighborhood, agent)
        self.network = own_mlp(critic.network, agent, len(self.members) * features)
        self.mean, self.variance = (float(x[agent]) for x in (critic.moments.mean, critic.moments.variance))
        self.weight = float(critic.moments.weight)

    def forward(self, states: Tensor) -> Tensor:
        """Normalized values."""
        values: Tensor = self.network(torch.cat([states[:, j] for j in self.members], -1))
        return values.squeeze(-1)

    def values(self, batch: Rollout) -> tuple[Tensor, Tensor]:
        """V(s^t) and V(s^(t+1)) of a batch, (T, E) each, in units of the rewards."""
        seen, last = (
            self.mean + self.std * self(x) for x in (batch.observations.flatten(0, 1), batch.final_observations)
        )
        seen = seen.view(len(batch.observations), -1)  # (T+1, E)
        following = seen[1:].clone()
        following.view(-1)[batch.final_index] = last
        return seen[:-1], following

    @property
    def std(self) -> float:
        """Of the returns."""
        return float(max(self.variance**0.5, SMALLEST_STD))

    @torch.no_grad()
    def observe(self, returns: Tensor) -> None:
        """Take in the returns (S,) of a batch; mean + std · network stays what it is, but for the first time."""
        mean, std, past = self.mean, self.std, MEMORY * self.weight
        share, apart = len(returns) / (past + len(returns)), float(returns.mean()) - self.mean
        spread = float(returns.var(correction=0))
        self.variance = self.variance * (1 - share) + spread * share + apart**2 * share * (1 - share)
        self.mean += apart * share
        self.weight = past + len(returns)
        head = self.network[-1]
        if past and isinstance(head, nn.Linear):
            head.weight.mul_(std / self.std)
            head.bias.mul_(std / self.std).add_((mean - self.mean) / self.std)


class Agent:
    """What one agent acts and judges with, and what takes its steps."""

    def __init__(self, ppo: PPO, agent: int, features: int) -> None:
        self.policy, self.critic = AgentPolicy(ppo.policy, agent, features), AgentCritic(ppo.critic, agent, features)
        self.team = members(ppo.over, agent)
        self.max_norm = ppo.settings.max_grad_norm
        rates = {self.policy: ppo.settings.lr_policy, self.critic: ppo.settings.lr_value}
        self.optimizers = {module: _adam(module.parameters(), rate) for module, rate in rates.items()}

    def step(self, loss: Tensor) -> None:
        """One gradient step of policy and values."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for module, optimizer in self.optimizers.items():
            nn.utils.clip_grad_norm_(module.parameters(), self.max_norm)
            optimizer.step()


class LoopedPPO:
    """The update of `dmpo.updates.ppo.PPO` at the beginning of training, whole batches only.

    Args:
        ppo: with parameters of their own for all agents.
        features: D, numbers in one agent's state.
    """

    def __init__(self, ppo: PPO, features: int) -> None:
        self.settings = ppo.settings
        self.agents = [Agent(ppo, i, features) for i in range(ppo.policy.neighborhood.num_agents)]

    def improve(self, batch: Rollout, epochs: int) -> None:
        """Epochs of one gradient step each."""
        targets, advantages = self.prepare(batch)
        valid = batch.valid.flatten()
        # (T·E, N, ...), of what is no padding
        states, actions, behavior = (
            x.flatten(0, 1)[valid] for x in (batch.observations[:-1], batch.actions, batch.behavior)
        )
        with torch.no_grad():
            old = [a.policy.described(behavior[:, i]).log_prob(actions[:, i]) for i, a in enumerate(self.agents)]
        for _ in range(epochs):
            for i, agent in enumerate(self.agents):
                agent.step(self.loss(agent, states, actions[:, i], old[i], advantages[i], targets[i]))

    def loss(
        self, agent: Agent, states: Tensor, actions: Tensor, old: Tensor, advantage: Tensor, targets: Tensor
    ) -> Tensor:
        """Minus clipped surrogate and entropy bonus, plus the values' squared error (eq. 7): a number."""
        distribution = agent.policy(states)
        ratio = torch.exp(distribution.log_prob(actions) - old)
        clipped = ratio.clamp(1 - self.settings.clip, 1 + self.settings.clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
        if bonus := self.settings.entropy_weight(0.0):
            gain = gain + bonus * distribution.entropy().mean()
        error: Tensor = (agent.critic(states) - targets).square().mean()
        return error - gain

    @torch.no_grad()
    def prepare(self, batch: Rollout) -> tuple[list[Tensor], list[Tensor]]:
        """Normalized returns and standardized advantages of each agent, N times (S,), of what is no padding."""
        settings, valid = self.settings, batch.valid.flatten()
        values, following = zip(*(agent.critic.values(batch) for agent in self.agents), strict=True)
        rewards = batch.rewards.unbind(-1)
        targets, advantages = [], []
        for i, agent in enumerate(self.agents):
            gains = gae(rewards[i], values[i], following[i], batch, settings.gamma, settings.return_lambda)
            returns = (gains + values[i]).flatten()
            agent.critic.observe(returns[valid])
            targets.append((returns[valid] - agent.critic.mean) / agent.critic.std)
            team = [
                torch.stack([x[j] for j in agent.team]).sum(0) / len(self.agents) for x in (rewards, values, following)
            ]
            advantage = gae(team[0], team[1], team[2], batch, settings.gamma, settings.gae_lambda).flatten()[valid]
            advantages.append((advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8))
        return targets, advantages


def gae(rewards: Tensor, values: Tensor, following: Tensor, batch: Rollout, gamma: float, lambda_: float) -> Tensor:
    """Generalized advantage estimates of one agent, (T, E), step by step."""
    alive = (~batch.terminated).float()
    joined = (~(batch.terminated | batch.truncated)).float()
    after, found = torch.zeros_like(rewards[0]), []
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * alive[t] * following[t] - values[t]
        after = delta + gamma * lambda_ * joined[t] * after
        found.append(after)
    return torch.stack(found[::-1])


class LoopedModel:
    """What `dmpo.models.local_model.LocalModel` gives, agent by agent and edge by edge.

    Args:
        model: whose parameters are copied.
    """

    def __init__(self, model: LocalModel) -> None:
        agents = range(model.num_agents)
        self.discrete, self.hears_actions = model.discrete, model.hears_actions
        self.encoders = [own_columns(model.encoder, i) for i in agents]
        self.nodes = [own_columns(model.node, i) for i in agents]
        self.heads = [own_columns(model.heads, i) for i in agents]
        self.embeddings = [nn.Parameter(model.embedding.detach()[i].clone()) for i in agents]
        edges = zip(*model.edges.tolist(), strict=True)  # (j, i): j speaks to i
        self.edges = [(j, i, own_columns(model.edge, k)) for k, (j, i) in enumerate(edges)]

    def __call__(self, states: list[Tensor], actions: list[Tensor]) -> list[Tensor]:
        """N times (B, D) and (B, A) or (B,) -> N times (B, D + 2): change, reward, logit of the end."""
        agents = range(len(states))
        acted = [self.embeddings[i].T[actions[i]] for i in agents] if self.discrete else actions
        told = [torch.cat([states[i], acted[i]], -1) if self.hears_actions else states[i] for i in agents]
        encoded = [self.encoders[i](told[i]) for i in agents]
        received = [torch.zeros(()) for _ in agents]
        for j, i, network in self.edges:
            received[i] = received[i] + network(torch.cat([encoded[i], encoded[j]], -1))
        return [self.heads[i](self.nodes[i](torch.cat([received[i], acted[i]], -1))) for i in agents]

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of each agent, then those of each edge."""
        own = [
            [parameter for module in modules for parameter in module.parameters()]
            for modules in zip(self.encoders, self.nodes, self.heads, strict=True)
        ]
        of_agents = [[*parameters, embedding] for parameters, embedding in zip(own, self.embeddings, strict=True)]
        return of_agents + [list(network.parameters()) for _, _, network in self.edges]


class LoopedModels:
    """The update and the predictions of `dmpo.models.trainer.ModelLearner`.

    Args:
        models: whose parameters and moments are copied.
    """

    def __init__(self, models: ModelLearner) -> None:
        self.model, self.settings = LoopedModel(models.model), models.settings
        self.optimizers = [(g, _adam(g, self.settings.lr_model)) for g in self.model.parameter_groups()]
        self.states, self.changes = _of_agents(models.states), _of_agents(models.changes)
        self.actions = _of_agents(models.actions)
        self.rewards, self.last_rewards = _of_agents(models.rewards), _of_agents(models.last_rewards)

    def outputs(self, states: list[Tensor], actions: list[Tensor]) -> list[Tensor]:
        """What the models say of states and actions in the environment's units, normalized."""
        near = [((x - mean) / std).clamp(-FAR, FAR) for x, (mean, std) in zip(states, self.states, strict=True)]
        if self.model.discrete:
            return self.model(near, actions)
        acted = [(x.clamp(-1, 1) - mean) / std for x, (mean, std) in zip(actions, self.actions, strict=True)]
        return self.model(near, acted)

    def update(self, windows: Windows) -> None:
        """One gradient step of all models."""
        for _, optimizer in self.optimizers:
            optimizer.zero_grad()
        torch.stack(self.losses(windows)).sum().backward()  # type: ignore[no-untyped-call]
        for group, optimizer in self.optimizers:
            nn.utils.clip_grad_norm_(group, self.settings.model_max_grad_norm)
            optimizer.step()

    def losses(self, windows: Windows) -> list[Tensor]:
        """MSE(s) + c_r MSE(r) + BCE(d) of each agent, over H steps in open loop."""
        states, ends = list(windows.states), windows.ends.float()
        totals = [torch.zeros(()) for _ in states]
        for h, actions in enumerate(windows.actions):
            outputs = self.outputs(states, list(actions))
            for i, output in enumerate(outputs):
                (middle, spread), (usual, size) = self.changes[i], self.rewards[i]
                change = (windows.following[h, i] - states[i] - middle) / spread
                reward = (windows.rewards[h, i] - usual) / size
                error = (output[:, :-2] - change).square().mean()
                paid = ((output[:, -2] - reward).square() * (1 - ends[h])).mean()
                end = binary_cross_entropy_with_logits(output[:, -1], ends[h])
                totals[i] = totals[i] + (error + self.settings.model_reward_coef * paid + end) / len(windows.actions)
                states[i] = states[i] + middle + spread * output[:, :-2]
        return totals

    @torch.no_grad()
    def predict(self, states: list[Tensor], actions: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """States, rewards and ends that follow, each N times (B, ...), in the environment's units."""
        following, rewards, ends = [], [], []
        for i, output in enumerate(self.outputs(states, actions)):
            (middle, spread), (usual, size) = self.changes[i], self.rewards[i]
            end = output[:, -1] > 0
            following.append(states[i] + middle + spread * output[:, :-2])
            rewards.append(torch.where(end, self.last_rewards[i][0], usual + size * output[:, -2]))
            ends.append(end)
        return following, rewards, ends


def members(neighborhood: Neighborhood, agent: int) -> list[int]:
    """Whom an agent hears, itself first, without padding."""
    return neighborhood.index[agent][neighborhood.mask[agent]].tolist()


def own_mlp(network: StackedMLP, stack: int, inputs: int | None = None) -> nn.Sequential:
    """One agent's copy of a stacked network; of the first `inputs` numbers only, where the rest is padding."""
    layers: list[nn.Module] = []
    for layer in [*network.hidden, network.head]:
        weight = layer.weight.detach()[stack].T if layers else layer.weight.detach()[stack, :inputs].T
        layers += [_linear(weight, layer.bias.detach()[stack, 0]), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def own_columns(layers: StackedColumns, stack: int) -> nn.Sequential:
    """One agent's or edge's copy of stacked layers whose samples come last; here they come first, (B, inputs)."""
    parts: list[nn.Module] = []
    for layer in cast(Iterable[ColumnLayer], layers):
        parts.append(_linear(layer.weight.detach()[stack], layer.bias.detach()[stack, :, 0]))
        parts += [nn.ReLU()] if layer.relu else []
    return nn.Sequential(*parts)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    linear.weight.data, linear.bias.data = weight.clone(memory_format=torch.contiguous_format), bias.clone()
    return linear


def _adam(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=rate, eps=EPSILON)


def _of_agents(moments: Moments) -> list[tuple[Tensor, Tensor]]:
    # Mean and standard deviation of each agent.
    return [(mean.clone(), std.clone()) for mean, std in zip(moments.mean, moments.std, strict=True)]


def _parameters(distribution: td.Distribution) -> Tensor:
    # (B, P), as the stacked policies describe their distributions.
    if isinstance(distribution, td.Categorical):
        return distribution.logits
    assert isinstance(distribution, td.Independent)
    normal = distribution.base_dist
    return torch.cat([normal.loc, normal.scale.log()], -1)
