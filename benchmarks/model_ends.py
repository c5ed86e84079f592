"""How well models know the next state and the ends of episodes: on held-out steps, and in rollouts beside the road.

    python -m benchmarks.model_ends
    python -m benchmarks.model_ends dmpo_cacc_catchup algorithm.model_gradient=neighborhood --seeds 2

The untrained policy drives, as its ends are many. The models of each seed are fitted as in training, and then measured
on further real steps that they never saw.
"""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dmpo.collector import Collector
from dmpo.data.replay_buffer import ReplayBuffer, Role
from dmpo.data.rollout import Rollout
from dmpo.models.agent_models import MEASURED_SEQUENCES
from dmpo.models.evaluation import end_errors, one_step_errors
from experiments.config import loading
from experiments.errors import ConfigError
from experiments.runs.evaluation import make_env, make_learner, set_threads, with_threads

COLUMNS = {
    "model/change_error": "error of the change of state",
    "model/held_out_ends": "held-out ends of agents",
    "model/end_precision": "precision",
    "model/end_recall": "recall",
    "model/end_rate_ratio": "steps with an end, models over road",
    "rollouts": "ends a step in rollouts over road",
}


def end_rate(batch: Rollout) -> float:
    """Share of the steps that anybody takes, in which an agent's own state ends the episode."""
    return int(batch.ended_by.any(-1).sum()) / int(batch.taken.sum())


def measured(preset: str, overrides: list[str], fits: int, held_out: int) -> dict[str, float]:
    """The columns of one seed, in whose environments `fits` and then `held_out` batches are collected."""
    experiment = with_threads(loading.load(preset, overrides).experiment)
    set_threads(experiment)
    train = experiment.train
    learner: Any = make_learner(experiment, experiment.scenario)
    with make_env(experiment.scenario, train.num_envs, train.workers, train.seed) as env:
        collector = Collector(env, learner, train.seed)
        batches = (collector.collect()[0].to(learner.device) for _ in range(fits + held_out))
        for batch in islice(batches, fits):
            learner.fit(batch, 0.0)
            learner.update_normalizer(batch.starts)
        steps, real, imagined = ReplayBuffer(held_out * batch.taken.numel(), 0.0, learner.device), [], []
        for batch in batches:
            steps.add(batch)
            real.append(end_rate(batch))
            imagined.append(end_rate(learner.models.rollout(batch.starts, experiment.algorithm.model_horizon)))
    models, sampler = learner.models.trainer, steps.sequences(1, Role.TRAINING)
    found = end_errors(models, sampler.pieces(MEASURED_SEQUENCES)) | one_step_errors(models, sampler.everything())
    return found | ({"rollouts": sum(imagined) / sum(real)} if any(real) else {})


def main(
    preset: Annotated[str, typer.Argument(help="Preset of a learner with models.")] = "dmpo_cacc_catchup",
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings, as of `dmpo train`.")] = None,
    fits: Annotated[int, typer.Option(min=1, help="Batches that the models are fitted to, one after the other.")] = 20,
    held_out: Annotated[int, typer.Option(min=1, help="Batches after these that they are measured on.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ….")] = 5,
) -> None:
    """Measure the changes that models predict and the ends that they see."""
    table = Table("seed", *COLUMNS.values(), title=f"{preset}, fitted to {fits} batches, measured on {held_out}")
    for seed in track(range(seeds), description=preset, transient=True):
        try:
            row = measured(preset, [*(overrides or []), f"train.seed={seed}"], fits, held_out)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from error
        table.add_row(str(seed), *(f"{row[name]:.3f}" if name in row else "–" for name in COLUMNS))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
