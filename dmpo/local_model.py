"""The localized models: p̂_i(s_i', r_i, d_i | states of N_i^1, a_i), one graph convolution (DMPO paper, eqs. 2-4)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.nn import MessagePassing

from dmpo import kernels
from dmpo.networks import StackedColumns, parameters_of, stacked
from graphs import Neighborhood

END_LOGIT = -5.0  # ends are rare, and before any is seen none should be imagined
EMBEDDING = 4  # numbers that stand for a discrete action


class Prediction(NamedTuple):
    """What the models say follows, all (N, B, ...), in normalised units."""

    change: Tensor  # (N, B, D), s' - s
    reward: Tensor  # (N, B)
    end: Tensor  # (N, B), the logit of d


class LocalModel(MessagePassing):  # type: ignore[misc]
    """One model per agent, with its own parameters and one message function of its own on each edge.

    h_i⁰ = f_i^enc(s_i);  h_(i,j) = f_(i,j)^edge(h_i⁰, h_j⁰);  h_i¹ = f_i^node(Σ_{j∈N_i^1} h_(i,j), a_i);
    s_i' = s_i + f_i^state(h_i¹),  r_i = f_i^reward(h_i¹),  d_i = σ(f_i^done(h_i¹)).

    With `hears_actions` it is p̂_i(· | states and actions of N_i^1): h_i⁰ = f_i^enc(s_i, a_i). Where an agent senses
    others, such as its gap to the one in front, what they do moves its own state within the step, and a model that does
    not hear of it takes its neighbours' actions for chance.

    N_i^1 is closed: there is an edge from each agent to itself, so that one alone on the graph sees its own state.

    Args:
        graph: who talks to whom.
        features: D, numbers in one agent's state.
        actions: A where actions are continuous; the number of actions where they are discrete.
        discrete: which of the two.
        hears_actions: whether neighbours' actions are told as well as their states.
        encoding: width of h⁰.
        hidden: width of the two hidden layers of f^edge and f^node.
        message: width of the messages.
        generator: where the initial weights are drawn from.

    Shapes:
        states (N, B, D), actions (N, B, A) or (N, B) int64 -> a `Prediction`. The agents come first, as the parameters
        are stacked over them.
    """

    def __init__(
        self,
        graph: nx.Graph,
        features: int,
        actions: int,
        discrete: bool,
        hears_actions: bool,
        encoding: int,
        hidden: int,
        message: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(aggr=None, node_dim=0)
        near = Neighborhood(graph, hops=1)
        self.num_agents, self.features = near.num_agents, features
        target, place = near.mask.nonzero(as_tuple=True)  # (M,) edges, those to oneself included
        self.register_buffer("edges", torch.stack([near.index[target, place], target]))  # (2, M): from j, to i
        self.register_buffer("pairs", self.edges.flip(0).T.flatten(), persistent=False)  # (2·M,), i and j of each edge
        n = self.num_agents
        width = EMBEDDING if discrete else actions
        told = features + width if hears_actions else features
        self.encoder = StackedColumns(n, [told, encoding], True, generator)
        self.edge = StackedColumns(len(target), [2 * encoding, hidden, hidden, message], False, generator)
        self.actions, self.discrete, self.hears_actions = actions, discrete, hears_actions
        chosen = EMBEDDING, actions if discrete else 0
        self.embedding = nn.Parameter(torch.randn(n, *chosen, generator=generator))  # (N, EMBEDDING, actions)
        self.node = StackedColumns(n, [message + width, hidden, hidden, encoding], True, generator)
        self.heads = StackedColumns(n, [encoding, features + 2], False, generator)
        nn.init.constant_(self.heads.get_parameter("0.bias")[:, -1], END_LOGIT)

    def forward(self, states: Tensor, actions: Tensor) -> Prediction:
        """(N, B, D) and (N, B, A) or (N, B) -> what follows."""
        outputs = self.step(states.transpose(1, 2), self.acted(actions)).transpose(1, 2)  # (N, B, D + 2)
        return Prediction(outputs[..., :-2], outputs[..., -2], outputs[..., -1])

    def step(self, states: Tensor, acted: Tensor) -> Tensor:
        """The same with the samples last, and with actions as `acted` has them.

        (N, D, B) and (N, EMBEDDING or A, B) -> (N, D + 2, B), the changes, the reward and the logit of the end.
        """
        told = torch.cat([states, acted], 1) if self.hears_actions else states
        of_encoder, of_edge, of_node = map(parameters_of, ((self.encoder,), (self.edge,), (self.node, self.heads)))
        if torch.is_grad_enabled() and all(kernels.suit(states, each) for each in (of_encoder, of_edge, of_node)):
            parameters = *of_encoder, *of_edge, *of_node
            outputs: Tensor = _Step.apply(self, told.contiguous(), acted, *parameters)  # type: ignore[no-untyped-call]
            return outputs
        received = self.propagate(self.edges, encoded=self.encoder(told))  # (N, message, B)
        return stacked(torch.cat([received, acted], 1), self.node, self.heads)

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of agents, (N, ...) each, and those of edges, (M, ...) each."""
        of_edges = list(self.edge.parameters())
        known = set(map(id, of_edges))
        return [[p for p in self.parameters() if id(p) not in known and p.numel()], of_edges]

    def message(self, encoded_i: Tensor, encoded_j: Tensor) -> Tensor:
        """h_(i,j) of all edges at once, (M, encoding, B) twice -> (M, message, B); eq. 3."""
        messages: Tensor = self.edge(torch.cat([encoded_i, encoded_j], 1))
        return messages

    def aggregate(self, inputs: Tensor, index: Tensor) -> Tensor:
        """Σ_{j∈N_i^1} h_(i,j), (M, message, B) -> (N, message, B); several times as fast as the library's scatter."""
        return inputs.new_zeros(self.num_agents, *inputs.shape[1:]).index_add(0, index, inputs)

    def acted(self, actions: Tensor) -> Tensor:
        """What stands for actions, (N, B, A) or (N, B) -> (N, EMBEDDING or A, B)."""
        if not self.discrete:
            return actions.transpose(1, 2)
        numbers = torch.arange(self.actions, device=actions.device).view(1, -1, 1)
        chosen = (actions.unsqueeze(1) == numbers).to(self.embedding.dtype)  # (N, actions, B)
        return torch.bmm(self.embedding, chosen)


class _Step(torch.autograd.Function):
    # `LocalModel.step` by kernels, with the gradient of all of it at once: to record dozens of operations one by one,
    # each on a few thousand numbers, takes longer than what they do.

    @staticmethod
    def forward(ctx: Any, model: LocalModel, told: Tensor, acted: Tensor, *parameters: Tensor) -> Tensor:
        ctx.model, ctx.counts = model, [2 * len(model.encoder), 2 * len(model.edge)]
        of_encoder, of_edge, of_node = _split(parameters, ctx.counts)
        encoded, in_encoder = kernels.Columns(told, of_encoder, True).forward(True)
        pairs = encoded.index_select(0, model.pairs).view(len(of_edge[0]), -1, told.shape[2])  # (M, 2·encoding, B)
        messages, in_edge = kernels.Columns(pairs, of_edge, False).forward(True)
        received = _row_sums(messages, model.edges[1], model.num_agents)
        given = torch.cat([received, acted], 1)  # (N, message + W, B)
        outputs, in_node = kernels.Columns(given, of_node, False).forward(True)
        ctx.inside = encoded, pairs, given, in_encoder, in_edge, in_node
        ctx.save_for_backward(told, *parameters)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        model, (told, *parameters) = ctx.model, ctx.saved_tensors
        of_encoder, of_edge, of_node = _split(parameters, ctx.counts)
        encoded, pairs, given, in_encoder, in_edge, in_node = ctx.inside
        to_given, to_pairs, to_told = (torch.empty_like(x) for x in (given, pairs, told))
        to_node = kernels.Columns(given, of_node, False).backward(in_node, None, gradient.contiguous(), to_given)
        message = of_edge[-1].shape[1]
        to_messages = to_given[:, :message].index_select(0, model.edges[1])
        to_edge = kernels.Columns(pairs, of_edge, False).backward(in_edge, None, to_messages, to_pairs)
        to_encoded = _row_sums(to_pairs.view(len(model.pairs), -1, told.shape[2]), model.pairs, model.num_agents)
        to_encoder = kernels.Columns(told, of_encoder, True).backward(in_encoder, encoded, to_encoded, to_told)
        return None, to_told, to_given[:, message:], *to_encoder, *to_edge, *to_node


def _split(parameters: Sequence[Tensor], counts: Sequence[int]) -> tuple[Sequence[Tensor], ...]:
    # Those of the encoder, of the edges, and of nodes and heads.
    first, second = counts
    return parameters[:first], parameters[first : first + second], parameters[first + second :]


def _row_sums(x: Tensor, index: Tensor, count: int) -> Tensor:
    # Row n is the sum of those x[m], (M, ...), whose index[m] is n.
    sums = x.new_zeros(count, *x.shape[1:])
    kernels.add_rows(sums, index, x)
    return sums
