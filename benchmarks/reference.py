"""DMPO the obvious way: networks of PyTorch's own for every agent and edge, and Python loops over them.

Each agent has its own modules, its own Adam and its own clipping, receives its neighbors' states through a `torch.cat`
and takes the whole batch at once. Parameters, normalizers and settings begin as copies of a stacked learner's, so that
both do the same work: the suite times one against the other, and tests compare them. Not repeated here are the stop at
a divergence, minibatches, held-out data, shared parameters, optimizers that have taken steps before and `fast_matmul`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.own_networks import members, own_feature_major_mlp, own_mlp
from dmpo.algorithms.dmpo import DMPO
from dmpo.data.replay_buffer import Sequences
from dmpo.data.rollout import Rollout
from dmpo.models.local_model import LocalModel
from dmpo.models.loss import STATE_BOUND
from dmpo.models.trainer import ModelTrainer
from dmpo.nn.critics import RETURN_MEMORY, ValueCritic
from dmpo.nn.distributions import Categorical
from dmpo.nn.normalization import SMALLEST_STD, RunningNormalizer
from dmpo.nn.policy import Policy
from dmpo.updates.ppo import PPO

EPSILON = 1e-5  # of Adam, as `StackedAdam` has it; its β are those of the paper, PyTorch's own


class Reference:
    """The work of a DMPO learner's iteration, in loops over agents.

    Args:
        learner: whose parameters are copied.
    """

    def __init__(self, learner: DMPO) -> None:
        self.learner = learner
        self.ppo = LoopedPPO(learner.update, learner.features)
        self.models = LoopedModels(learner.models.trainer)

    @torch.no_grad()
    def act(self, observations: Tensor) -> np.ndarray[Any, Any]:
        """Drawn actions for (E, N, D), in the environment's units."""
        states = self.learner.states(observations.to(self.learner.device))
        drawn = [agent.policy(states).sample() for agent in self.ppo.agents]
        return self.learner.distribution.env_actions(torch.stack(drawn, 1))

    def improve(self, batch: Rollout, epochs: int) -> None:
        """Epochs of one gradient step each on a batch of normalized states."""
        self.ppo.improve(batch, epochs)

    def update(self, sequences: Sequences) -> None:
        """One gradient step of all models."""
        self.models.update(sequences)

    @torch.no_grad()
    def rollout(self, starts: Tensor, steps: int) -> Rollout:
        """`model_starts` rollouts of T steps from states that are drawn from `starts` (S, N, D)."""
        count = self.learner.settings.model_starts
        states = list(starts[torch.randint(len(starts), (count,))].unbind(1))  # N times (B, D)
        observations, actions, old_dist_params, rewards, ended = [torch.stack(states, 1)], [], [], [], []
        before = [torch.zeros(count, dtype=torch.bool, device=starts.device)]
        for _ in range(steps):
            normalized = self.learner.states(observations[-1])  # (B, N, D)
            chosen = [agent.policy(normalized) for agent in self.ppo.agents]
            drawn = [distribution.sample() for distribution in chosen]
            next_states, step_rewards, terminated = self.models.predict(states, drawn)
            stays = before[-1].unsqueeze(1)  # (B, 1), rollouts that have ended
            states = [torch.where(stays, *pair) for pair in zip(states, next_states, strict=True)]
            observations.append(torch.stack(states, 1))
            actions.append(torch.stack(drawn, 1))
            old_dist_params.append(torch.stack([_parameters(distribution) for distribution in chosen], 1))
            rewards.append(torch.stack(step_rewards, 1))
            ended.append(torch.stack(terminated, 1).any(1))
            before.append(before[-1] | ended[-1])
        valid = ~torch.stack(before[:-1])  # (T, B)
        return Rollout(
            observations=torch.stack(observations),
            actions=torch.stack(actions),
            old_dist_params=torch.stack(old_dist_params),
            rewards=torch.stack(rewards),
            terminated=torch.stack(ended) & valid,
            truncated=torch.zeros_like(valid),
            ended_by=torch.zeros(*valid.shape, len(self.ppo.agents), dtype=torch.bool),
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
        """The distribution, from its neighborhood's states."""
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

    def __init__(self, critic: ValueCritic, agent: int, features: int) -> None:
        super().__init__()
        self.members = members(critic.neighborhood, agent)
        self.network = own_mlp(critic.network, agent, len(self.members) * features)
        self.mean, self.variance = (float(x[agent]) for x in (critic.normalizer.mean, critic.normalizer.variance))
        self.weight = float(critic.normalizer.weight)

    def forward(self, states: Tensor) -> Tensor:
        """Normalized values."""
        values: Tensor = self.network(torch.cat([states[:, j] for j in self.members], -1))
        return values.squeeze(-1)

    def values(self, batch: Rollout) -> tuple[Tensor, Tensor]:
        """V(s^t) and V(s^(t+1)) of a batch, (T, E) each, in units of the rewards."""
        values, final = (
            self.mean + self.std * self(x) for x in (batch.observations.flatten(0, 1), batch.final_observations)
        )
        values = values.view(len(batch.observations), -1)  # (T+1, E)
        next_values = values[1:].clone()
        next_values.view(-1)[batch.final_index] = final
        return values[:-1], next_values

    @property
    def std(self) -> float:
        """Of the returns."""
        return float(max(self.variance**0.5, SMALLEST_STD))

    @torch.no_grad()
    def observe(self, returns: Tensor) -> None:
        """Take in the returns (S,) of a batch; mean + std · network stays what it is, but for the first time."""
        mean, std, past = self.mean, self.std, RETURN_MEMORY * self.weight
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
    """Policy, critic and optimizers of one agent."""

    def __init__(self, ppo: PPO, agent: int, features: int) -> None:
        networks = ppo.actor_critic
        self.policy = AgentPolicy(networks.policy, agent, features)
        self.critic = AgentCritic(networks.critic, agent, features)
        self.team = members(networks.reward_neighborhood, agent)
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
        self.agents = [Agent(ppo, i, features) for i in range(ppo.actor_critic.num_agents)]

    def improve(self, batch: Rollout, epochs: int) -> None:
        """Epochs of one gradient step each."""
        targets, advantages = self.prepare(batch)
        valid = batch.valid.flatten()
        # (S, N, ...), steps that are not padding
        states, actions, old_dist_params = (
            x.flatten(0, 1)[valid] for x in (batch.observations[:-1], batch.actions, batch.old_dist_params)
        )
        with torch.no_grad():
            old = [a.policy.described(old_dist_params[:, i]).log_prob(actions[:, i]) for i, a in enumerate(self.agents)]
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
        if entropy_coef := self.settings.entropy_coef_at(0.0):
            gain = gain + entropy_coef * distribution.entropy().mean()
        error: Tensor = (agent.critic(states) - targets).square().mean()
        return error - gain

    @torch.no_grad()
    def prepare(self, batch: Rollout) -> tuple[list[Tensor], list[Tensor]]:
        """Normalized returns and standardized advantages of each agent, N times (S,), without padding."""
        settings, valid = self.settings, batch.valid.flatten()
        values, next_values = zip(*(agent.critic.values(batch) for agent in self.agents), strict=True)
        rewards = batch.rewards.unbind(-1)
        targets, advantages = [], []
        for i, agent in enumerate(self.agents):
            gains = gae(rewards[i], values[i], next_values[i], batch, settings.gamma, settings.return_lambda)
            returns = (gains + values[i]).flatten()
            agent.critic.observe(returns[valid])
            targets.append((returns[valid] - agent.critic.mean) / agent.critic.std)
            parts = rewards, values, next_values
            team = [torch.stack([x[j] for j in agent.team]).sum(0) / len(self.agents) for x in parts]
            advantage = gae(team[0], team[1], team[2], batch, settings.gamma, settings.gae_lambda).flatten()[valid]
            advantages.append((advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8))
        return targets, advantages


def gae(rewards: Tensor, values: Tensor, next_values: Tensor, batch: Rollout, gamma: float, lambda_: float) -> Tensor:
    """Generalized advantage estimates of one agent, (T, E), step by step."""
    alive = (~batch.terminated).float()
    joined = (~(batch.terminated | batch.truncated)).float()
    after, found = torch.zeros_like(rewards[0]), []
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * alive[t] * next_values[t] - values[t]
        after = delta + gamma * lambda_ * joined[t] * after
        found.append(after)
    return torch.stack(found[::-1])


class LoopedModel:
    """`dmpo.models.local_model.LocalModel`, agent by agent and edge by edge.

    Args:
        model: whose parameters are copied.
    """

    def __init__(self, model: LocalModel) -> None:
        agents = range(model.num_agents)
        self.discrete, self.neighbor_actions = model.discrete, model.neighbor_actions
        self.encoders = [own_feature_major_mlp(model.encoder, i) for i in agents]
        self.nodes = [own_feature_major_mlp(model.node, i) for i in agents]
        self.heads = [own_feature_major_mlp(model.heads, i) for i in agents]
        self.embeddings = [nn.Parameter(model.embedding.detach()[i].clone()) for i in agents]
        edges = zip(*model.edges.tolist(), strict=True)  # (j, i): from j to i
        self.edges = [(j, i, own_feature_major_mlp(model.edge, k)) for k, (j, i) in enumerate(edges)]

    def __call__(self, states: list[Tensor], actions: list[Tensor]) -> list[Tensor]:
        """N times (B, D) and (B, A) or (B,) -> N times (B, D + 2): change, reward, logit of termination."""
        agents = range(len(states))
        acted = [self.embeddings[i].T[actions[i]] for i in agents] if self.discrete else actions
        inputs = [torch.cat([states[i], acted[i]], -1) if self.neighbor_actions else states[i] for i in agents]
        encoded = [self.encoders[i](inputs[i]) for i in agents]
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
    """The update and the predictions of `dmpo.models.trainer.ModelTrainer`.

    Args:
        models: whose parameters and normalizers are copied.
    """

    def __init__(self, models: ModelTrainer) -> None:
        self.model, self.settings = LoopedModel(models.model), models.settings
        self.optimizers = [(g, _adam(g, self.settings.lr_model)) for g in self.model.parameter_groups()]
        self.states, self.changes = _of_agents(models.state_normalizer), _of_agents(models.change_normalizer)
        self.actions, self.rewards = _of_agents(models.action_normalizer), _of_agents(models.reward_normalizer)
        self.terminal_rewards = _of_agents(models.terminal_reward_normalizer)

    def outputs(self, states: list[Tensor], actions: list[Tensor]) -> list[Tensor]:
        """Normalized outputs of the models for states and actions in the environment's units."""
        pairs = zip(states, self.states, strict=True)
        normalized = [((x - mean) / std).clamp(-STATE_BOUND, STATE_BOUND) for x, (mean, std) in pairs]
        if self.model.discrete:
            return self.model(normalized, actions)
        acted = [(x.clamp(-1, 1) - mean) / std for x, (mean, std) in zip(actions, self.actions, strict=True)]
        return self.model(normalized, acted)

    def update(self, sequences: Sequences) -> None:
        """One gradient step of all models."""
        for _, optimizer in self.optimizers:
            optimizer.zero_grad()
        torch.stack(self.losses(sequences)).sum().backward()  # type: ignore[no-untyped-call]
        for group, optimizer in self.optimizers:
            nn.utils.clip_grad_norm_(group, self.settings.model_max_grad_norm)
            optimizer.step()

    def losses(self, sequences: Sequences) -> list[Tensor]:
        """MSE(s) + c_r MSE(r) + BCE(d) of each agent, over H steps in open loop."""
        states, terminated = list(sequences.states), sequences.terminated.float()
        totals = [torch.zeros(()) for _ in states]
        for h, actions in enumerate(sequences.actions):
            outputs = self.outputs(states, list(actions))
            for i, output in enumerate(outputs):
                (change_mean, change_std), (reward_mean, reward_std) = self.changes[i], self.rewards[i]
                change = (sequences.next_states[h, i] - states[i] - change_mean) / change_std
                reward = (sequences.rewards[h, i] - reward_mean) / reward_std
                state_error = (output[:, :-2] - change).square().mean()
                reward_error = ((output[:, -2] - reward).square() * (1 - terminated[h])).mean()
                termination_error = binary_cross_entropy_with_logits(output[:, -1], terminated[h])
                loss = state_error + self.settings.model_reward_coef * reward_error + termination_error
                totals[i] = totals[i] + loss / len(sequences.actions)
                states[i] = states[i] + change_mean + change_std * output[:, :-2]
        return totals

    @torch.no_grad()
    def predict(self, states: list[Tensor], actions: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Next states, rewards and terminations, each N times (B, ...), in the environment's units."""
        next_states, rewards, terminated = [], [], []
        for i, output in enumerate(self.outputs(states, actions)):
            (change_mean, change_std), (reward_mean, reward_std) = self.changes[i], self.rewards[i]
            ends = output[:, -1] > 0
            next_states.append(states[i] + change_mean + change_std * output[:, :-2])
            rewards.append(torch.where(ends, self.terminal_rewards[i][0], reward_mean + reward_std * output[:, -2]))
            terminated.append(ends)
        return next_states, rewards, terminated


def _adam(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=rate, eps=EPSILON)


def _of_agents(normalizer: RunningNormalizer) -> list[tuple[Tensor, Tensor]]:
    # Mean and standard deviation of each agent.
    return [(mean.clone(), std.clone()) for mean, std in zip(normalizer.mean, normalizer.std, strict=True)]


def _parameters(distribution: td.Distribution) -> Tensor:
    # (B, P), as the stacked policies describe their distributions.
    if isinstance(distribution, td.Categorical):
        return distribution.logits
    assert isinstance(distribution, td.Independent)
    normal = distribution.base_dist
    return torch.cat([normal.loc, normal.scale.log()], -1)
