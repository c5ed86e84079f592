"""The ring equals Flow's, draws a length for every episode, and keeps its bounds."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

import envs
from envs.traffic.ring import uniform_flow_speed
from tests.envs.helpers import begin, constant, golden, pids, play

LENGTHS = (220, 230, 240, 250, 260, 270)
BOUNDS = {2.5: (2.50, 2.95, 3.41, 3.86, 4.32, 4.77), 2.0: (3.00, 3.45, 3.91, 4.36, 4.82, 5.27)}


@pytest.fixture(scope="module")
def drawn() -> Iterator[envs.VectorEnv]:
    """The published lengths, one step an episode."""
    with envs.make("ring", num_envs=16, horizon=5, action_repeat=5) as env:
        yield env


@pytest.fixture(scope="module")
def evaluated() -> Iterator[envs.VectorEnv]:
    """Every reference start, whole episodes; actions are held for half a minute, which changes no constant one."""
    with envs.make("ring", num_envs=6, mode="evaluate", action_repeat=300) as env:
        yield env


@pytest.fixture(scope="module")
def recorded() -> Iterator[envs.VectorEnv]:
    """Two rings of the recorded length."""
    with envs.make("ring", num_envs=2, ring_length=int(golden("ring")["length"]), horizon=600) as env:
        yield env


@pytest.mark.parametrize("start", ["own", "given"])
def test_an_episode_equals_flows(recorded: envs.VectorEnv, start: str) -> None:
    flow = golden("ring")
    state = {"edge": flow["e0"], "offset": flow["p0"], "speed": flow["v"][0]}
    first = begin(recorded, state=state if start == "given" else None)
    ours = play(recorded, np.repeat(flow["a"][:, None, :, None], 2, axis=1))

    np.testing.assert_allclose(ours["speed"], np.repeat(flow["v"][1:, None], 2, axis=1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours["reward"], np.repeat(flow["r"][:, None], 2, axis=1), rtol=0, atol=1e-6)
    assert ours["truncated"][-1].all()
    assert not ours["truncated"][:-1].any()
    assert not ours["terminated"].any()
    # At the last step the observation is the next episode's first, and the recorded one is the final one.
    seen = np.concatenate([first[None], ours["obs"][:-1], ours["final_obs"][-1:]])
    expected = np.stack([flow["v"] / 30, flow["x"] / flow["total_length"]], axis=-1)
    np.testing.assert_allclose(seen, np.repeat(expected[:, None], 2, axis=1), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours["obs"][-1], begin(recorded))


def test_ring_lengths_are_drawn_evenly_for_every_episode_in_one_simulation(drawn: envs.VectorEnv) -> None:
    workers = pids(drawn)
    begin(drawn, seed=0)
    episodes = play(drawn, constant(drawn, 0.0, 60))

    # All stand where they began, and the second vehicle began one spacing from the start of the ring.
    lengths = np.round(22 * episodes["position"][:, :, 1], 6)
    assert set(np.unique(lengths)) == set(range(220, 271))
    assert stats.chisquare(np.unique(lengths, return_counts=True)[1]).pvalue > 1e-3
    # Neither one environment to the next nor one episode to the next repeats the length.
    assert (lengths[:, 1:] == lengths[:, :-1]).mean() < 0.05
    assert (lengths[1:] == lengths[:-1]).mean() < 0.05
    assert pids(drawn) == workers
    assert episodes["truncated"].all()


def test_evaluation_goes_through_every_tenth_meter(evaluated: envs.VectorEnv) -> None:
    assert evaluated.reference_starts == len(LENGTHS)
    begin(evaluated)
    episodes = play(evaluated, constant(evaluated, 0.0, 11))
    np.testing.assert_allclose(22 * episodes["position"][:, :, 1], np.tile(LENGTHS, (11, 1)))


@pytest.mark.parametrize(("acceleration", "mean_return", "share"), [(0.05, 1316, 1.007), (1.0, -9820, None)])
def test_constant_accelerations_earn_what_is_known(
    evaluated: envs.VectorEnv, acceleration: float, mean_return: float, share: float | None
) -> None:
    begin(evaluated)
    episodes = play(evaluated, constant(evaluated, acceleration, 10))
    assert episodes["reward"].sum(axis=(0, 2)).mean() == pytest.approx(mean_return, rel=5e-4)
    if share is not None:
        bounds = [uniform_flow_speed(length, 22) for length in LENGTHS]
        assert (episodes["speed"][-1].mean(axis=1) / bounds).mean() == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("min_gap", BOUNDS)
def test_the_uniform_flow_speed_is_known(min_gap: float) -> None:
    assert [round(uniform_flow_speed(length, 22, min_gap), 2) for length in LENGTHS] == list(BOUNDS[min_gap])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ring_length": 165}, "ring_length = 165 is too short for num_vehicles = 22, which need more than 165 m"),
        ({"ring_length": (150, 200)}, "ring_length = 150 is too short"),
        ({"min_gap": 5.0}, "ring_length = 220 is too short"),
        ({"ring_length": (250, 240)}, "low <= high"),
        ({"ring_length": 0}, "greater than 0"),
        ({"ring_length": 230.5}, "integer"),
    ],
)
def test_a_ring_that_cannot_be_is_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        envs.parameters("ring")(**parameters)


def test_the_bound_is_what_the_uniform_flow_earns() -> None:
    """A step pays 4 v / (20 N) while v is below the target, and the target's 4 / N at most."""
    parameters = envs.parameters("ring")
    bound = envs.bounds(parameters())["uniform flow"]
    assert bound == pytest.approx(4 * np.mean(BOUNDS[2.5]) / (20 * 22), rel=1e-3)
    slow = envs.bounds(parameters(target_speed=2.0))["uniform flow"]
    assert slow == pytest.approx(4 / 22)
    assert envs.bounds(envs.parameters("cacc_catchup")()) == {}
