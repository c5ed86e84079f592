import pytest
import torch

from benchmarks.reference import own_feature_major_mlp, own_mlp
from dmpo.nn import matmul
from dmpo.nn.kernels import calls
from dmpo.nn.layers import FeatureMajorMLP, StackedMLP, set_precision

N, B, INPUTS, OUTPUTS = 5, 7, 4, 3
HIDDEN = [8, 6]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stacked(stacks: int = N, seed: int = 0) -> StackedMLP:
    network = StackedMLP(stacks, INPUTS, HIDDEN, OUTPUTS, 1.0, seeded(seed))
    for parameter in network.parameters():  # biases as well, which begin with zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=seeded(1))
    return network


def test_stacked_networks_compute_what_a_loop_over_single_ones_does() -> None:
    network, x = stacked(), torch.randn(B, N, INPUTS)
    loop = torch.stack([own_mlp(network, i)(x[:, i]) for i in range(N)], 1)
    torch.testing.assert_close(network(x), loop)


def test_acting_without_gradients_gives_the_same() -> None:
    network, x = stacked(), torch.randn(B, N, INPUTS)
    with torch.inference_mode():
        fast = network(x)
    assert torch.equal(fast, network(x))


def test_stacked_gradients_are_those_of_a_loop_over_single_networks() -> None:
    network, x = stacked(), torch.randn(B, N, INPUTS, requires_grad=True)
    network(x).square().sum().backward()
    to_x = x.grad
    assert to_x is not None
    for i in range(N):
        alone, own = own_mlp(network, i), x.detach()[:, i].requires_grad_()
        alone(own).square().sum().backward()
        torch.testing.assert_close(to_x[:, i], own.grad)
        for layer, linear in zip([*network.hidden, network.head], alone[::2], strict=True):
            torch.testing.assert_close(layer.weight.grad[i], linear.weight.grad.T)
            torch.testing.assert_close(layer.bias.grad[i, 0], linear.bias.grad)


@pytest.mark.parametrize("last_relu", [False, True])
def test_feature_major_outputs_and_gradients_are_those_of_a_loop_over_single_networks(last_relu: bool) -> None:
    network = FeatureMajorMLP(N, [INPUTS, *HIDDEN, OUTPUTS], last_relu, seeded())
    x = torch.randn(N, INPUTS, B, requires_grad=True)
    for parameter in network.parameters():  # biases as well, which begin with zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=seeded(1))
    y = network(x)
    y.square().sum().backward()
    for i in range(N):
        alone, own = own_feature_major_mlp(network, i), x.detach()[i].T.requires_grad_()
        mine = alone(own)
        mine.square().sum().backward()
        torch.testing.assert_close((y[i].T, x.grad[i].T), (mine, own.grad))
        for layer, linear in zip(network, alone[::2], strict=True):
            torch.testing.assert_close(layer.weight.grad[i], linear.weight.grad)
            torch.testing.assert_close(layer.bias.grad[i, :, 0], linear.bias.grad)


def test_a_shared_network_is_one_network_for_everybody() -> None:
    network, x = stacked(stacks=1), torch.randn(B, N, INPUTS)
    alone = own_mlp(network, 0)
    torch.testing.assert_close(network(x), torch.stack([alone(x[:, i]) for i in range(N)], 1))


def test_an_empty_batch_has_empty_outputs() -> None:
    for stacks in (1, N):
        assert stacked(stacks)(torch.empty(0, N, INPUTS)).shape == (0, N, OUTPUTS)


def test_outputs_of_an_agent_have_no_gradient_of_anothers_inputs() -> None:
    network, x = stacked(), torch.randn(B, N, INPUTS, requires_grad=True)
    network(x)[:, 2].sum().backward()
    assert x.grad is not None
    assert bool((x.grad[:, 2] != 0).any())
    assert not x.grad[:, [0, 1, 3, 4]].any()


def test_initial_layers_are_orthogonal_with_their_gain_and_differ_between_agents() -> None:
    network = StackedMLP(N, INPUTS, [16], OUTPUTS, 0.01, seeded())
    for layer, gain in ((network.hidden[0], 2**0.5), (network.head, 0.01)):
        for w in layer.weight.detach():  # (inputs, outputs)
            short = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
            torch.testing.assert_close(short, gain**2 * torch.eye(len(short)), atol=1e-5, rtol=1e-5)
        assert not torch.equal(layer.weight[0], layer.weight[1])
        assert not layer.bias.any()


def test_one_seed_gives_one_network() -> None:
    same, other = (StackedMLP(N, INPUTS, HIDDEN, OUTPUTS, 1.0, seeded(seed)) for seed in (0, 1))
    again = StackedMLP(N, INPUTS, HIDDEN, OUTPUTS, 1.0, seeded(0))
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), again.parameters(), strict=True))
    assert not torch.equal(same.head.weight, other.head.weight)


@pytest.mark.parametrize("stacks", [N, 1])
def test_bfloat16_products_agree_to_two_digits_and_parameters_stay_float32(stacks: int) -> None:
    exact, rounded = stacked(stacks), stacked(stacks)
    assert set_precision(rounded, torch.bfloat16)
    assert not set_precision(torch.nn.Linear(1, 1), torch.bfloat16)
    x = torch.randn(200, N, INPUTS, generator=seeded(2), requires_grad=True)
    found = []
    for network in (exact, rounded):
        y = network(x)
        y.square().mean().backward()
        gradients = [x.grad, *(parameter.grad for parameter in network.parameters())]
        assert {each.dtype for each in (y, *gradients)} == {torch.float32}
        with torch.no_grad():
            torch.testing.assert_close(network(x), y, rtol=0, atol=0)
        found.append([y.detach(), *gradients])
        x.grad = None
    for expected, rough in zip(*found, strict=True):
        assert 0 < (rough - expected).norm() < 0.02 * expected.norm()  # a number is rounded by 2⁻⁹ at most
    set_precision(rounded, torch.float32)
    assert torch.equal(rounded(x), exact(x))


@pytest.mark.parametrize("feature_major", [False, True])
def test_products_of_many_samples_use_fast_matmul_forward_and_backward(
    feature_major: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, given = 40_000, []
    monkeypatch.setattr(calls, "level", lambda: calls.NONE)
    network = FeatureMajorMLP(N, [INPUTS, *HIDDEN], True, seeded()) if feature_major else stacked()
    x = torch.randn((N, INPUTS, samples) if feature_major else (samples, N, INPUTS), generator=seeded())
    multiply = torch.bmm

    def watched(*matrices: torch.Tensor) -> torch.Tensor:
        given.append(torch.backends.mkldnn.matmul.fp32_precision)
        return multiply(*matrices)

    gradients = []
    for keeps_digits in (False, True):
        monkeypatch.setattr(matmul, "_keeps_digits", lambda keeps_digits=keeps_digits: keeps_digits)
        monkeypatch.setattr(torch, "bmm", watched)
        network.zero_grad()
        network(x).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    half = len(given) // 2
    assert set(given[:half]) == {"none"} and set(given[half:]) == {"bf16"}
    for usual, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, usual, rtol=1e-4, atol=1e-6)
