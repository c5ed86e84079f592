"""Finished runs written by hand, for the tests of what compares them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import loading
from experiments.runs.folder import RunFolder
from experiments.runs.records import RunRecord, read_record

CONTROLLERS = {"still": -9.0, "push": -4.0}


def make_run(
    folder: Path,
    label: str,
    seed: int,
    rewards: Sequence[float | None],
    *overrides: str,
    every: int = 100,
    extra: Mapping[str, float] | None = None,
    episode: bool = False,
    controllers: Mapping[str, float] | None = None,
) -> RunRecord:
    """A run of three vehicles with evaluations `every` so many steps, written to a folder of its own and read back.

    Args:
        folder: where it goes.
        label: of the run.
        seed: of the run.
        rewards: of its evaluations; the last is the final one.
        overrides: of its configuration.
        every: steps between evaluations.
        extra: metrics of every line after the first.
        episode: whether an episode is kept.
        controllers: their rewards.
    """
    given = ["scenario.num_vehicles=3", f"train.seed={seed}", *overrides]
    run = RunFolder(folder / str(len(list(folder.glob("*")))))
    run.create(loading.dump(loading.load("dppo_cacc_catchup", given).experiment))
    run.metrics.write_text(_metrics(rewards, every, extra or {}), encoding="utf-8")
    report = _report(every * (len(rewards) - 1), rewards[-1], CONTROLLERS if controllers is None else controllers)
    run.evaluation.write_text(json.dumps(report), encoding="utf-8")
    if episode:
        place = np.arange(20)[:, None] * 1.5 - 25.0 * np.arange(3)
        run.write_trajectory({"position": place, "speed": np.full_like(place, 15.0)}, 0.1)
    return read_record(label, run.path)


def _metrics(rewards: Sequence[float | None], every: int, extra: Mapping[str, float]) -> str:
    """Contents of a `metrics.jsonl`; `extra` stands in every line but the first."""
    lines = [
        {"env_steps": every * k, "wall_seconds": 1.5 * k, "eval/reward": reward} | (dict(extra) if k else {})
        for k, reward in enumerate(rewards)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _report(env_steps: int, reward: float | None, controllers: Mapping[str, float]) -> dict[str, Any]:
    """Contents of an `evaluation.json` with one episode."""
    learned = {"eval/reward": reward, "eval/reward_sampled": -5.0, "eval/speed": 15.0, "eval/collisions": 0.0}
    return {
        "env_steps": env_steps,
        "metrics": learned,
        "episodes": [{"start": 0, "return": -1.0, "agents": [-1.0]}],
        "controllers": {
            name: {"eval/reward": value, "eval/collisions": 0.0, "eval/speed": 14.0}
            for name, value in controllers.items()
        },
        "versions": {"python": "3", "torch": "2"},
    }


def two_variants(folder: Path, **arguments: Any) -> list[RunRecord]:
    """`fast` and `slow`, three seeds each, evaluated at unequal steps; `fast` is better at the end, in every pair."""
    fast = [make_run(folder, "fast", seed, [-30.0, -8.0, -3.0 - seed / 10], **arguments) for seed in range(3)]
    slow = [
        make_run(folder, "slow", seed, [-30.0, -20.0, -9.0, -5.0 - seed], "algorithm.kappa=2", every=90 + seed)
        for seed in range(3)
    ]
    return fast + slow
