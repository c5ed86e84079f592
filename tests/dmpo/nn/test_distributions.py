import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal, TanhTransform, TransformedDistribution, kl_divergence

from dmpo.nn.distributions import LOG_STD_BOUNDS, Categorical, Gaussian, SquashedGaussian, make_distribution

BOX = gymnasium.spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32))
SHAPE = (3, 4)  # (B, N)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal_pair() -> tuple[torch.Tensor, Normal]:
    parameters = torch.randn(*SHAPE, 4)
    return parameters, Normal(parameters[..., :2], parameters[..., 2:].exp())


def test_gaussians_agree_with_pytorchs() -> None:
    gaussian, (old, p), (new, q) = Gaussian(BOX), normal_pair(), normal_pair()
    actions = torch.randn(*SHAPE, 2)
    torch.testing.assert_close(gaussian.log_prob(old, actions), p.log_prob(actions).sum(-1))
    torch.testing.assert_close(gaussian.entropy(old), p.entropy().sum(-1))
    torch.testing.assert_close(gaussian.kl(old, new), kl_divergence(p, q).sum(-1))


def test_categoricals_agree_with_pytorchs() -> None:
    categorical = Categorical(gymnasium.spaces.Discrete(3))
    old, new = (categorical.dist_params(torch.randn(*SHAPE, 3), torch.empty(1, 0)) for _ in range(2))
    p, q = TorchCategorical(logits=old), TorchCategorical(logits=new)
    actions = torch.randint(3, SHAPE)
    torch.testing.assert_close(categorical.log_prob(old, actions), p.log_prob(actions))
    torch.testing.assert_close(categorical.entropy(old), p.entropy())
    torch.testing.assert_close(categorical.kl(old, new), kl_divergence(p, q))


def test_squashed_gaussians_agree_with_pytorchs() -> None:
    # Not far out, where PyTorch's inverse of tanh is infinite.
    squashed, parameters = SquashedGaussian(BOX), 0.5 * torch.randn(*SHAPE, 4, generator=seeded(1))
    normal = Normal(parameters[..., :2], parameters[..., 2:].exp())
    actions, log_probs = squashed.draw(parameters, seeded())
    torchs = TransformedDistribution(normal, [TanhTransform()])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_probs, torchs.log_prob(actions).sum(-1), rtol=1e-3, atol=1e-3)  # type: ignore[no-untyped-call]
    assert torch.equal(actions, squashed.sample(parameters, seeded()))
    assert torch.equal(squashed.mode(parameters), normal.mean.tanh())
    np.testing.assert_array_equal(squashed.env_actions(actions), Gaussian(BOX).env_actions(actions))


def test_a_squashed_gaussian_stays_finite_far_out() -> None:
    parameters = torch.tensor([50.0, -50.0, 9.0, -90.0], requires_grad=True)
    bounded = SquashedGaussian(BOX).dist_params(parameters, torch.empty(0))
    assert bounded[2:].tolist() == [LOG_STD_BOUNDS[1], LOG_STD_BOUNDS[0]]
    actions, log_prob = SquashedGaussian(BOX).draw(bounded, seeded())
    (actions.sum() + log_prob).backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(log_prob) and torch.isfinite(parameters.grad).all()  # type: ignore[arg-type]


def test_samples_follow_their_distribution() -> None:
    gaussian, categorical = Gaussian(BOX), Categorical(gymnasium.spaces.Discrete(3))
    means, log_std = torch.tensor([0.5, -1.0]), torch.tensor([-0.5, 0.3])
    drawn = gaussian.sample(torch.cat([means, log_std]).expand(50_000, 1, 4), seeded())
    torch.testing.assert_close(drawn.mean((0, 1)), means, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std((0, 1)), log_std.exp(), atol=0.03, rtol=0)
    p = torch.tensor([0.2, 0.7, 0.1])
    chosen = categorical.sample(p.log().expand(50_000, 1, 3), seeded())
    torch.testing.assert_close(torch.bincount(chosen.flatten()) / 50_000, p, atol=0.01, rtol=0)
    never = torch.tensor([0.0, 1.0, 0.0]).log().expand(50_000, 1, 3)
    assert categorical.sample(never, seeded()).eq(1).all()


def test_one_seed_draws_one_sequence() -> None:
    thirds = torch.full((5, 2, 3), 1 / 3).log()
    for distribution, parameters in (
        (Gaussian(BOX), torch.zeros(5, 2, 4)),
        (Categorical(gymnasium.spaces.Discrete(3)), thirds),
    ):
        first, again, other = (distribution.sample(parameters, seeded(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_the_mode_is_the_mean_or_the_likeliest() -> None:
    parameters, p = normal_pair()
    assert torch.equal(Gaussian(BOX).mode(parameters), p.mean)
    log_p = torch.tensor([0.2, 0.7, 0.1]).log().expand(2, 2, 3)
    assert Categorical(gymnasium.spaces.Discrete(3)).mode(log_p).eq(1).all()


def test_plus_and_minus_one_are_the_bounds_and_actions_beyond_are_clipped() -> None:
    actions = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [-7.0, 7.0]])
    commands = Gaussian(BOX).env_actions(actions)
    np.testing.assert_allclose(commands, [[-1, 0], [1, 0.25], [3, 0.5], [-1, 0.5]])
    assert commands.dtype == np.float32


def test_discrete_actions_count_from_the_first_of_the_space() -> None:
    commands = Categorical(gymnasium.spaces.Discrete(3, start=5)).env_actions(torch.tensor([0, 2]))
    assert commands.tolist() == [5, 7]
    assert commands.dtype == np.int64


def test_spaces_that_no_policy_can_handle_are_refused() -> None:
    with pytest.raises(ValueError, match="finite bounds"):
        make_distribution(gymnasium.spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(ValueError, match="Discrete"):
        make_distribution(gymnasium.spaces.MultiBinary(3))
