"""Recurrent policies with gated communication (IC3Net, Singh et al. 2018).

Communication is an action like any other: with its action, each agent draws a gate that decides whether its neighbors
receive its hidden state in the next step.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import gymnasium
import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from dmpo.nn.distributions import Categorical, Distribution
from dmpo.nn.layers import HIDDEN_GAIN, StackedLinear, StackedTanh
from dmpo.nn.local_policy import LocalPolicy
from dmpo.nn.normalization import ReturnNormalizer

HEAD_GAIN = 0.01  # the untrained policy hardly depends on the state
RETURN_MEMORY = 0.95  # batches are short, and there are many of them
GATE = gymnasium.spaces.Discrete(2)  # closed, open


class GatedDistribution:
    """An action, and independently of it the choice of a gate: log π(a, g) = log π(a) + log π(g).

    Actions are (..., N, A+1) float32, or (..., N, 2) int64 where they are discrete, the gate last: 1 is open. The last
    two parameters are the gate's log-probabilities. Otherwise as the distribution of the action.

    Args:
        inner: of the action.
    """

    def __init__(self, inner: Distribution) -> None:
        self.inner, self.gate = inner, Categorical(GATE)
        self.discrete = isinstance(inner, Categorical)
        self.actions, self.outputs, self.scales = inner.actions, inner.outputs + self.gate.outputs, inner.scales

    def init_outputs(self, mean: float, log_std: float) -> Tensor:
        """(P',): a gate is as likely to be open as closed."""
        return torch.cat([self.inner.init_outputs(mean, log_std), self.gate.init_outputs(0.0, 0.0)])

    def dist_params(self, outputs: Tensor, log_std: Tensor) -> Tensor:
        """(..., N, P)."""
        act, gate = self._parts(outputs)
        return torch.cat([self.inner.dist_params(act, log_std), self.gate.dist_params(gate, log_std)], -1)

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Drawn actions with gates."""
        act, gate = self._parts(parameters)
        return self._join(self.inner.sample(act, generator), self.gate.sample(gate, generator))

    def mode(self, parameters: Tensor) -> Tensor:
        """The likeliest actions with the likeliest gates."""
        act, gate = self._parts(parameters)
        return self._join(self.inner.mode(act), self.gate.mode(gate))

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Log π(a) + log π(g), (..., N)."""
        (act, gate), (action, opened) = self._parts(parameters), self.split(actions)
        return self.inner.log_prob(act, action) + self.gate.log_prob(gate, opened.long())

    def entropy(self, parameters: Tensor) -> Tensor:
        """Entropy of action and gate, (..., N)."""
        act, gate = self._parts(parameters)
        return self.inner.entropy(act) + self.gate.entropy(gate)

    def env_actions(self, actions: Tensor) -> np.ndarray[Any, Any]:
        """The actions alone, in the environment's units."""
        return self.inner.env_actions(self.split(actions)[0])

    def split(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Actions as of the inner distribution, and open gates, (..., N) bool."""
        return actions[..., 0] if self.discrete else actions[..., :-1], actions[..., -1] == 1

    def _join(self, actions: Tensor, gates: Tensor) -> Tensor:
        gates = gates.unsqueeze(-1).to(actions.dtype)
        return torch.cat([actions.unsqueeze(-1) if self.discrete else actions, gates], -1)

    def _parts(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return numbers[..., : -self.gate.outputs], numbers[..., -self.gate.outputs :]


@dataclass(frozen=True)
class RecurrentState:
    """State that agents carry into the next step."""

    hidden: Tensor  # (..., E, N, H), h
    cell: Tensor  # (..., E, N, H)
    gate: Tensor  # (..., E, N) bool, whether neighbors receive the hidden state

    def __getitem__(self, index: Tensor) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def flatten(self) -> Self:
        """(T, E, N, ...) -> (T·E, N, ...)."""
        return type(self)(**{f.name: getattr(self, f.name).flatten(0, 1) for f in fields(self)})

    def reset(self, first: Tensor) -> Self:
        """Copy with zeros where an episode begins, first (E,) bool."""
        rows = first[:, None, None]
        hidden, cell = self.hidden.masked_fill(rows, 0.0), self.cell.masked_fill(rows, 0.0)
        return type(self)(hidden, cell, self.gate & ~first[:, None])


class RecurrentPolicy(LocalPolicy):
    """π_i(a_i, g_i | h_i) and V_i(h_i), one set of parameters for all agents (sections 3.1 and 3.2).

    c_i^t = C · 1/|N_i| Σ_{j∈N_i} g_j^t h_j^t;  h_i^{t+1}, s_i^{t+1} = LSTM(e(o_i^t) + c_i^t, h_i^t, s_i^t),

    where N_i are the neighbors of i without itself, as in the paper on a complete graph; the mean over none is zero.
    A mean tells no neighbors apart, so that any graph of any number of agents will do.
    h^t and the gates g^t are those of the step before, so that a message travels one hop a step. Values are
    mean + std · head(h_i), see `ReturnNormalizer`.

    Args:
        graph: who talks to whom.
        features: D, the width of one agent's state.
        distribution: of one agent's actions and gate.
        width: H, of the hidden state.
        init_outputs: (P',), outputs of the untrained policy's head, whatever the state.
        init_log_std: initial value of the learned parameters that do not depend on the state.
        generator: of the initial weights.
    """

    def __init__(
        self,
        graph: nx.Graph,
        features: int,
        distribution: GatedDistribution,
        *,
        width: int,
        init_outputs: Tensor,
        init_log_std: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(graph)
        self.distribution, self.width = distribution, width
        self.encoder = StackedTanh(1, features, width, HIDDEN_GAIN, generator)  # e

        def drawn(*shape: int) -> nn.Parameter:
            bound = width**-0.5  # as PyTorch draws them
            return nn.Parameter(torch.empty(1, *shape).uniform_(-bound, bound, generator=generator))

        self.message = drawn(width, width)  # C
        self.input_weight, self.hidden_weight = drawn(4 * width, width), drawn(4 * width, width)
        self.lstm_bias = drawn(4 * width)
        self.head = StackedLinear(1, width, distribution.outputs, HEAD_GAIN, generator)
        self.value_head = StackedLinear(1, width, 1, 1.0, generator)
        with torch.no_grad():
            self.head.bias.copy_(init_outputs)
        self.log_std = nn.Parameter(torch.full((1, distribution.scales), init_log_std))  # (1, A), or (1, 0)
        self.normalizer = ReturnNormalizer(1, RETURN_MEMORY)

    def initial_state(self, environments: int) -> RecurrentState:
        """State of agents that begin an episode, (E, N, ...)."""
        shape = environments, self.neighborhood.num_agents
        hidden = self.message.new_zeros(*shape, self.width)
        return RecurrentState(hidden, hidden, hidden.new_zeros(shape, dtype=torch.bool))

    def forward(self, states: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor]:
        """One step: states (E, N, D) and recurrent state -> hidden states and cells (E, N, H)."""
        return self._step(_each(self.encoder, states), state)

    def unroll(self, states: Tensor, first: Tensor, gates: Tensor, state: RecurrentState) -> RecurrentState:
        """Recurrent state after each of T steps.

        Args:
            states: (T, E, N, D).
            first: (T, E) bool, steps that begin an episode, where the state is reset.
            gates: (T, E, N) bool, drawn in these steps.
            state: (E, N, ...), at the first step.

        Returns:
            (T, E, N, ...).
        """
        encoded = _each(self.encoder, states)  # (T, E, N, H)
        hidden, cells = [], []
        for t in range(len(states)):
            state = RecurrentState(*self._step(encoded[t], state.reset(first[t])), gates[t])
            hidden.append(state.hidden)
            cells.append(state.cell)
        return RecurrentState(torch.stack(hidden), torch.stack(cells), gates)

    def decide(self, hidden: Tensor) -> Tensor:
        """(..., N, H) -> (..., N, P), the parameters of the distribution."""
        return self.distribution.dist_params(_each(self.head, hidden), self.log_std)

    def normalized_values(self, hidden: Tensor) -> Tensor:
        """(..., N, H) -> (..., N), in units of the standard deviation of the returns."""
        return _each(self.value_head, hidden).squeeze(-1)

    def values(self, hidden: Tensor) -> Tensor:
        """(..., N, H) -> (..., N), in units of the rewards."""
        return self.normalizer.denormalize(self.normalized_values(hidden))

    def mean_over_neighborhood(self, state: RecurrentState) -> Tensor:
        """1/|N_i| Σ_{j∈N_i} g_j h_j, (E, N, H), exactly zero where all gates are closed or there is nobody."""
        sent = state.hidden.masked_fill(~state.gate.unsqueeze(-1), 0.0)
        others = self.neighborhood.gather(sent)[..., 1:, :]  # (E, N, K - 1, H)
        return others.sum(-2) / (self.neighborhood.sizes - 1).clamp(min=1).unsqueeze(-1)

    def _step(self, encoded: Tensor, state: RecurrentState) -> tuple[Tensor, Tensor]:
        inputs = encoded + self.mean_over_neighborhood(state) @ self.message[0]  # (E, N, H)
        previous = state.hidden.flatten(0, 1), state.cell.flatten(0, 1)
        weights = self.input_weight[0], self.hidden_weight[0], self.lstm_bias[0]
        hidden, cell = torch.lstm_cell(inputs.flatten(0, 1), previous, *weights)  # (E·N, H)
        return hidden.view_as(state.hidden), cell.view_as(state.cell)


def _each(layer: nn.Module, x: Tensor) -> Tensor:
    # One layer for all agents, (..., inputs) -> (..., outputs).
    y: Tensor = layer(x.reshape(1, -1, x.shape[-1]))
    return y.reshape(*x.shape[:-1], y.shape[-1])
