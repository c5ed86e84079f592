"""What the parts of one DMPO iteration in the platoon take, at the paper's sizes.

    python -m benchmarks.dmpo_parts

The models are fitted to real steps first, so that what is timed is what training does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

import dmpo
import envs
from dmpo.collect import Collector
from dmpo.configuration import DMPOSettings
from dmpo.dmpo import DMPO
from dmpo.ppo import PPO

STARTS, STEPS, WINDOWS, WINDOW_STEPS = 2_048, 25, 512, 4
#: Seconds that each part may take on two cores.
LIMITS = {"model rollout, 2048 × 25 steps": 0.2, "model update, 512 × 4 steps": 0.012, "epoch, 51,200 samples": 0.35}


def parts(learner: DMPO, env: dmpo.Environment) -> dict[str, Callable[[], float]]:
    """What times each of the three parts once, by name."""
    batch, _ = Collector(env, learner, seed=0).collect()
    learner.fit(batch)
    models, starts = learner.practice.models, batch.observations[:-1][batch.valid]  # (S, N, D)
    windows = models.memory.windows(WINDOW_STEPS, held_out=False)
    imagined = learner.practice.imagine(starts, STEPS)
    whole = replace(imagined, terminated=imagined.terminated & False, valid=imagined.valid | True)
    ppo = learner.ppo
    once, twice = (PPO(ppo.policy, ppo.critic, ppo.over, ppo.settings, ppo.generator) for _ in range(2))
    twice.settings = learner.settings.model_copy(update={"epochs": 2})

    def epoch() -> float:
        # Two epochs less one: what is computed once per batch is in both.
        return timed(lambda: twice.improve(whole, 0.0)) - timed(lambda: once.improve(whole, 0.0))

    return dict(
        zip(
            LIMITS,
            (
                lambda: timed(lambda: learner.practice.imagine(starts, STEPS)),
                lambda: timed(lambda: models.update(windows.draw(WINDOWS, learner.generator))),
                epoch,
            ),
            strict=True,
        )
    )


def timed(part: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = perf_counter()
    part()
    return perf_counter() - start


def seconds(part: Callable[[], float], rounds: int) -> float:
    """Median of so many times, after two that do not count."""
    return median([part() for _ in range(rounds + 2)][2:])


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Calls of each part.")] = 15,
    threads: Annotated[int, typer.Option(min=1)] = len(os.sched_getaffinity(0)),
) -> None:
    """Print the table."""
    torch.set_num_threads(threads)
    sizes = {"model_starts": STARTS, "model_steps": STEPS, "loss_steps": WINDOW_STEPS, "rollout_steps": 120}
    once = {"epochs": 1, "minibatches": 1, "kl_target": None}
    settings = DMPOSettings.model_validate({"kappa": 1, **sizes, **once})
    with envs.make("cacc_catchup", num_envs=4, action_repeat=5) as env:
        learner = DMPO(settings, env.graph, env.observation_space, env.action_space)
        found = {name: seconds(part, rounds) for name, part in parts(learner, env).items()}
    table = Table(title=f"Platoon of 8, {threads} threads, median of {rounds}")
    for column in ("part", "ms", "at most, ms", "reached"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, taken in found.items():
        limit = LIMITS[name]
        table.add_row(name, f"{1e3 * taken:.1f}", f"{1e3 * limit:g}", "yes" if taken <= limit else "no")
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
