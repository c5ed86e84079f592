"""Cost per agent and step, and memory, of rings and platoons of more and more agents.

The density of the ring, the samples of each agent and the settings stay the same, so cost per agent-step shows what
grows faster than the number of agents. The models' replay buffer is filled before they are fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from statistics import median
from typing import Any

from benchmarks.dmpo_parts import ENVIRONMENTS, PLATOON, Sizes, Stacked, opened, parts, prepare
from benchmarks.env_throughput import Bare
from benchmarks.machine import in_fresh_process, peak_megabytes, seconds
from benchmarks.rows import Options, Row
from dmpo.collector import Collector
from experiments.errors import ConfigError
from experiments.runs.threads import use_processor

AGENTS = (8, 22, 100, 400, 1_000)
METERS = 245 / 22  # of ring for each vehicle, as the published ring has on average
SIZES = Sizes(starts=128, steps=10, sequences=256, sequence_steps=4, model_fit_steps=25)
QUICK = Sizes(starts=32, steps=5, sequences=64, sequence_steps=4, model_fit_steps=25)
SCENARIOS = ("ring", "platoon")
BARE_STEPS = 200  # simulated


def scenario(name: str, agents: int) -> dict[str, Any]:
    """Scenario with that many agents."""
    if name == "platoon":
        return PLATOON | {"num_vehicles": agents}
    length = round(METERS * agents)
    return {"name": name, "num_vehicles": agents, "ring_length": length, "observation": "relative", "action_repeat": 5}


def rows(options: Options) -> Iterator[Row]:
    """Rows of each number of agents, measured in a process of its own, with the cost relative to 22 agents."""
    for name in SCENARIOS:
        usual: dict[str, float] = {}
        for agents in AGENTS[:2] if options.quick else AGENTS:
            try:
                costs, memory = in_fresh_process(measure, name, agents, options)
            except (ConfigError, BrokenProcessPool) as error:
                yield Row(piece="scale", what=name, size=f"{agents:,} agents", value=None, unit="µs", note=str(error))
                continue
            usual = costs if agents == 22 else usual
            limits = {"environment": bare(name, agents)}
            for what, cost in costs.items():
                note = f"{cost / usual[what]:.2f} of 22 agents'" if agents > 22 else ""
                yield Row(piece="scale", what=f"{name}: {what} per agent-step", size=f"{agents:,} agents", value=cost,
                          unit="µs", limit=limits.get(what), megabytes=memory, note=note)  # fmt: skip


def bare(name: str, agents: int) -> float:
    """Cost of the simulation alone, in as many environments, in µs per agent and step."""
    parameters = scenario(name, agents)
    with Bare(parameters.pop("name"), ENVIRONMENTS, 1, parameters) as alone:
        return 1e6 * alone.seconds(BARE_STEPS) / (BARE_STEPS * ENVIRONMENTS * agents)


def measure(name: str, agents: int, options: Options) -> tuple[dict[str, float], float]:
    """Costs of all parts of an iteration in µs per agent and step, and peak memory in MB."""
    use_processor(options.threads)
    sizes = QUICK if options.quick else SIZES
    with opened(options, sizes, scenario(name, agents)) as (learner, env):
        collector, buffer = Collector(env, learner, seed=0), learner.models.trainer.buffer
        rounds = 1 if options.quick else 3
        collector.collect()
        found = []
        for _ in range(rounds):
            batch, metrics = collector.collect()
            found.append(metrics)
        while buffer.added < buffer.capacity:
            buffer.add(batch)
        acting, stepping = (median(each[f"time/{what}_seconds"] for each in found) for what in ("act", "env"))
        decisions = batch.taken.numel()
        costs = {"acting": acting / decisions, "environment": stepping / (decisions * env.action_repeat)}
        samples = sizes.starts * sizes.steps
        steps = samples, sizes.sequences * sizes.sequence_steps, samples
        measured = parts(Stacked(learner), prepare(learner, env, sizes))
        for (part, call), count in zip(measured.items(), steps, strict=True):
            costs[part] = seconds(call, rounds) / count
        return {what: 1e6 * cost / agents for what, cost in costs.items()}, peak_megabytes()
