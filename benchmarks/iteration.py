"""One iteration of DMPO in the platoon, stacked and the obvious way.

600 real steps, ten times a rollout of the models and ten epochs on it, and 500 updates of the models: added up from
single ones of each, unless the suite is asked for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import torch

import envs
from benchmarks.dmpo_parts import QUICK, Sizes, Way, Work, opened, prepare, stacked_ways
from benchmarks.machine import flops, product_rate, timed
from benchmarks.reference import Reference
from benchmarks.rows import Options, Row
from experiments.runs.threads import use_processor

REAL_STEPS, INNER_ITERATIONS, EPOCHS, UPDATES = 600, 10, 10, 500
Measure = Callable[[Callable[[], object]], float]


def real_steps(way: Way, env: envs.VectorEnv) -> tuple[float, float]:
    """Seconds of acting, and of the environment, in the real steps."""
    observations, acting, stepping = env.reset(seed=0)[0], 0.0, 0.0
    for _ in range(REAL_STEPS):
        start = perf_counter()
        commands = way.act(torch.tensor(observations))
        decided = perf_counter()
        observations = env.step(commands)[0]
        acting, stepping = acting + decided - start, stepping + perf_counter() - decided
    return acting, stepping


def added_up(way: Way, work: Work, measure: Measure) -> dict[str, float]:
    """Seconds, or another measure, of all model rollouts, epochs and model updates, from single ones."""
    one, two = (measure(lambda epochs=epochs: way.improve(work.from_model, epochs)) for epochs in (1, 2))  # type: ignore[misc]
    return {
        "model rollout": INNER_ITERATIONS * measure(lambda: way.rollout(work.starts, work.sizes.steps)),
        # What is computed once per batch is in both.
        "actor and critic": INNER_ITERATIONS * (one + (EPOCHS - 1) * (two - one)),
        "model update": UPDATES * measure(lambda: way.update(work.draw())),
    }


def whole(way: Way, work: Work, measure: Measure) -> dict[str, float]:
    """Measure of the same work, done from end to end."""

    def rollout() -> None:
        for _ in range(INNER_ITERATIONS):
            way.rollout(work.starts, work.sizes.steps)

    def improve() -> None:
        for _ in range(INNER_ITERATIONS):
            way.improve(work.from_model, EPOCHS)

    def update() -> None:
        for _ in range(UPDATES):
            way.update(work.draw())

    names = ("model rollout", "actor and critic", "model update")
    return {name: measure(part) for name, part in zip(names, (rollout, improve, update), strict=True)}


def rows(options: Options) -> Iterator[Row]:
    """Rows of the iteration: stacked in each precision, beside the obvious way; the fastest of a few rounds."""
    use_processor(options.threads)
    sizes = QUICK if options.quick else Sizes()
    with opened(options, sizes) as (learner, env), envs.make("cacc_catchup", num_envs=1) as real:
        work = prepare(learner, env, sizes)
        stacked = stacked_ways(learner)
        ways: list[Way] = [*stacked.values(), Reference(learner)]
        rate = product_rate(options)
        operations = sum(added_up(ways[0], work, flops).values())
        found: list[list[dict[str, float]]] = [[] for _ in ways]
        for _ in range(1 if options.whole or options.quick else 3):
            for way, times in zip(ways, found, strict=True):
                times.append(_seconds(way, work, real, options.whole))
    *fastest, obvious = (min(times, key=lambda each: sum(each.values())) for times in found)
    inner = f"{INNER_ITERATIONS} × [{sizes.starts} × {sizes.steps} rollout, {EPOCHS} epochs]"
    size = f"{REAL_STEPS} real steps, {inner}, {UPDATES} model updates of {sizes.sequences} × {sizes.sequence_steps}"
    for precision, each in zip(stacked, fastest, strict=True):
        seconds = sum(each.values())
        yield Row(
            piece="iteration",
            what="DMPO, platoon of 8",
            size=f"{size}, {precision}",
            value=seconds,
            unit="s",
            limit=operations / rate,
            obvious=sum(obvious.values()),
            shares={name: part / seconds for name, part in each.items()},
            note="" if options.whole else "added up from single parts",
        )


def _seconds(way: Way, work: Work, env: envs.VectorEnv, from_end_to_end: bool) -> dict[str, float]:
    acting, stepping = real_steps(way, env)
    rest = whole(way, work, timed) if from_end_to_end else added_up(way, work, timed)
    return {"environment": stepping, "acting": acting, **rest}
