"""Gains of the mechanisms whose only reason is speed: the same work with and without each of them, in turn.

    python -m benchmarks.mechanisms
    python -m benchmarks.mechanisms kernels "fast products" --rounds 7

Every figure is taken in a process of its own. A mechanism that does not pay is to be removed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import dmpo
import envs
from benchmarks.env_throughput import random_actions
from benchmarks.machine import in_fresh_process
from benchmarks.switches import SWITCHES, switch_off
from experiments.config import loading
from experiments.errors import ConfigError
from experiments.runs.evaluation import make_env, make_learner, set_threads, with_threads

ITERATIONS = 3
STEPS = 300
DMPO = "dmpo_cacc_catchup"


@dataclass(frozen=True)
class Training:
    """Training of a preset, as the work that a mechanism is measured on: env steps/s after the first iteration.

    Attributes:
        preset: its name.
        overrides: settings besides.
        without: further settings, where it is these that do without the mechanism.
        never: mechanisms that neither of the two has, because they would hide this one.
    """

    preset: str = DMPO
    overrides: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def rate(self, off: str | None) -> float:
        """Env steps/s, with the mechanism or without it."""
        switch_off(*self.never, *([off] if off in SWITCHES else []))
        overrides = [*self.overrides, *(self.without if off else ())]
        experiment = with_threads(loading.load(self.preset, overrides).experiment)
        set_threads(experiment)
        train = experiment.train
        learner = make_learner(experiment, experiment.scenario)
        with make_env(experiment.scenario, train.num_envs, train.workers, train.seed) as env:
            trainer = dmpo.Trainer(env, learner, train.env_steps, train.seed, train.update_threads)
            iterations = trainer.iterations()
            next(iterations)
            begun, start = trainer.env_steps, perf_counter()
            for _ in islice(iterations, ITERATIONS):
                pass
            return (trainer.env_steps - begun) / (perf_counter() - start)


@dataclass(frozen=True)
class Driving:
    """Environments with random actions, as the work that a mechanism is measured on: env steps/s."""

    scenario: str = "ring"
    num_envs: int = 16
    workers: int = 1

    def rate(self, off: str | None) -> float:
        """Env steps/s, with the mechanism or without it."""
        switch_off(*([off] if off else []))
        with envs.make(self.scenario, self.num_envs, self.workers) as env:
            actions = random_actions(env)
            env.reset(seed=0)
            start = perf_counter()
            for step in range(STEPS):
                env.step(actions[step % len(actions)])
            return self.num_envs * STEPS / (perf_counter() - start)


@dataclass(frozen=True)
class Handing:
    """Arrays of a step handed to another process and back, by shared memory or through the pipe: exchanges/s."""

    shape: tuple[int, ...] = (16, 22, 8)

    def rate(self, off: str | None) -> float:
        """Exchanges/s, with shared memory or without."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        memory = None if off else context.RawArray("f", int(np.prod(self.shape)))
        process = context.Process(target=_answer, args=(theirs, memory, self.shape), daemon=True)
        process.start()
        array = np.ones(self.shape, np.float32)
        shared = None if memory is None else np.frombuffer(memory, np.float32).reshape(self.shape)
        ours.recv()
        start = perf_counter()
        for _ in range(STEPS):
            _exchange(ours, array, shared)
        taken = perf_counter() - start
        ours.send(None)
        process.join()
        return STEPS / taken


def _exchange(connection: Connection, array: Any, shared: Any) -> None:
    if shared is None:
        connection.send(array)
        connection.recv()
    else:
        shared[:] = array
        connection.send(True)
        connection.recv()
        shared.copy()


def _answer(connection: Connection, memory: Any, shape: tuple[int, ...]) -> None:
    shared = None if memory is None else np.frombuffer(memory, np.float32).reshape(shape)
    connection.send(True)
    while (asked := connection.recv()) is not None:
        if shared is not None:
            shared += 1
        connection.send(True if shared is not None else asked + 1)


WITHOUT_KERNELS = Training(never=("kernels",))
#: By the name of the mechanism, the work that shows what it gains.
WORK: dict[str, Training | Driving | Handing] = {
    "kernels": Training(),
    "Adam kernel": Training(),
    "model kernel": Training(),
    "fused losses": Training(),
    "fast products": WITHOUT_KERNELS,
    "chunks of samples": WITHOUT_KERNELS,
    "pieces of messages": WITHOUT_KERNELS,
    "bfloat16": Training(overrides=("train.precision=bfloat16",), without=("train.precision=float32",)),
    "kept memory": Training(),
    "threads for updates": Training("dppo_ring", without=("train.update_threads=1",)),
    "speeds in one call": Driving(),
    "awake workers": Driving(),
    "awake main process": Driving(),
    "a core for each worker": Driving(workers=2),
    "preparing ahead": Driving(),
    "shared memory": Handing(),
}


def measure(name: str, rounds: int, rate: Callable[..., float] = in_fresh_process) -> tuple[float, float]:
    """Medians of the rates with and without a mechanism, which take turns."""
    pairs = [(rate(WORK[name].rate, None), rate(WORK[name].rate, name)) for _ in range(rounds)]
    with_it, without = (median(column) for column in zip(*pairs, strict=True))
    return with_it, without


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Mechanisms; all, if left out.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of each pair; the medians are printed.")] = 5,
) -> None:
    """Print the table."""
    chosen = names or list(WORK)
    if unknown := set(chosen) - set(WORK):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: allowed are {', '.join(WORK)}")
    table = Table(title="The same work with and without each mechanism, a second")
    for column in ("mechanism", "work", "with", "without", "ratio"):
        table.add_column(column, justify="left" if column in ("mechanism", "work") else "right")
    for name in track(chosen, description="measuring", transient=True):
        work = type(WORK[name]).__name__.lower()
        try:
            with_it, without = measure(name, rounds)
            table.add_row(name, work, f"{with_it:,.0f}", f"{without:,.0f}", f"{with_it / without:.2f}")
        except ConfigError as error:  # such as a precision that the processor does not have
            table.add_row(name, work, str(error))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
