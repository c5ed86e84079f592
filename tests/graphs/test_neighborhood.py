"""Neighborhoods against distances computed in other ways, and gather and reduce against plain loops."""

import copy
import dataclasses
import pickle

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import Neighborhood
from graphs.neighborhood import graph_of

FEW = settings(max_examples=60, deadline=None)
NAN, INFINITY = float("nan"), float("inf")


@st.composite
def random_graphs(draw: st.DrawFn) -> nx.Graph:
    """Small graphs: directed or not, bipartite or not, often disconnected, nodes in any order, self-loops too."""
    n = draw(st.integers(1, 9))
    graph = nx.DiGraph() if draw(st.booleans()) else nx.Graph()
    graph.add_nodes_from(draw(st.permutations(range(n))))
    node = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=2 * n))
    if draw(st.booleans()):
        edges = [(u, v) for u, v in edges if (u + v) % 2]  # even numbers on one side, odd on the other
    graph.add_edges_from(edges)
    return graph


hops_of_interest = st.one_of(st.none(), st.integers(0, 9))


def expected_rows(graph: nx.Graph, hops: int | None) -> list[list[int]]:
    """The definition, from Floyd and Warshall's distances: row i by (distance from j to i, j)."""
    distance = nx.floyd_warshall(graph, weight="weight")
    rows = []
    for i in range(len(graph)):
        ranks = sorted((0 if j == i else distance[j][i], j) for j in graph)  # a self-loop does not part i from itself
        rows.append([j for length, j in ranks if hops is None or length <= hops])
    return rows


def rows_of(neighborhood: Neighborhood) -> list[list[int]]:
    pairs = zip(neighborhood.index, neighborhood.mask, strict=True)
    return [index[mask].tolist() for index, mask in pairs]


def looped_gather(neighborhood: Neighborhood, x: torch.Tensor) -> torch.Tensor:
    """(N, D) -> (N, K, D), one entry at a time."""
    out = torch.zeros(neighborhood.num_agents, neighborhood.size, x.shape[-1], dtype=x.dtype)
    for i in range(neighborhood.num_agents):
        for k in range(neighborhood.size):
            if neighborhood.mask[i, k]:
                out[i, k] = x[neighborhood.index[i, k]]
    return out


@FEW
@given(random_graphs(), hops_of_interest)
def test_rows_are_all_within_reach_ordered_by_distance_then_number(graph: nx.Graph, hops: int | None) -> None:
    assert rows_of(Neighborhood(graph, hops=hops)) == expected_rows(graph, hops)


@FEW
@given(random_graphs(), hops_of_interest)
def test_layout(graph: nx.Graph, hops: int | None) -> None:
    neighborhood = Neighborhood(graph, hops=hops)
    n, k = neighborhood.num_agents, neighborhood.size
    own = torch.arange(n)
    assert neighborhood.index.shape == neighborhood.mask.shape == (n, k) and n == len(graph)
    assert (neighborhood.index.dtype, neighborhood.mask.dtype) == (torch.int64, torch.bool)
    assert torch.equal(neighborhood.index[:, 0], own) and neighborhood.mask[:, 0].all()
    assert torch.equal(neighborhood.mask.sum(1), neighborhood.sizes) and int(neighborhood.sizes.max()) == k
    assert (neighborhood.index == own[:, None])[~neighborhood.mask].all(), "padding points to the agent itself"
    assert (neighborhood.mask[:, :-1] >= neighborhood.mask[:, 1:]).all(), "padding comes last"


@FEW
@given(random_graphs(), st.integers(0, 9), st.booleans())
def test_a_wider_neighborhood_extends_each_row(graph: nx.Graph, hops: int, all_agents: bool) -> None:
    narrow, wide = (rows_of(Neighborhood(graph, hops=h)) for h in (hops, None if all_agents else hops + 1))
    assert all(wide_row[: len(row)] == row for row, wide_row in zip(narrow, wide, strict=True))


@FEW
@given(random_graphs(), hops_of_interest)
def test_both_directions_of_every_edge_equal_the_undirected_graph(graph: nx.Graph, hops: int | None) -> None:
    undirected = nx.Graph(graph)
    assert rows_of(Neighborhood(undirected, hops)) == rows_of(Neighborhood(undirected.to_directed(), hops))


def test_an_edge_lets_its_target_hear_its_source() -> None:
    assert rows_of(Neighborhood(nx.DiGraph([(0, 1), (1, 2)]), hops=2)) == [[0], [1, 0], [2, 1, 0]]


def test_no_hops_is_only_oneself() -> None:
    assert rows_of(Neighborhood(nx.complete_graph(4), hops=0)) == [[0], [1], [2], [3]]


def test_self_loops_and_weights_change_nothing() -> None:
    graph = nx.path_graph(3)
    graph.add_edge(1, 1)
    nx.set_edge_attributes(graph, 7.5, "weight")
    assert rows_of(Neighborhood(graph, hops=1)) == [[0, 1], [1, 0, 2], [2, 1]]


@pytest.mark.parametrize("hops", [1, 3, 20, 399])
def test_long_path_has_exact_neighborhoods(hops: int) -> None:
    neighborhood = Neighborhood(nx.path_graph(400), hops=hops)
    apart = (neighborhood.index - torch.arange(400)[:, None]).abs()
    assert torch.equal(neighborhood.sizes, ((torch.arange(400)[:, None] - torch.arange(400)).abs() <= hops).sum(1))
    assert apart.max() == hops
    assert (apart.diff(dim=1) >= 0)[neighborhood.mask[:, 1:]].all()


@pytest.mark.parametrize("hops", [1, 4])
@pytest.mark.parametrize(
    "graph",
    [
        nx.convert_node_labels_to_integers(nx.grid_2d_graph(20, 20)),
        nx.gnp_random_graph(400, 0.006, seed=1),
        nx.gnp_random_graph(400, 0.006, seed=2, directed=True),
        nx.complete_bipartite_graph(7, 393),
        nx.full_rary_tree(3, 400),
    ],
    ids=["grid", "disconnected", "directed", "bipartite", "tree"],
)
def test_four_hundred_agents(graph: nx.Graph, hops: int) -> None:
    distance = dict(nx.all_pairs_shortest_path_length(graph))  # from sender to receiver
    rows = rows_of(Neighborhood(graph, hops=hops))
    for i, row in enumerate(rows):
        ranks = [(distance[j][i], j) for j in row]
        assert ranks == sorted(ranks)
    heard = {(j, i) for i, row in enumerate(rows) for j in row}
    assert heard == {(j, i) for j, reached in distance.items() for i, length in reached.items() if length <= hops}


def test_two_agents_that_only_meet_through_a_third_are_two_hops_apart() -> None:
    # Powers of the adjacency matrix of a bipartite graph alternate between its sides; distances do not.
    cycle = nx.cycle_graph(6)
    assert rows_of(Neighborhood(cycle, hops=2))[0] == [0, 1, 5, 2, 4]
    assert rows_of(Neighborhood(cycle, hops=3))[0] == [0, 1, 5, 2, 4, 3]


@FEW
@given(random_graphs(), hops_of_interest, st.integers(0, 3))
def test_gather_and_reduce_equal_plain_loops(graph: nx.Graph, hops: int | None, width: int) -> None:
    neighborhood = Neighborhood(graph, hops=hops)
    n = neighborhood.num_agents
    x = torch.randn(2, 3, n, width, dtype=torch.float64)  # (..., N, D)
    gathered = neighborhood.gather(x)
    assert gathered.shape == (2, 3, n, neighborhood.size, width) and gathered.dtype == x.dtype
    assert torch.equal(gathered[1, 2], looped_gather(neighborhood, x[1, 2]))
    assert torch.equal(neighborhood.gather(x[1, 2]), gathered[1, 2])
    values = torch.randn(2, 3, n, dtype=torch.float64)
    rows = expected_rows(graph, hops)
    total = torch.stack([sum((values[..., j] for j in row), torch.zeros(2, 3)) for row in rows], -1)
    torch.testing.assert_close(neighborhood.reduce(values, "sum"), total)
    torch.testing.assert_close(neighborhood.reduce(values, "mean"), total / torch.tensor([len(row) for row in rows]))


@FEW
@given(random_graphs(), hops_of_interest)
def test_reducing_ones_counts_the_neighborhood(graph: nx.Graph, hops: int | None) -> None:
    neighborhood = Neighborhood(graph, hops=hops)
    ones = torch.ones(2, neighborhood.num_agents)
    sizes = neighborhood.sizes.to(ones.dtype).expand(2, -1)
    assert torch.equal(neighborhood.reduce(ones, "sum"), sizes)
    assert torch.equal(neighborhood.reduce(ones, "mean"), ones)
    assert torch.equal(neighborhood.gather(ones[..., None]).sum((-2, -1)), sizes)


@FEW
@given(random_graphs(), hops_of_interest, st.data())
def test_gradient_outside_the_neighborhood_is_exactly_zero(
    graph: nx.Graph, hops: int | None, data: st.DataObject
) -> None:
    neighborhood = Neighborhood(graph, hops=hops)
    n = neighborhood.num_agents
    i = data.draw(st.integers(0, n - 1))
    inside = set(expected_rows(graph, hops)[i])
    x = torch.randn(4, n, 2, requires_grad=True)
    (of_x,) = torch.autograd.grad(neighborhood.gather(x)[:, i].square().sum(), x)
    values = torch.randn(4, n, requires_grad=True)
    (of_values,) = torch.autograd.grad(neighborhood.reduce(values, "mean")[:, i].sum(), values)
    for j in range(n):
        if j in inside:
            assert of_x[:, j].all() and of_values[:, j].all()
        else:
            assert not of_x[:, j].any() and not of_values[:, j].any()


@pytest.mark.parametrize("poison", [NAN, INFINITY, -INFINITY])
@FEW
@given(random_graphs(), hops_of_interest, st.data())
def test_one_broken_agent_breaks_only_those_who_hear_it(
    poison: float, graph: nx.Graph, hops: int | None, data: st.DataObject
) -> None:
    neighborhood = Neighborhood(graph, hops=hops)
    n = neighborhood.num_agents
    broken = data.draw(st.integers(0, n - 1))
    x = torch.randn(n, 2)
    x[broken] = poison
    gathered = neighborhood.gather(x)
    hears = (neighborhood.index == broken) & neighborhood.mask  # (N, K)
    assert torch.equal(gathered.isfinite().all(-1), ~hears)
    assert not gathered[~neighborhood.mask].any(), "padding stays zero, for the broken agent too"
    assert torch.equal(neighborhood.reduce(x[:, 0], "sum").isfinite(), ~hears.any(1))


@FEW
@given(random_graphs(), hops_of_interest)
def test_no_gradient_enters_through_padding(graph: nx.Graph, hops: int | None) -> None:
    neighborhood = Neighborhood(graph, hops=hops)
    x = torch.randn(neighborhood.num_agents, 1, requires_grad=True)
    gathered = neighborhood.gather(x)
    (gradient,) = torch.autograd.grad(
        gathered, x, torch.ones_like(gathered).masked_fill(~neighborhood.mask[..., None], NAN)
    )
    listeners = torch.bincount(neighborhood.index[neighborhood.mask], minlength=neighborhood.num_agents)
    assert torch.equal(gradient[:, 0], listeners.to(x.dtype))


def test_derivatives_agree_with_finite_differences() -> None:
    neighborhood = Neighborhood(nx.star_graph(3), hops=1)
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(neighborhood.gather, x)
    assert torch.autograd.gradgradcheck(lambda y: neighborhood.reduce(y.square().sum(-1), "mean"), x)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64])
def test_gather_keeps_the_type(dtype: torch.dtype) -> None:
    assert Neighborhood(nx.star_graph(3), hops=1).gather(torch.ones(4, 1, dtype=dtype)).dtype == dtype


def test_gather_and_reduce_accept_empty_batches_and_strided_input() -> None:
    neighborhood = Neighborhood(nx.path_graph(3), hops=1)
    assert neighborhood.gather(torch.ones(0, 3, 2)).shape == (0, 3, 3, 2)
    assert neighborhood.reduce(torch.ones(0, 3), "mean").shape == (0, 3)
    x = torch.randn(5, 2, 3).transpose(1, 2)
    assert torch.equal(neighborhood.gather(x), neighborhood.gather(x.contiguous()))
    full = Neighborhood(nx.complete_graph(3), hops=1)
    assert torch.equal(full.gather(x), full.gather(x.contiguous()))


@FEW
@given(random_graphs(), hops_of_interest)
def test_messages_count_pairs_of_receiver_and_other_sender(graph: nx.Graph, hops: int | None) -> None:
    neighborhood = Neighborhood(graph, hops=hops)
    pairs = sum(1 for i, row in enumerate(expected_rows(graph, hops)) for j in row if j != i)
    assert neighborhood.messages == pairs
    x = torch.zeros(neighborhood.num_agents, 5, dtype=torch.float64)
    bytes_sent = sum(x[j].nbytes for i, row in enumerate(rows_of(neighborhood)) for j in row if j != i)
    assert neighborhood.bytes_per_agent(5, x.element_size()) == bytes_sent / neighborhood.num_agents


def test_attributes_cannot_be_assigned() -> None:
    neighborhood = Neighborhood(nx.path_graph(3), hops=1)
    for name in [field.name for field in dataclasses.fields(neighborhood)] + ["something_new"]:
        with pytest.raises(AttributeError):
            setattr(neighborhood, name, None)


def test_all_agents_are_neighbors_on_any_graph_the_unreachable_last() -> None:
    one_way = nx.DiGraph([(0, 1), (1, 2)])  # 0 speaks to 1, 1 to 2, nobody to 0, and 3 is alone
    one_way.add_node(3)
    assert rows_of(Neighborhood(one_way, hops=None)) == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 0, 3], [3, 0, 1, 2]]
    assert rows_of(Neighborhood(nx.empty_graph(3), hops=None)) == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]


def test_later_changes_of_the_graph_do_not_reach_it() -> None:
    graph = nx.path_graph(3)
    neighborhood = Neighborhood(graph, hops=1)
    graph.add_edge(0, 2)
    assert rows_of(neighborhood)[0] == [0, 1]


def test_to_gives_a_copy_on_the_device() -> None:
    neighborhood = Neighborhood(nx.path_graph(3), hops=1)
    moved = neighborhood.to("meta")
    assert moved is not neighborhood and neighborhood.index.device.type == "cpu"
    assert all(tensor.device.type == "meta" for tensor in (moved.index, moved.mask, moved.sizes))
    assert moved.gather(torch.ones(2, 3, 4, device="meta")).shape == (2, 3, 3, 4)
    assert (moved.hops, moved.size, moved.messages) == (1, 3, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gather_on_a_gpu_equals_gather_on_the_processor() -> None:
    neighborhood = Neighborhood(nx.star_graph(6), hops=1)
    x = torch.randn(5, 7, 3)
    assert torch.equal(neighborhood.to("cuda").gather(x.to("cuda")).cpu(), neighborhood.gather(x))


def test_copies_and_pickles_are_the_same_value() -> None:
    neighborhood = Neighborhood(nx.path_graph(3), hops=1)
    for twin in (copy.deepcopy(neighborhood), pickle.loads(pickle.dumps(neighborhood))):
        assert torch.equal(twin.index, neighborhood.index) and twin.hops == 1
        assert torch.equal(twin.gather(torch.ones(3, 1)), neighborhood.gather(torch.ones(3, 1)))


@pytest.mark.parametrize(
    ("graph", "hops", "message"),
    [
        (nx.path_graph(3), -1, "hops=-1"),
        (nx.path_graph(3), 1.5, "hops=1.5.*at least 0, or None for all agents"),
        (nx.path_graph([1, 2, 3]), 1, r"numbered 0\.\.2.*: 3\. Renumber"),
        (nx.path_graph("abc"), 1, "'a', 'b', 'c'"),
        (nx.path_graph(range(10, 30)), 1, "20, 21, 22, 23, 24, …"),
        (nx.MultiGraph([(0, 1)]), 1, r"parallel edges.*networkx\.Graph"),
        (nx.empty_graph(0), 1, "no nodes"),
        ([(0, 1)], 1, r"not list\. Build one with graphs\.make"),
    ],
)
def test_refusals_teach(graph: nx.Graph, hops: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Neighborhood(graph, hops=hops)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (5, 2, 3), (5, 4, 3)])
def test_gather_refuses_agents_in_another_place(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\.\.\., N, D\) with N=3"):
        Neighborhood(nx.path_graph(3), hops=1).gather(torch.zeros(shape))


def test_reduce_refuses_other_shapes_and_ways() -> None:
    neighborhood = Neighborhood(nx.path_graph(3), hops=1)
    with pytest.raises(ValueError, match=r"x\.shape=\(3, 1\).*\(\.\.\., N\) with N=3"):
        neighborhood.reduce(torch.zeros(3, 1), "sum")
    with pytest.raises(ValueError, match="how='max'.*'mean' or 'sum'"):
        neighborhood.reduce(torch.zeros(3), "max")  # type: ignore[arg-type]


@FEW
@given(random_graphs(), hops_of_interest)
def test_each_agent_receives_what_others_address_to_it(graph: nx.Graph, hops: int | None) -> None:
    neighborhood, rows = Neighborhood(graph, hops=hops), expected_rows(graph, hops)
    n, k = neighborhood.num_agents, neighborhood.size
    x = torch.randn(2, n, k, 3)  # (..., N, K, D)
    expected = torch.zeros_like(x)
    for i, row in enumerate(rows):
        for place, j in enumerate(row):
            if i in rows[j]:  # on a directed graph j need not receive from i
                expected[:, i, place] = x[:, j, rows[j].index(i)]
    assert torch.equal(neighborhood.exchange(x), expected)
    with pytest.raises(ValueError, match="N, K, D"):
        neighborhood.exchange(torch.zeros(n, k + 1, 3))


@pytest.mark.parametrize(("graph", "hops"), [(nx.cycle_graph(7), 2), (nx.cycle_graph(6), 3), (nx.complete_graph(5), 1)])
def test_in_cyclic_order_all_agents_have_the_same_neighbor_in_the_same_place(graph: nx.Graph, hops: int) -> None:
    cyclic, by_number = (Neighborhood(graph, hops=hops, order=order) for order in ("cyclic", "number"))
    ahead = (cyclic.index - torch.arange(len(graph)).unsqueeze(1)) % len(graph)  # (N, K), seen from the listener
    assert (ahead == ahead[0]).all()
    assert torch.equal(cyclic.index.sort(1).values, by_number.index.sort(1).values)
    assert torch.equal(cyclic.index[0], by_number.index[0])


def test_in_cyclic_order_the_nearest_come_first() -> None:
    assert rows_of(Neighborhood(nx.path_graph(4), hops=2, order="cyclic"))[2] == [2, 3, 1, 0]


def test_there_is_no_other_order() -> None:
    with pytest.raises(ValueError, match="order='random' is not possible: .*'number' or 'cyclic'"):
        Neighborhood(nx.path_graph(3), hops=1, order="random")


@FEW
@given(random_graphs(), st.data())
def test_neighbors_stand_in_the_places_of_a_denser_graph_or_are_refused(graph: nx.Graph, data: st.DataObject) -> None:
    dense = Neighborhood(graph, hops=1)
    heard = [(j, i) for i, row in enumerate(rows_of(dense)) for j in row[1:]]
    sparse = nx.DiGraph([edge for edge in heard if data.draw(st.booleans())])
    sparse.add_nodes_from(range(len(graph)))
    x = 1 + torch.rand(2, len(graph), 3)
    near, everything = Neighborhood(sparse, hops=1).in_places(dense.sources), dense.gather(x)
    places = [[j == i or sparse.has_edge(j, i) for j in row] for i, row in enumerate(dense.sources.tolist())]
    assert torch.equal(near.gather(x), everything.masked_fill(~torch.tensor(places).unsqueeze(-1), 0.0))
    assert near.messages == sparse.number_of_edges()
    assert rows_of(near.in_places(Neighborhood(sparse, hops=1).sources)) == rows_of(Neighborhood(sparse, hops=1))
    assert torch.equal(Neighborhood(graph_of(dense.sources), hops=1).sources, dense.sources)
    if missing := sorted((i, j) for j, i in set(heard) - set(sparse.edges)):
        agent, neighbor = missing[0]
        with pytest.raises(ValueError, match=f"agent {agent} receives from agent {neighbor}, and has"):
            dense.in_places(near.sources)


def test_places_are_those_of_the_same_agents() -> None:
    with pytest.raises(ValueError, match=r"places\.shape=\(4, 3\).*N=3 agents"):
        Neighborhood(nx.path_graph(3), hops=1).in_places(Neighborhood(nx.path_graph(4), hops=1).sources)
