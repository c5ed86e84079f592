"""Helpers of the tests of envs: recordings, episodes as arrays, and processes for what needs a SUMO of its own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

import envs
from envs import VectorEnv
from envs.sumo.simulation import Simulation

Array = NDArray[Any]
Episode = dict[str, Array]
Result = TypeVar("Result")
DATA = Path(__file__).parents[1] / "data"
#: Parameters that keep a scenario quick to build.
SMALL: dict[str, dict[str, Any]] = {
    "ring": {"ring_length": (230, 233)},
    "figure_eight": {},
    "cacc_catchup": {},
    "cacc_slowdown": {},
}


def golden(name: str) -> Episode:
    """A recorded episode of a published environment; see tests/data/README.md."""
    file, _, prefix = name.partition("/")
    with np.load(DATA / f"{file}.npz") as recording:
        return {key.removeprefix(prefix + "/"): recording[key] for key in recording if key.startswith(prefix)}


def small(name: str, num_envs: int = 3, workers: int = 1, seed: int = 0, **changes: Any) -> VectorEnv:
    """Environments of a scenario with few roads and short episodes."""
    return envs.make(name, num_envs, workers, seed, **({"horizon": 60} | SMALL[name] | changes))


def random_actions(env: VectorEnv, steps: int, seed: int = 0, same_everywhere: bool = False) -> Array:
    """Actions (T, E, N, ...) drawn from the whole action space, for one environment as for the other if asked so."""
    random = np.random.default_rng(seed)
    agents = (steps, 1 if same_everywhere else env.num_envs, env.num_agents)
    if env.action_space.shape:
        drawn: Array = random.uniform(env.action_space.low, env.action_space.high, (*agents, 1))
    else:
        drawn = random.integers(env.action_space.n, size=agents)
    return np.broadcast_to(drawn, (steps, env.num_envs, *drawn.shape[2:]))


def constant(env: VectorEnv, action: float | int, steps: int) -> Array:
    """Actions (T, E, N, ...) that are all the same."""
    return np.full((steps, env.num_envs, env.num_agents, *(env.action_space.shape or ())), action)


def play(env: VectorEnv, actions: Iterable[ArrayLike]) -> Episode:
    """Step through actions (T, E, N, ...) and keep copies of all there is to see, each (T, E, ...)."""
    steps = []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        # The last observation of an episode is only valid where one ended.
        ended = (terminated | truncated)[:, None, None]
        seen = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated}
        seen |= {"final_obs": np.where(ended, info["final_obs"], 0.0), **info["state"]}
        seen |= {"collision": info["collision"], "ended_by": info["ended_by"]}
        steps.append({name: array.copy() for name, array in seen.items()})
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


def begin(env: VectorEnv, seed: int | None = None, state: Mapping[str, ArrayLike] | None = None) -> Array:
    """The first observations (E, N, D) of new episodes, copied."""
    return env.reset(seed, None if state is None else {"state": state})[0].copy()


def assert_same(one: Episode, other: Episode) -> None:
    """Two episodes agree to the last bit."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def rows(episode: Episode, envs: Any) -> Episode:
    """The part of an episode that belongs to some of the environments."""
    return {name: array[:, envs] for name, array in episode.items()}


def pids(env: VectorEnv) -> list[int]:
    """Process numbers of an environment's workers."""
    return [worker.process.pid or 0 for worker in env._workers]


def run_python(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python on arguments, in a folder whose modules it can import beside this project's."""
    root = str(DATA.parents[1])
    # The output ends when the last process that inherited it has gone.
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder or root,
        env=os.environ | {"PYTHONPATH": root},
    )


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Result of a function in a fresh process: libsumo holds one simulation a process, and this one holds none."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result(timeout=120)


def lane_positions(simulation: Simulation, env: int) -> tuple[list[str], Array]:
    """SUMO's own lane (M names) and offset (M,) in m of each vehicle of one copy."""
    import libsumo

    ids = simulation._ids[env]
    return [libsumo.vehicle.getLaneID(i) for i in ids], np.array([libsumo.vehicle.getLanePosition(i) for i in ids])
