"""Env steps/s through `envs.make` with random actions, beside the bare rate of SUMO on the same network.

    python -m benchmarks.env_throughput

An env step is a simulated step of 0.1 s of one environment. Bare is `simulationStep` alone: the same roads and
vehicles in one process, nothing read, nothing commanded. Both begin with new episodes and take turns in one run, so
that whatever else slows the machine slows both; the medians over the rounds are given.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from gymnasium.spaces import Box
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import envs

STEPS = 300
ACTIONS = 64
_bare: dict[str, Any] = {}


class Rate(NamedTuple):
    """Env steps/s of one scenario."""

    scenario: str
    through_envs: float
    bare: float


def measure(scenario: str, num_envs: int, workers: int, rounds: int) -> Rate:
    """Rates of one scenario at its default size, medians over the rounds."""
    through, bare = [], []
    spawn = multiprocessing.get_context("spawn")
    with (
        envs.make(scenario, num_envs, workers) as env,
        ProcessPoolExecutor(1, spawn, _start_bare, (scenario, num_envs)) as pool,
    ):
        actions = _random_actions(env)
        for _ in range(rounds):
            through.append(_time_env(env, actions))
            bare.append(pool.submit(_time_bare).result())
        pool.submit(_close_bare).result()
    steps = num_envs * STEPS
    return Rate(scenario, steps / median(through), steps / median(bare))


def _random_actions(env: envs.VectorEnv) -> list[NDArray[Any]]:
    space, random = env.action_space, np.random.default_rng(0)
    shape = (ACTIONS, env.num_envs, env.num_agents)  # (T, E, N), and A where actions are continuous
    if isinstance(space, Box):
        return list(random.uniform(space.low, space.high, (*shape, *space.shape)))
    return list(random.integers(space.n, size=shape))


def _time_env(env: envs.VectorEnv, actions: list[NDArray[Any]]) -> float:
    env.reset()
    start = perf_counter()
    for step in range(STEPS):
        env.step(actions[step % ACTIONS])
    return perf_counter() - start


def _start_bare(scenario: str, num_envs: int) -> None:
    parameters = envs.parameters(scenario).model_validate({})
    with tempfile.TemporaryDirectory() as folder:
        _bare["scenario"] = envs.registry.scenario(scenario)(parameters, range(num_envs), 0, Path(folder))


def _time_bare() -> float:
    import libsumo

    _bare["scenario"].reset()
    start = perf_counter()
    for _ in range(STEPS):
        libsumo.simulationStep()
    return perf_counter() - start


def _close_bare() -> None:
    _bare["scenario"].close()


def main(
    num_envs: Annotated[int, typer.Option(min=1)] = 16,
    workers: Annotated[int, typer.Option(min=1)] = 1,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
) -> None:
    """Print the table."""
    table = Table(title=f"{num_envs} environments, {workers} worker(s), random actions: env steps/s")
    for column in ("scenario", "through envs", "bare", "share"):
        table.add_column(column, justify="left" if column == "scenario" else "right")
    for scenario in track(envs.names(), description="measuring", transient=True):
        rate = measure(scenario, num_envs, workers, rounds)
        share = rate.through_envs / rate.bare
        table.add_row(rate.scenario, f"{rate.through_envs:,.0f}", f"{rate.bare:,.0f}", f"{share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
