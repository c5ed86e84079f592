import networkx as nx
import numpy as np
import pytest
import torch

from dmpo.nn.distributions import make_distribution
from dmpo.nn.recurrent import GatedDistribution, RecurrentPolicy, RecurrentState
from tests.dmpo.conftest import GRAPHS
from tests.dmpo.learners import SPACES, D

E, H = 3, 5
DIRECTED = nx.DiGraph([(0, 1), (1, 2), (2, 0), (2, 3), (0, 3)])
DIRECTED.add_node(4)


def make_policy(graph: nx.Graph, actions: str = "continuous") -> RecurrentPolicy:
    distribution = GatedDistribution(make_distribution(SPACES[actions]))
    start = distribution.init_outputs(0.0, -0.5)
    generator = torch.Generator().manual_seed(0)
    return RecurrentPolicy(graph, D, distribution, width=H, init_outputs=start, init_log_std=-0.5, generator=generator)


def random_state(agents: int, *before: int) -> RecurrentState:
    generator = torch.Generator().manual_seed(1)
    shape = *before, E, agents
    hidden, cell = torch.randn(2, *shape, H, generator=generator)
    return RecurrentState(hidden, cell, torch.rand(shape, generator=generator) < 0.5)


def one_agent(policy: RecurrentPolicy, state: torch.Tensor, message: torch.Tensor, h: torch.Tensor, s: torch.Tensor):
    """LSTM(e(o) + c, h, s) of one agent in one environment, with the equations of Hochreiter & Schmidhuber."""
    encoded = torch.tanh(state @ policy.encoder.weight[0] + policy.encoder.bias[0, 0])
    x = encoded + message @ policy.message[0]
    numbers = policy.input_weight[0] @ x + policy.hidden_weight[0] @ h + policy.lstm_bias[0]
    i, f, g, o = numbers.split(H)
    cell = torch.sigmoid(f) * s + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


@pytest.mark.parametrize("graph", [*GRAPHS.values(), DIRECTED], ids=[*GRAPHS, "directed"])
def test_a_step_is_that_of_a_loop_over_agents_with_the_papers_equations(graph: nx.Graph) -> None:
    policy, agents = make_policy(graph), len(graph)
    state, states = random_state(agents), torch.randn(E, agents, D)
    hidden, cell = policy(states, state)
    for e in range(E):
        for i in range(agents):
            neighbors = list(graph.predecessors(i) if graph.is_directed() else graph.neighbors(i))
            received = torch.zeros(H)
            for j in neighbors:
                received += float(state.gate[e, j]) * state.hidden[e, j] / len(neighbors)
            expected = one_agent(policy, states[e, i], received, state.hidden[e, i], state.cell[e, i])
            torch.testing.assert_close((hidden[e, i], cell[e, i]), expected)


def test_heads_see_an_agents_own_hidden_state_alone() -> None:
    policy = make_policy(nx.complete_graph(4))
    torch.nn.init.normal_(policy.head.weight)
    hidden = torch.randn(2, E, 4, H, requires_grad=True)
    for numbers in (policy.decide(hidden).sum(-1), policy.values(hidden)):
        (gradient,) = torch.autograd.grad(numbers[0, 1, 2], hidden, retain_graph=True)
        assert gradient[0, 1, 2].abs().sum() > 0
        assert gradient.count_nonzero() == gradient[0, 1, 2].count_nonzero()


def test_a_closed_gate_acts_as_a_missing_edge() -> None:
    graph = nx.path_graph(4)
    policy, states, state = make_policy(graph), torch.randn(E, 4, D), random_state(4)
    state.gate[:] = torch.tensor([True, False, True, True])
    sent = state.hidden.clone().requires_grad_()
    hidden, _ = policy(states, RecurrentState(sent, state.cell, state.gate))
    # 0 is next to 1, whose gate is closed; 2 to 1 and 3, 3 to 2; 1 and 3 are not neighbors.
    influence = torch.stack([torch.autograd.grad(hidden[:, i].sum(), sent, retain_graph=True)[0] for i in range(4)])
    reaches = influence.abs().sum((1, 3)) > 0  # (N receiver, N sender)
    expected = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    assert torch.equal(reaches, expected)
    # So do the outputs, even with a NaN there.
    broken = state.hidden.clone()
    broken[:, 1] = torch.nan
    others, _ = policy(states, RecurrentState(broken, state.cell, state.gate))
    assert torch.equal(others[:, [0, 2, 3]], hidden[:, [0, 2, 3]])


def test_messages_travel_one_hop_a_step() -> None:
    agents, steps = 6, 4
    policy = make_policy(nx.path_graph(agents))
    states = torch.randn(steps, E, agents, D, requires_grad=True)
    gates, first = torch.ones(steps, E, agents, dtype=torch.bool), torch.zeros(steps, E, dtype=torch.bool)
    hidden = policy.unroll(states, first, gates, policy.initial_state(E)).hidden
    for t in range(steps):
        (gradient,) = torch.autograd.grad(hidden[t, :, 0].sum(), states, retain_graph=True)
        reaches = gradient.abs().sum((1, 3)) > 0  # (T, N), whose state at what time
        assert torch.equal(reaches, torch.tensor([[j <= t - k for j in range(agents)] for k in range(steps)]))


def test_an_isolated_agent_receives_exactly_zero() -> None:
    policy, state = make_policy(DIRECTED), random_state(5)
    state.gate[:] = True
    assert torch.equal(policy.mean_over_neighborhood(state)[:, 4], torch.zeros(E, H))
    assert policy.mean_over_neighborhood(state)[:, :4].count_nonzero() == E * 4 * H
    assert torch.equal(make_policy(nx.empty_graph(5)).mean_over_neighborhood(state), torch.zeros(E, 5, H))


def test_unrolling_is_stepping_with_a_reset_where_an_episode_begins() -> None:
    policy, steps = make_policy(nx.cycle_graph(4)), 5
    states, gates = torch.randn(steps, E, 4, D), torch.rand(steps, E, 4) < 0.5
    first = torch.zeros(steps, E, dtype=torch.bool)
    first[0, 0] = first[3, 1] = True
    start = random_state(4)
    found, state = policy.unroll(states, first, gates, start), start
    for t in range(steps):
        state = state.reset(first[t])
        state = RecurrentState(*policy(states[t], state), gates[t])
        torch.testing.assert_close((found.hidden[t], found.cell[t]), (state.hidden, state.cell))
    # After a beginning states are those from the initial state.
    fresh = policy.unroll(states[3:], first[3:] & False, gates[3:], policy.initial_state(E))
    torch.testing.assert_close(found.hidden[3:, 1], fresh.hidden[:, 1])
    torch.testing.assert_close(
        found.hidden[:, 0], policy.unroll(states, first, gates, policy.initial_state(E)).hidden[:, 0]
    )
    assert not torch.allclose(found.hidden[3:, 2], fresh.hidden[:, 2])


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_an_action_and_its_gate_are_independent(actions: str) -> None:
    inner, gated = make_distribution(SPACES[actions]), GatedDistribution(make_distribution(SPACES[actions]))
    outputs, log_std = torch.randn(E, 4, gated.outputs), torch.full((1, gated.scales), -0.5)
    parameters = gated.dist_params(outputs, log_std)
    own = inner.dist_params(outputs[..., :-2], log_std)
    gate = torch.distributions.Bernoulli(logits=outputs[..., -1] - outputs[..., -2])
    drawn = gated.sample(parameters, torch.Generator().manual_seed(0))
    action, opened = gated.split(drawn)
    expected = inner.log_prob(own, action) + gate.log_prob(opened.float())
    torch.testing.assert_close(gated.log_prob(parameters, drawn), expected)
    torch.testing.assert_close(gated.entropy(parameters), inner.entropy(own) + gate.entropy())
    np.testing.assert_array_equal(gated.env_actions(drawn), inner.env_actions(action))
    likeliest, opened = gated.split(gated.mode(parameters))
    assert torch.equal(likeliest, inner.mode(own))
    assert torch.equal(opened, gate.probs > 0.5)
