"""Localized models: p̂_i(s_i', r_i, d_i | states of N_i^1, a_i), one graph convolution (DMPO paper, eqs. 2-4)."""

from typing import NamedTuple

import networkx as nx
import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from dmpo.nn.layers import FeatureMajorMLP, chain, parameters_of
from graphs import Neighborhood

INIT_END_LOGIT = -5.0  # ends are rare, and before any is seen none should be predicted
EMBEDDING_SIZE = 4  # of a discrete action


class Prediction(NamedTuple):
    """Predictions of the models, all (N, B, ...), in normalized units."""

    change: Tensor  # (N, B, D), s' - s
    reward: Tensor  # (N, B)


class LocalModel(MessagePassing):  # type: ignore[misc]
    """One model per agent, with its own parameters and one message function of its own on each edge.

    h_i⁰ = f_i^enc(s_i);  h_(i,j) = f_(i,j)^edge(h_i⁰, h_j⁰);  h_i¹ = f_i^node(Σ_{j∈N_i^1} h_(i,j), a_i);
    s_i' = s_i + f_i^state(h_i¹),  r_i = f_i^reward(h_i¹),  d_i = σ(f_i^end(s_i')).

    d_i is whether the agent's own state ends the episode, and so it depends on the state that the step leads to. The
    paper's f^done(h_i¹) would have to find that state a second time, from few ends (`benchmarks/README.md` has both).

    With `neighbor_actions` it is p̂_i(· | states and actions of N_i^1): h_i⁰ = f_i^enc(s_i, a_i). Where an agent senses
    others, such as its gap to the one in front, their actions move its own state within the step, and to a model that
    does not receive them they are noise.

    N_i^1 is closed: there is an edge from each agent to itself, so that an agent without neighbors sees its own state.

    Args:
        graph: who talks to whom.
        features: D, the width of one agent's state.
        actions: A where actions are continuous; the number of actions where they are discrete.
        discrete: which of the two.
        neighbor_actions: whether messages carry actions as well as states.
        own_gradient: whether the gradient of an agent's loss ends where a neighbor's message arrives, instead of
            reaching that neighbor's encoder and, over several steps, its whole model.
        encoding: width of h⁰.
        hidden: width of the two hidden layers of f^edge and f^node, and of the one of f^end.
        message: width of the messages.
        generator: of the initial weights.

    Shapes:
        states (N, B, D), actions (N, B, A) or (N, B) int64 -> a `Prediction`. The agents come first, as the parameters
        are stacked over them.
    """

    def __init__(
        self,
        graph: nx.Graph,
        features: int,
        *,
        actions: int,
        discrete: bool,
        neighbor_actions: bool,
        own_gradient: bool,
        encoding: int,
        hidden: int,
        message: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(aggr=None, node_dim=0)
        near = Neighborhood(graph, hops=1)
        self.num_agents, self.features = near.num_agents, features
        target, place = near.mask.nonzero(as_tuple=True)  # (M,) edges, those to oneself included
        self.messages = near.messages  # those to oneself are not
        self.register_buffer("edges", torch.stack([near.index[target, place], target]))  # (2, M): from j, to i
        n = self.num_agents
        width = EMBEDDING_SIZE if discrete else actions
        inputs = features + width if neighbor_actions else features
        self.encoder = FeatureMajorMLP(n, [inputs, encoding], True, generator)
        self.edge = FeatureMajorMLP(len(target), [2 * encoding, hidden, hidden, message], False, generator)
        self.actions, self.discrete, self.neighbor_actions = actions, discrete, neighbor_actions
        self.own_gradient = own_gradient
        embedding = EMBEDDING_SIZE, actions if discrete else 0
        self.embedding = nn.Parameter(torch.randn(n, *embedding, generator=generator))  # (N, EMBEDDING_SIZE, actions)
        self.node = FeatureMajorMLP(n, [message + width, hidden, hidden, encoding], True, generator)
        self.heads = FeatureMajorMLP(n, [encoding, features + 1], False, generator)
        self.end = FeatureMajorMLP(n, [features, hidden, 1], False, generator)
        nn.init.constant_(self.end.get_parameter("1.bias"), INIT_END_LOGIT)

    def forward(self, states: Tensor, actions: Tensor) -> Prediction:
        """(N, B, D) and (N, B, A) or (N, B) -> `Prediction`."""
        outputs = self.step(states.transpose(1, 2), self.encode_actions(actions)).transpose(1, 2)  # (N, B, D + 1)
        return Prediction(outputs[..., :-1], outputs[..., -1])

    def end_logits(self, next_states: Tensor) -> Tensor:
        """Logits of d_i for the states that a step leads to, (N, D, B) -> (N, B)."""
        logits: Tensor = self.end(next_states).squeeze(1)
        return logits

    def step(self, states: Tensor, encoded_actions: Tensor) -> Tensor:
        """`forward` with the samples last and with encoded actions.

        (N, D, B) and (N, EMBEDDING_SIZE or A, B) -> (N, D + 1, B), the changes and the reward.
        """
        inputs = torch.cat([states, encoded_actions], 1) if self.neighbor_actions else states
        received = self.propagate(self.edges, encoded=self.encoder(inputs))  # (N, message, B)
        return chain(torch.cat([received, encoded_actions], 1), self.node, self.heads)

    def networks(self) -> dict[str, tuple[list[Tensor], bool]]:
        """Parameters, and whether a max ends them, of encoder, edge and node, as `fused_model_gradients` takes them.

        f^end is none of them: it is fitted to real states, not along a rollout.
        """
        node = parameters_of([self.node, self.heads])
        return {
            "encoder": (parameters_of([self.encoder]), True),
            "edge": (parameters_of([self.edge]), False),
            "node": (node, False),
        }

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of agents, (N, ...) each, and those of edges, (M, ...) each."""
        of_edges = list(self.edge.parameters())
        known = set(map(id, of_edges))
        return [[p for p in self.parameters() if id(p) not in known and p.numel()], of_edges]

    def owners(self) -> list[Tensor]:
        """Agents whose the rows of each group of parameters are, (N,) and (M,)."""
        return [torch.arange(self.num_agents, device=self.edges.device), self.edges[1]]

    def message(self, encoded_i: Tensor, encoded_j: Tensor) -> Tensor:
        """h_(i,j) of all edges at once, (M, encoding, B) twice -> (M, message, B); eq. 3."""
        if self.own_gradient:
            own = (self.edges[0] == self.edges[1]).view(-1, 1, 1)
            encoded_j = torch.where(own, encoded_j, encoded_j.detach())
        messages: Tensor = self.edge(torch.cat([encoded_i, encoded_j], 1))
        return messages

    def aggregate(self, inputs: Tensor, index: Tensor) -> Tensor:
        """Σ_{j∈N_i^1} h_(i,j), (M, message, B) -> (N, message, B); several times as fast as the library's scatter."""
        return inputs.new_zeros(self.num_agents, *inputs.shape[1:]).index_add(0, index, inputs)

    def encode_actions(self, actions: Tensor) -> Tensor:
        """Embedding of discrete actions, continuous ones as they are.

        (N, B, A) or (N, B) -> (N, EMBEDDING_SIZE or A, B).
        """
        if not self.discrete:
            return actions.transpose(1, 2)
        indices = torch.arange(self.actions, device=actions.device).view(1, -1, 1)
        one_hot = (actions.unsqueeze(1) == indices).to(self.embedding.dtype)  # (N, actions, B)
        return torch.bmm(self.embedding, one_hot)
