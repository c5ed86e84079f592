"""What holds for every scenario: episodes repeat exactly, actions are held, first episodes are staggered."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import envs
from tests.envs.helpers import (
    SMALL,
    Array,
    Episode,
    assert_same,
    begin,
    constant,
    pids,
    play,
    random_actions,
    rows,
    run_python,
    small,
)

HORIZON = 60
# More than two episodes: what an episode leaves behind would show in the next.
STEPS = 130
SEED = 3


@pytest.fixture(scope="module", params=list(SMALL))
def name(request: pytest.FixtureRequest) -> str:
    """A scenario."""
    return str(request.param)


@pytest.fixture(scope="module")
def used(name: str) -> Iterator[envs.VectorEnv]:
    """Three environments in one process, in whatever state the test before left them."""
    with small(name) as env:
        yield env


def saved_state(env: envs.VectorEnv) -> dict[str, Array]:
    """The state, with arrays that no later call overwrites."""
    return {key: array.copy() for key, array in env.get_state().items()}


@pytest.fixture(scope="module")
def restored(name: str, used: envs.VectorEnv) -> Iterator[tuple[envs.VectorEnv, Episode, Episode]]:
    """Environments of another seed and number of workers that began with a saved state, how they went on, and how the
    ones that were saved did."""
    begin(used, seed=5)
    play(used, random_actions(used, 47, seed=5))
    saved = saved_state(used)
    # Through the end of the episode: the clock and the random numbers of the next start are part of the state.
    actions = random_actions(used, 40, seed=6)
    went_on = play(used, actions)
    with small(name, workers=2, seed=99) as env:
        env.set_state(saved)
        yield env, play(env, actions), went_on


@pytest.fixture(scope="module")
def cold(name: str) -> tuple[Array, Array, Episode]:
    """First observations, actions and episodes of environments that were only just made."""
    with small(name, seed=SEED) as env:
        actions = random_actions(env, STEPS)
        return begin(env), actions, play(env, actions)


def crash(env: envs.VectorEnv) -> None:
    """End every environment's episode by a collision: the last vehicle runs into the one before it."""
    n = env.num_agents
    if "edge" in env.spec.start:
        road = env.spec.start["edge"].names[0]
        start = {"edge": [road] * n, "offset": np.arange(n) % 2 * 3.0, "speed": np.zeros(n)}
    else:
        start = {"headway": np.full(n, 1.5), "speed": np.full(n, 10.0), "leader_speed": np.zeros(env.horizon + 1)}
    begin(env, state=start)
    assert play(env, constant(env, 0, 10))["collision"].any(axis=0).all()


def test_an_episode_after_others_equals_one_in_a_fresh_process(
    used: envs.VectorEnv, cold: tuple[Array, Array, Episode]
) -> None:
    first, actions, episodes = cold
    begin(used)
    play(used, random_actions(used, 70, seed=1))
    play(used, constant(used, used.action_space.high[0] if used.action_space.shape else 3, 45))
    crash(used)
    play(used, random_actions(used, 7, seed=2))

    np.testing.assert_array_equal(begin(used, seed=SEED), first)
    assert_same(play(used, actions), episodes)
    np.testing.assert_array_equal(np.flatnonzero(episodes["truncated"].all(axis=1)), [59, 119])


def test_a_saved_state_goes_on_exactly_in_new_environments(
    restored: tuple[envs.VectorEnv, Episode, Episode],
) -> None:
    _, episodes, went_on = restored
    assert_same(episodes, went_on)
    assert went_on["truncated"][12].all()


def test_a_saved_state_goes_on_exactly_after_other_episodes(used: envs.VectorEnv) -> None:
    begin(used, seed=8)
    play(used, random_actions(used, 20, seed=8))
    saved, actions = saved_state(used), random_actions(used, 50, seed=9)
    went_on = play(used, actions)
    seen = used.set_state(saved).copy()
    assert_same(play(used, actions), went_on)
    np.testing.assert_array_equal(used.set_state(saved), seen)


def test_the_number_of_workers_changes_nothing(
    restored: tuple[envs.VectorEnv, Episode, Episode], cold: tuple[Array, Array, Episode]
) -> None:
    env = restored[0]
    first, actions, episodes = cold
    assert len(pids(env)) == 2
    np.testing.assert_array_equal(begin(env, seed=SEED), first)
    assert_same(play(env, actions), episodes)


def test_what_drives_beside_an_environment_changes_nothing(name: str, cold: tuple[Array, Array, Episode]) -> None:
    first, actions, episodes = cold
    with small(name, num_envs=1, seed=SEED) as alone:
        np.testing.assert_array_equal(begin(alone), first[:1])
        assert_same(play(alone, actions[:, :1]), rows(episodes, [0]))


def test_an_action_held_for_five_steps_equals_five_steps_of_it(name: str, used: envs.VectorEnv) -> None:
    begin(used, seed=SEED)
    drawn = random_actions(used, HORIZON // 5, seed=4)
    single = play(used, np.repeat(drawn, 5, axis=0))
    with small(name, seed=SEED, action_repeat=5) as env:
        begin(env)
        held = play(env, drawn)

    for key in ("obs", "final_obs", "speed", "position", "acceleration", "truncated", "collision"):
        np.testing.assert_array_equal(held[key], single[key][4::5], err_msg=key)
    summed = single["reward"].reshape(HORIZON // 5, 5, used.num_envs, used.num_agents).sum(axis=1)
    np.testing.assert_allclose(held["reward"], summed, rtol=1e-5, atol=1e-5)
    assert held["truncated"][-1].all() and not held["truncated"][:-1].any()


@pytest.fixture(scope="module")
def staggered() -> Iterator[envs.VectorEnv]:
    """Seven environments with 12 actions an episode, over two workers."""
    with small("cacc_catchup", num_envs=7, workers=2, stagger=True, action_repeat=5) as env:
        yield env


def episode_lengths(env: envs.VectorEnv, steps: int = 24) -> list[list[int]]:
    """Actions of each environment's whole episodes."""
    ends = play(env, constant(env, 3, steps))["truncated"]
    return [np.diff(np.flatnonzero(column), prepend=-1).tolist() for column in ends.T]


def test_staggered_first_episodes_all_end_at_different_times_and_later_ones_are_whole(
    staggered: envs.VectorEnv,
) -> None:
    begin(staggered)
    lengths = episode_lengths(staggered)
    first = [episode[0] for episode in lengths]
    assert len(set(first)) == 7
    assert min(first) >= 1 and max(first) == 12
    # No quarter of an episode without an end.
    assert np.diff(sorted([*first, 0])).max() <= 3
    assert all(episode == 12 for episodes in lengths for episode in episodes[1:])

    with small("cacc_catchup", num_envs=3, stagger=True, action_repeat=5) as fewer:
        begin(fewer)
        assert episode_lengths(fewer) == lengths[:3]


def test_where_a_staggered_episode_ends_is_part_of_the_saved_state(staggered: envs.VectorEnv) -> None:
    begin(staggered)
    saved = saved_state(staggered)
    lengths = episode_lengths(staggered)
    staggered.set_state(saved)
    assert episode_lengths(staggered) == lengths


def test_a_given_start_is_not_cut_off(staggered: envs.VectorEnv) -> None:
    still = {"headway": np.full(8, 20.0), "speed": np.full(8, 15.0), "leader_speed": np.full(HORIZON + 1, 15.0)}
    begin(staggered, state=still)
    assert episode_lengths(staggered) == [[12, 12]] * 7


def test_evaluation_is_not_staggered() -> None:
    with small("cacc_catchup", stagger=True, mode="evaluate", action_repeat=5) as env:
        begin(env)
        assert episode_lengths(env) == [[12, 12]] * 3


def test_an_action_repeat_that_does_not_divide_the_horizon_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="action_repeat = 7 does not divide horizon = 60; choose a horizon"):
        envs.parameters(name)(horizon=60, action_repeat=7)


# A scenario without roads -----------------------------------------------------------------------------------------

SPRINGS = """
from typing import Literal

import gymnasium
import networkx as nx
import numpy as np
from pydantic import Field

import envs
from envs.scenario import Scenario, ScenarioParameters, Spec
from envs.starts import StartField


class SpringsParameters(ScenarioParameters):
    name: Literal["springs"] = "springs"
    horizon: int = Field(12, gt=0, description="Simulated steps in an episode.")
    masses: int = Field(3, ge=2, description="Masses on a line, all but the last of which are agents.")


@envs.register("springs")
class Springs(Scenario[SpringsParameters]):
    Parameters = SpringsParameters
    entities = "masses"
    flags = ("stretched",)

    def __init__(self, parameters, numbers, seed, folder):
        super().__init__(parameters, numbers, seed, folder)
        self.position, self.speed = np.zeros((2, self.num_envs, self.num_entities))
        self.stretched = np.zeros(self.num_envs, dtype=np.bool_)

    @classmethod
    def spec(cls, parameters):
        m = parameters.masses
        return Spec(
            places=tuple(range(m - 1)),
            num_entities=m,
            graph=nx.path_graph(m - 1),
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            action_space=gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32),
            reference_starts=4,
            state_names=("position", "speed"),
            start={"position": StartField(m)},
            step_seconds=0.25,
        )

    def _begin(self, env, start):
        drawn = self.random[env].normal(size=self.num_entities)
        self.position[env], self.speed[env] = drawn if start is None else start["position"], 0.0

    def _advance(self, command):
        force = np.zeros_like(self.position)
        force[:, :-1] = command[..., 0]
        force[:, 1:] -= np.diff(self.position, axis=1)
        self.speed += 0.25 * force
        self.position += 0.25 * self.speed
        far = np.abs(self.position) > 3
        self.stretched[:] = far.any(1)
        self.ended_by[:] = self.of_agents(far)
        return -self.of_agents(self.position) ** 2, self.stretched

    def observe_agents(self):
        return self.of_agents(np.stack([self.position, self.speed], axis=-1))

    def reported_state(self):
        return {"position": self.position, "speed": self.speed}

    def _snapshot(self):
        return {"position": self.position.copy(), "speed": self.speed.copy()}

    def _restore(self, env, snapshot):
        self.position[env], self.speed[env] = snapshot["position"][env], snapshot["speed"][env]
"""
RUN_SPRINGS = """
import sys

import numpy as np

import dmpo
import envs
import springs


if __name__ == "__main__":
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 4, 2, 1))
    found = []
    for workers in (1, 2):
        with envs.make("springs", num_envs=4, workers=workers, seed=7) as env:
            assert env.step_seconds == 0.25 and env.num_agents == 2 and env.meter().metrics() == {}
            first, info = env.reset()
            assert info["state"]["position"].shape == (4, 2) and info["masses"]["position"].shape == (4, 3)
            rows = [env.step(row)[0].copy() for row in actions[:10]]
            state = {name: array.copy() for name, array in env.get_state().items()}
            rest = [env.step(row)[0].copy() for row in actions[10:]]
            env.set_state(state)
            again = [env.step(row)[0].copy() for row in actions[10:]]
            assert np.array_equal(rest, again)
            found.append(np.stack(rows + rest))
    assert np.array_equal(*found)
    own_ends = []
    for repeat in (1, 4):
        with envs.make("springs", num_envs=50, seed=7, action_repeat=repeat) as env:
            env.reset()
            ended, ended_by = np.zeros(50, dtype=bool), np.zeros((50, 2), dtype=bool)
            for _ in range(12 // repeat):
                _, _, terminated, truncated, info = env.step(np.ones((50, 2, 1)))
                assert not info["ended_by"][~terminated].any()
                ended_by |= info["ended_by"] & ~ended[:, None]
                ended |= terminated | truncated
            own_ends.append(ended_by)
    assert np.array_equal(*own_ends) and len(np.unique(ended_by, axis=0)) > 2
    with envs.make("springs", num_envs=2, mode="evaluate") as env:
        evaluation = dmpo.evaluate(env, lambda seen: np.zeros((*seen.shape[:2], 1)), seed=0)
        assert set(evaluation.metrics) == {"eval/reward", "eval/return", "eval/length"}
        assert evaluation.trajectory["position"].shape[1] == 3
    print(sorted({name.split(".")[0] for name in sys.modules} & {"libsumo", "sumo", "traci"}))
"""


def test_a_scenario_needs_neither_roads_nor_sumo(tmp_path: Path) -> None:
    (tmp_path / "springs.py").write_text(SPRINGS)
    (tmp_path / "main.py").write_text(RUN_SPRINGS)
    seen = run_python("main.py", folder=tmp_path)
    assert (seen.stdout, seen.stderr) == ("[]\n", "")
