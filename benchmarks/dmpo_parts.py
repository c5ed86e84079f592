"""Times of the parts of one DMPO iteration in the platoon, at the paper's sizes.

    dmpo bench --only parts

The models are fitted to real steps first, so that what is timed is what training does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol, cast

import torch
from torch import Tensor

import envs
from benchmarks.machine import flops, product_rate, product_size, timed
from benchmarks.reference import Reference
from benchmarks.rows import Options, Row
from dmpo.algorithms.dmpo import DMPO
from dmpo.collector import Collector
from dmpo.data.replay_buffer import Role, Sequences, SequenceSampler
from dmpo.data.rollout import Rollout
from dmpo.nn.layers import set_precision, supports_bfloat16
from experiments.config import loading
from experiments.runs.evaluation import make_env, make_learner
from experiments.runs.threads import use_processor

PARTS = ("model rollout", "model update", "epoch of actor and critic")
ENVIRONMENTS = 4  # of a learner whose parts are timed
PLATOON = {"name": "cacc_catchup", "action_repeat": 5}


@dataclass(frozen=True)
class Sizes:
    """Sizes of the work."""

    starts: int = 2_048
    steps: int = 25
    sequences: int = 512
    sequence_steps: int = 4
    model_fit_steps: int = 500


QUICK = Sizes(256, 5, 128, 4, 25)


class Way(Protocol):
    """One way of doing the work of an iteration."""

    def act(self, observations: Tensor) -> Any:
        """Commands for (E, N, D)."""

    def rollout(self, starts: Tensor, steps: int) -> Rollout:
        """Roll the models T steps from `model_starts` of the states (S, N, D)."""

    def update(self, sequences: Sequences) -> None:
        """One gradient step of the models."""

    def improve(self, batch: Rollout, epochs: int) -> None:
        """Epochs of one gradient step each of policies and values."""


class Stacked:
    """A learner's own way, in either precision."""

    def __init__(self, learner: DMPO, precision: torch.dtype = torch.float32) -> None:
        self.learner, self.precision = learner, precision
        self.update = learner.models.trainer.update

    def _set_precision(self) -> None:
        for network in (self.learner.policy, self.learner.critic):
            set_precision(network, self.precision)

    def rollout(self, starts: Tensor, steps: int) -> Rollout:
        """Roll the models T steps."""
        self._set_precision()
        return self.learner.models.rollout(starts, steps)

    def act(self, observations: Tensor) -> Any:
        """Commands for (E, N, D)."""
        self._set_precision()
        return self.learner.explore(observations, torch.zeros(len(observations), dtype=torch.bool)).env_actions

    def improve(self, batch: Rollout, epochs: int) -> None:
        """Epochs of one gradient step each."""
        self._set_precision()
        self.learner.update.settings = self.learner.settings.model_copy(update={"epochs": epochs})
        self.learner.update.improve(batch, 0.0)


@dataclass(frozen=True)
class Work:
    """Work for each way: states `starts` (S, N, D), sequences of real steps, and model rollouts of them."""

    sizes: Sizes
    starts: Tensor
    sequences: SequenceSampler
    from_model: Rollout
    generator: torch.Generator

    def draw(self) -> Sequences:
        """Sequences for one update."""
        return self.sequences.draw(self.sizes.sequences, self.generator)

    @property
    def described(self) -> dict[str, str]:
        """The size of each part's work."""
        s = self.sizes
        sizes = (
            f"{s.starts} × {s.steps} steps",
            f"{s.sequences} × {s.sequence_steps} steps",
            f"{s.starts * s.steps} samples",
        )
        return {name: f"{size} × {self.starts.shape[1]} agents" for name, size in zip(PARTS, sizes, strict=True)}


def prepare(learner: DMPO, env: envs.VectorEnv, sizes: Sizes) -> Work:
    """Collect real steps, fit the models to them, and roll the models out."""
    batch = Collector(env, learner, seed=0).collect()[0].to(learner.device)
    learner.fit(batch, 0.0)
    starts = batch.starts
    from_model = learner.models.rollout(starts, sizes.steps)
    whole = replace(from_model, terminated=from_model.terminated & False, valid=from_model.valid | True)
    sequences = learner.models.trainer.sequences(sizes.sequence_steps, Role.TRAINING)
    return Work(sizes, starts, sequences, whole, torch.Generator(learner.device))


def parts(
    way: Way, work: Work, measure: Callable[[Callable[[], object]], float] = timed
) -> dict[str, Callable[[], float]]:
    """Functions that measure each of the three parts once, by name: its seconds, or another measure."""

    def improve(epochs: int) -> float:
        return measure(lambda: way.improve(work.from_model, epochs))

    return dict(
        zip(
            PARTS,
            (
                lambda: measure(lambda: way.rollout(work.starts, work.sizes.steps)),
                lambda: measure(lambda: way.update(work.draw())),
                # Two epochs less one: what is computed once per batch is in both.
                lambda: improve(2) - improve(1),
            ),
            strict=True,
        )
    )


@contextmanager
def opened(
    options: Options, sizes: Sizes, scenario: Mapping[str, Any] = PLATOON
) -> Iterator[tuple[DMPO, envs.VectorEnv]]:
    """A learner for work of such sizes, whose steps are whole batches, and its environments.

    Raises:
        ConfigError: there is no such scenario.
    """
    once = {"epochs": 1, "minibatches": 1, "kl_target": None, "kappa": 1, "rollout_steps": 120}
    rollouts = {"model_starts": sizes.starts, "model_horizon": sizes.steps, "model_loss_steps": sizes.sequence_steps}
    fitting = {"model_fit_steps": sizes.model_fit_steps, "model_validation_every": 25, "model_buffer_size": 20_000}
    algorithm = {"name": "dmpo", **once, **rollouts, **fitting}
    train = {"num_envs": ENVIRONMENTS, "device": options.device}
    experiment = loading.check({"scenario": dict(scenario), "algorithm": algorithm, "train": train}).experiment
    learner = make_learner(experiment, experiment.scenario)
    with make_env(experiment.scenario, experiment.train.num_envs, 1, 0) as env:
        yield cast(DMPO, learner), env


def rows(options: Options) -> Iterator[Row]:
    """Each part, stacked in either precision and the obvious way, in turn."""
    use_processor(options.threads)
    rate = product_rate(options)
    size = f"{product_size(options)} squared, float32, {options.threads} threads"
    yield Row(piece="parts", what="matrix product", size=size, value=rate / 1e9, unit="GFLOP/s")
    usual = product_rate(options, quick=False) / 1e9
    yield Row(piece="parts", what="matrix product as PyTorch comes", size=size, value=usual, unit="GFLOP/s")
    sizes = QUICK if options.quick else Sizes()
    with opened(options, sizes) as (learner, env):
        work = prepare(learner, env, sizes)
        precisions, obvious = stacked_ways(learner), parts(Reference(learner), work)
        stacked = {precision: parts(way, work) for precision, way in precisions.items()}
        operations = parts(precisions["float32"], work, flops)
        for name, described in work.described.items():
            # Models are float32 in either.
            of_stacked = {p: found[name] for p, found in stacked.items() if p == "float32" or name != "model update"}
            *taken, looped = in_turn([*of_stacked.values(), obvious[name]], options.rounds)
            limit = 1e3 * operations[name]() / rate
            for precision, each in zip(of_stacked, taken, strict=True):
                yield Row(piece="parts", what=name, size=f"{described}, {precision}", value=1e3 * each, unit="ms",
                          limit=limit, obvious=1e3 * looped)  # fmt: skip


def stacked_ways(learner: DMPO) -> dict[str, Stacked]:
    """A learner's own way in each precision that the processor multiplies."""
    precisions = [torch.float32, *([torch.bfloat16] if supports_bfloat16(learner.device) else [])]
    return {str(precision).removeprefix("torch."): Stacked(learner, precision) for precision in precisions}


def in_turn(measured: list[Callable[[], float]], rounds: int) -> list[float]:
    """Medians of figures that take turns, so that whatever else slows the machine slows all; the first do not count."""
    found = [[part() for part in measured] for _ in range(rounds + 1)][1:]
    return [median(column) for column in zip(*found, strict=True)]
