"""Env steps/s of `envs.make` with random actions, beside the bare rate of SUMO on the same network.

    python -m benchmarks.env_throughput
    python -m benchmarks.env_throughput --fleets
    python -m benchmarks.env_throughput --fleets --policy

An env step is a simulated step of 0.1 s of one environment. The bare rate is that of `simulationStep` alone, on the
same roads with the same vehicles in as many processes. Both start with new episodes and take turns, so that other
work on the machine slows both; the table has medians over the rounds.

With `--fleets`, mixed fleets take turns with fleets of learners only, on the same roads with as many vehicles. Since
the traffic decides how much SUMO has to compute, the second fleet is given the accelerations of the first, limited to a
learner's action space. The limit matters where SUMO drives the humans; mean speeds show how similar both are. Turns
are short, and the smallest time over the rounds counts for each step, since other work can only add to it.

With `--policy` the time that the learners' policies need to act counts as well, as in training. Their actions are not
carried out, so that the traffic stays the same.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import typer
from gymnasium.spaces import Box
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import dmpo
import envs
from benchmarks.rows import Options, Row
from experiments.runs.threads import use_processor

STEPS = 300
TURN = 10  # steps of one fleet before it is the other's turn
ACTIONS = 64
# Mixed fleets: scenario, learners, and who drives the others.
FLEETS = (
    ("ring", 1, "idm"),
    ("ring", 1, "sumo"),
    ("figure_eight", 7, "idm"),
    ("figure_eight", 1, "idm"),
    ("figure_eight", 1, "sumo"),
)
_bare: dict[str, Any] = {}


class Rate(NamedTuple):
    """Env steps/s of one scenario."""

    scenario: str
    through_envs: float
    bare: float


def measure(scenario: str, num_envs: int, workers: int, rounds: int, steps: int = STEPS) -> Rate:
    """Measure the rates of one scenario at its default size, as medians over the rounds."""
    through, bare = [], []
    with envs.make(scenario, num_envs, workers) as env, Bare(scenario, num_envs, workers, {}) as alone:
        actions = random_actions(env)
        for _ in range(rounds):
            through.append(_time_env(env, actions, steps))
            bare.append(alone.seconds(steps))
    return Rate(scenario, num_envs * steps / median(through), num_envs * steps / median(bare))


class Bare:
    """SUMO alone on the network of a scenario, in as many processes as the environments have; a context manager.

    Args:
        scenario: its name.
        num_envs: E.
        workers: number of processes that share them.
        parameters: of the scenario.
    """

    def __init__(self, scenario: str, num_envs: int, workers: int, parameters: Mapping[str, Any]) -> None:
        spawn = multiprocessing.get_context("spawn")
        shares = [range(num_envs * w // workers, num_envs * (w + 1) // workers) for w in range(workers)]
        self._pools = [
            ProcessPoolExecutor(1, spawn, _start_bare, (scenario, dict(parameters), share)) for share in shares
        ]

    def seconds(self, steps: int) -> float:
        """Time of a number of simulated steps of new episodes, in all processes at once, in seconds."""
        return max(job.result() for job in [pool.submit(_time_bare, steps) for pool in self._pools])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools:
            pool.submit(_close_bare)
            pool.shutdown()


def scenarios() -> list[str]:
    """Scenarios whose environments share a simulation; others have no bare rate of all environments together."""
    return [name for name in envs.names() if not envs.registry.scenario(name).one_env_a_process]


def rows(options: Options) -> Iterator[Row]:
    """Rows of scenarios × environments × workers."""
    cores = len(os.sched_getaffinity(0))
    sizes = [(16, 1)] if options.quick else list(dict.fromkeys([(1, 1), (16, 1), (16, min(cores, 16)), (64, 1)]))
    for scenario in scenarios():
        for num_envs, workers in sizes:
            rate = measure(scenario, num_envs, workers, options.rounds, 100 if options.quick else STEPS)
            size = f"{num_envs} environments, {workers} workers"
            yield Row(piece="environments", what=scenario, size=size, value=rate.through_envs, unit="env steps/s",
                      limit=rate.bare)  # fmt: skip


class Fleet(NamedTuple):
    """Env steps/s and mean speed in m/s of a fleet."""

    rate: float
    speed: float


def measure_fleets(
    scenario: str, learners: int, humans: str, num_envs: int, workers: int, rounds: int, policy: bool = False
) -> tuple[Fleet, Fleet]:
    """Measure a mixed fleet with the default noise and an equal fleet of learners, with policies or without."""
    driving: dict[str, Any] = {"controller": humans, "min_gap": 2.5, "deceleration": 4.5}  # as learners are to SUMO
    roads: dict[str, Any] = {"ring_length": 245} if scenario == "ring" else {}
    with (
        envs.make(scenario, num_envs, workers, **roads, learners=learners, humans=driving) as mixed,
        envs.make(scenario, num_envs, workers, **roads) as all_learning,
    ):
        actions = random_actions(mixed)
        both = (mixed, actions), (all_learning, _accelerations(mixed, actions))
        fleets = [(env, taken, _policy(env) if policy else None) for env, taken in both]
        found = np.array([_take_turns(fleets) for _ in range(rounds)])  # (rounds, fleets, steps, seconds and speed)
    seconds, speed = np.moveaxis(found.min(axis=0), -1, 0)
    mixed_fleet, other = map(Fleet, num_envs / seconds.mean(axis=1), speed.mean(axis=1))
    return mixed_fleet, other


def _policy(env: envs.VectorEnv) -> dmpo.Learner:
    """Untrained policies, one for each agent, on one thread beside SUMO as in training."""
    use_processor(1)
    settings = dmpo.settings_of("dppo").model_validate({})
    return dmpo.make_learner(settings, env.graph, env.observation_space, env.action_space)


def _take_turns(
    fleets: Sequence[tuple[envs.VectorEnv, list[NDArray[Any]], dmpo.Learner | None]],
) -> list[list[tuple[float, float]]]:
    """Seconds of each step of each fleet, and the mean speed after it."""
    seen = [env.reset(seed=0)[0] for env, _, _ in fleets]  # the environment's own arrays, which each step overwrites
    found: list[list[tuple[float, float]]] = [[] for _ in fleets]
    for first in range(0, STEPS, TURN):
        for (env, actions, policy), observations, taken in zip(fleets, seen, found, strict=True):
            for step in range(first, first + TURN):
                start = perf_counter()
                if policy:
                    policy.act(observations)
                info = env.step(actions[step % len(actions)])[4]
                taken.append((perf_counter() - start, float(info["traffic"]["speed"].mean())))
    return found


def _accelerations(env: envs.VectorEnv, actions: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Accelerations of all vehicles in the timed episodes, as T actions (E, M, 1)."""
    env.reset(seed=0)
    found = []
    for step in range(STEPS):
        info = env.step(actions[step % len(actions)])[4]
        found.append(info["traffic"]["acceleration"][..., None].copy())
    return found


def random_actions(env: envs.VectorEnv) -> list[NDArray[Any]]:
    """Actions (E, N, A) or (E, N) of `ACTIONS` steps, drawn uniformly from the action space."""
    space, random = env.action_space, np.random.default_rng(0)
    shape = (ACTIONS, env.num_envs, env.num_agents)  # (T, E, N), and A where actions are continuous
    if isinstance(space, Box):
        return list(random.uniform(space.low, space.high, (*shape, *space.shape)))
    return list(random.integers(space.n, size=shape))


def _time_env(env: envs.VectorEnv, actions: list[NDArray[Any]], steps: int) -> float:
    env.reset(seed=0)
    start = perf_counter()
    for step in range(steps):
        env.step(actions[step % len(actions)])
    return perf_counter() - start


def _start_bare(scenario: str, parameters: dict[str, Any], numbers: range) -> None:
    checked = envs.parameters(scenario).model_validate(parameters)
    with tempfile.TemporaryDirectory() as folder:
        _bare["scenario"] = envs.registry.scenario(scenario)(checked, numbers, 0, Path(folder))


def _time_bare(steps: int) -> float:
    import libsumo

    _bare["scenario"].reset()
    start = perf_counter()
    for _ in range(steps):
        libsumo.simulationStep()
    return perf_counter() - start


def _close_bare() -> None:
    _bare["scenario"].close()


def main(
    num_envs: Annotated[int, typer.Option(min=1)] = 16,
    workers: Annotated[int, typer.Option(min=1)] = 1,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    fleets: Annotated[bool, typer.Option(help="compare mixed fleets with fleets of learners only")] = False,
    policy: Annotated[bool, typer.Option(help="with --fleets: include the time that policies need to act")] = False,
) -> None:
    """Print the table."""
    table = _fleets(num_envs, workers, rounds, policy) if fleets else _scenarios(num_envs, workers, rounds)
    Console().print(table)


def _scenarios(num_envs: int, workers: int, rounds: int) -> Table:
    table = Table(title=f"{num_envs} environments, {workers} worker(s), random actions: env steps/s")
    for column in ("scenario", "through envs", "bare", "share"):
        table.add_column(column, justify="left" if column == "scenario" else "right")
    for scenario in track(scenarios(), description="measuring", transient=True):
        rate = measure(scenario, num_envs, workers, rounds)
        share = rate.through_envs / rate.bare
        table.add_row(rate.scenario, f"{rate.through_envs:,.0f}", f"{rate.bare:,.0f}", f"{share:.0%}")
    return table


def _fleets(num_envs: int, workers: int, rounds: int, policy: bool) -> Table:
    acting = "random actions, and policies that decide" if policy else "random actions"
    table = Table(title=f"{num_envs} environments, {workers} worker(s), {acting}: env steps/s")
    for column in ("scenario", "learners", "humans", "mixed", "all learning", "ratio", "m/s", "all learning, m/s"):
        table.add_column(column, justify="left" if column in ("scenario", "humans") else "right")
    for scenario, learners, humans in track(FLEETS, description="measuring", transient=True):
        mixed, other = measure_fleets(scenario, learners, humans, num_envs, workers, rounds, policy)
        rates = f"{mixed.rate:,.0f}", f"{other.rate:,.0f}", f"{mixed.rate / other.rate:.2f}"
        table.add_row(scenario, str(learners), humans, *rates, f"{mixed.speed:.2f}", f"{other.speed:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
