"""Whole training iterations of each learner: env steps/s, shares of the time, and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from time import perf_counter
from typing import Any

import dmpo
from benchmarks.env_throughput import STEPS, Bare
from benchmarks.machine import in_fresh_process, peak_megabytes
from benchmarks.rows import Options, Row
from experiments.config import loading
from experiments.config.schema import Experiment
from experiments.errors import ConfigError
from experiments.runs.evaluation import make_env, make_learner, set_threads, with_threads

#: Training by name: a preset and the settings that differ from it. Without a warm-up, improvement starts at once.
CASES: dict[str, tuple[str, list[str]]] = {
    "dppo, ring, a decision every step": ("dppo_ring_every_step", []),
    "dppo, ring, a decision every step, 10 epochs": ("dppo_ring", ["scenario.action_repeat=1", "train.workers=2"]),
    "dppo, ring": ("dppo_ring", []),
    "dmpo, ring": ("dmpo_ring", []),
    "dppo, platoon": ("dppo_cacc_catchup", []),
    "dmpo, platoon": ("dmpo_cacc_catchup", []),
    "dsac, platoon": ("dsac_cacc_catchup", ["algorithm.warm_up_steps=0"]),
    "dmpo_sac, platoon": (
        "dmpo_cacc_catchup_paper",
        ["algorithm.warm_up_steps=0", "algorithm.model_warm_up_fit_steps=null"],
    ),
    "cppo, platoon": ("cppo_cacc_catchup", []),
    "ia2c, platoon": ("ia2c_cacc_catchup", []),
    "ic3net, platoon": ("ic3net_cacc_catchup", []),
}
QUICK = ("dppo, ring", "dmpo, platoon")
FEWER_MODEL_STEPS = ["algorithm.model_fit_steps=25", "algorithm.inner_iterations=1"]  # for a quick run


def rows(options: Options) -> Iterator[Row]:
    """A row for each learner, measured in a process of its own."""
    for what in QUICK if options.quick else CASES:
        try:
            yield in_fresh_process(measure, what, options)
        except (ConfigError, BrokenProcessPool) as error:
            yield Row(piece="training", what=what, size="", value=None, unit="env steps/s", note=str(error))


def load(what: str, options: Options) -> Experiment:
    """Experiment of a case, with the threads that `dmpo train` would give it."""
    preset, overrides = CASES[what]
    fewer = FEWER_MODEL_STEPS if options.quick and preset.startswith("dmpo") else []
    experiment = loading.load(preset, [*overrides, *fewer, f'train.device="{options.device}"']).experiment
    return with_threads(experiment)


def measure(what: str, options: Options) -> Row:
    """Row of one case, from the iterations after the first, which has more to set up."""
    experiment = load(what, options)
    train, scenario = experiment.train, experiment.scenario
    set_threads(experiment)
    learner: Any = make_learner(experiment, scenario)
    with make_env(scenario, train.num_envs, train.workers, train.seed) as env:
        trainer = dmpo.Trainer(env, learner, train.env_steps, train.seed, train.update_threads)
        modeling = clocked(learner)
        iterations = trainer.iterations()
        next(iterations)
        modeling.clear()
        begun, start = trainer.env_steps, perf_counter()
        found = [next(iterations) for _ in range(2 if options.quick else 5)]
        taken, steps, memory = perf_counter() - start, trainer.env_steps - begun, peak_megabytes()
        acting, stepping = (sum(m[f"time/{name}_seconds"] for m in found) for name in ("act", "env"))
        update = sum(m["time/update_seconds"] for m in found) - sum(modeling)
        agents = env.num_agents
    parts = {"environment": stepping, "acting": acting, "update": update, "model": sum(modeling)}
    threads = f"{train.threads} and {train.update_threads}"  # while SUMO steps, and while it waits
    parameters = scenario.model_dump(exclude={"name"})
    with Bare(scenario.name, train.num_envs, train.workers, parameters) as bare:
        limit = train.num_envs * STEPS / min(bare.seconds(STEPS) for _ in range(options.rounds))
    return Row(
        piece="training",
        what=what,
        size=f"{steps // len(found):,} env steps × {agents} agents an iteration, {threads} threads",
        value=steps / taken,
        unit="env steps/s",
        limit=limit,
        shares={name: part / taken for name, part in parts.items() if part},
        megabytes=memory,
    )


def clocked(learner: Any) -> list[float]:
    """Seconds of each fit of the models and each rollout in them from now on; empty for a learner without models."""
    taken: list[float] = []
    if hasattr(learner, "models"):
        learner.fit = _clocked(learner.fit, taken)
        learner.models.rollout = _clocked(learner.models.rollout, taken)
    return taken


def _clocked(function: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        start = perf_counter()
        result = function(*arguments)
        taken.append(perf_counter() - start)
        return result

    return timed
