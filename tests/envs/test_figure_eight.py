"""The figure eight equals Flow's, reaches the known speeds, and ends by collision where the two streams meet."""

from collections.abc import Iterator

import numpy as np
import pytest

import envs
from envs.figure_eight import NAMED_LENGTH, PUBLISHED_START
from envs.loop import Lanes
from tests.envs.helpers import begin, golden, play

HORIZON = 1500
# All wait on the lower ring but for one vehicle on each road to the crossing, 25 m from it and at the same speed.
MEETING = {
    "edge": ["lower_ring"] * 12 + ["bottom", "right"],
    "offset": [*np.arange(12) * 10.0, 5.0, 5.0],
    "speed": [0.0] * 12 + [10.0, 10.0],
}


@pytest.fixture(scope="module")
def env() -> Iterator[envs.VectorEnv]:
    """Four figures, on which an episode is the published one."""
    with envs.make("figure_eight", num_envs=4, horizon=HORIZON) as env:
        yield env


@pytest.mark.parametrize("start", ["own", "given"])
def test_an_episode_equals_flows(env: envs.VectorEnv, start: str) -> None:
    flow = golden("figure_eight")
    state = {"edge": flow["e0"], "offset": flow["p0"], "speed": flow["v"][0]}
    first = begin(env, state=state if start == "given" else None)
    ours = play(env, np.repeat(flow["a"][:, None, :, None], 4, axis=1))

    np.testing.assert_allclose(ours["speed"], np.repeat(flow["v"][1:, None], 4, axis=1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours["reward"], np.repeat(flow["r"][:, None], 4, axis=1), rtol=0, atol=2e-6)
    assert not ours["terminated"].any()
    expected = np.stack([flow["v"] / 30, flow["x"] / flow["total_length"]], axis=-1)
    seen = np.concatenate([first[None], ours["obs"]])
    np.testing.assert_allclose(seen, np.repeat(expected[:, None], 4, axis=1), rtol=0, atol=1e-6)


def test_the_rule_for_other_numbers_of_vehicles_gives_the_published_start_too() -> None:
    lengths = [30.0, 6.2, 30.0, 0.2, 141.37, 0.2, 30.0, 6.2, 30.0, 0.2, 141.37, 6.2]
    ends = np.cumsum(lengths)
    names = [f"{kind}_{k}" for k in range(6) for kind in ("road", "junction")]
    places = Lanes(tuple(names), ends - lengths, ends[-1]).spread(14, NAMED_LENGTH / 14)
    assert places.lane[0] == 0
    assert places.offset[0] == 0.0
    assert len(set(zip(places.lane.tolist(), places.offset.tolist(), strict=True))) == len(PUBLISHED_START)
