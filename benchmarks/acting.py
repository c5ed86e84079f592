"""Time of a decision of all agents of a platoon, stacked and the obvious way."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.dmpo_parts import QUICK, Stacked, Way, in_turn, opened
from benchmarks.machine import flops, product_rate, timed
from benchmarks.reference import Reference
from benchmarks.rows import Options, Row
from experiments.runs.threads import use_processor

CALLS = 20  # in a round, one after the other


def rows(options: Options) -> Iterator[Row]:
    """Rows for the states of one environment, and of sixteen."""
    use_processor(options.threads)
    rate = product_rate(options)
    with opened(options, QUICK) as (learner, _):
        ways: list[Way] = [Stacked(learner), Reference(learner)]
        for num_envs in (1, 16):
            seen = torch.rand(num_envs, learner.num_agents, learner.features)

            def decide(way: Way, seen: torch.Tensor = seen) -> None:
                for _ in range(CALLS):
                    way.act(seen)

            taken = in_turn([lambda way=way: timed(lambda: decide(way)) / CALLS for way in ways], options.rounds)  # type: ignore[misc]
            size = f"{num_envs} environments × {learner.num_agents} agents"
            limit = flops(lambda seen=seen: ways[0].act(seen)) / rate  # type: ignore[misc]
            yield Row(piece="acting", what="decisions of all agents", size=size, value=1e6 * taken[0], unit="µs",
                      limit=1e6 * limit, obvious=1e6 * taken[1])  # fmt: skip
