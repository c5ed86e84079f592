"""A training run from its first evaluation to its last picture, continued exactly where a kill left it.

    evaluate; then until train.env_steps:  collect → fit → improve;  every evaluate.every steps: evaluate, save

A checkpoint is saved after the line of its evaluation, and knows how many bytes `metrics.jsonl` then had. On resuming,
what was written behind them is taken back and comes again, the same.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import dmpo
import envs
from dmpo.nn.local_policy import check_same_sources
from experiments.config import loading
from experiments.config.checks import evaluation_scenario
from experiments.config.schema import Experiment
from experiments.errors import RunError
from experiments.runs.evaluation import (
    Assessment,
    assess,
    assess_controllers,
    make_env,
    make_evaluation_env,
    make_learner,
    report,
    set_threads,
    with_threads,
)
from experiments.runs.folder import MetricsLog, RunFolder, write_whole
from experiments.runs.loggers import Loggers, check_installed

# What a resumed run may change: how long and on what it runs and who is told, not what it is.
FREE_TO_CHANGE = (
    "train.env_steps",
    "train.workers",
    "train.threads",
    "train.update_threads",
    "train.worker_timeout",
    "log.tensorboard",
    "log.wandb",
)


class TrainingCallback(Protocol):
    """Callback that is notified of the progress of a training run."""

    def begin(self, env_steps: int, total: int) -> None:
        """Training starts at `env_steps`."""

    def advance(self, env_steps: int) -> None:
        """So many steps are done."""

    def evaluated(self, env_steps: int, metrics: dict[str, float]) -> None:
        """An evaluation was made."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run; `report` is the contents of `evaluation.json`."""

    folder: RunFolder
    report: dict[str, Any]
    was_finished: bool = False


def train(experiment: Experiment, output: Path, callback: TrainingCallback) -> Outcome:
    """Train from the beginning into a new folder, which is made once the environments have started.

    Raises:
        ConfigError: the folder is not empty or cannot be made, or what it is to be logged with is not installed.
        RunError, dmpo.TrainingError, envs.SimulationError: the run cannot go on.
    """
    check_installed(experiment.log)
    folder, experiment = RunFolder.new(output), with_threads(experiment)
    with _parts(experiment) as parts:
        folder.prepare()
        with MetricsLog(folder.metrics) as log, Loggers(experiment, folder) as loggers:
            # Another process may have begun a run here while the environments started; the lock tells who was first.
            if folder.config.exists():
                raise RunError(f"another process has begun a run in {folder.path}; choose another folder with --output")
            folder.create(loading.dump(experiment))
            return Run(experiment, folder, log, loggers, callback, *parts).begin()


def resume(experiment: Experiment, folder: RunFolder, callback: TrainingCallback) -> Outcome:
    """Go on from the newest checkpoint; from the beginning where there is none yet.

    Raises:
        ConfigError: what it is to be logged with is not installed.
        dmpo.CheckpointError: the checkpoint cannot be used.
        RunError, dmpo.TrainingError, envs.SimulationError: the run cannot go on.
    """
    state = folder.load_state() if folder.checkpoint.is_file() else None
    if state is None:
        _check_unfinished(folder)
    found = _final_report(experiment, folder, state)
    if found:
        return Outcome(folder, found, was_finished=True)
    check_installed(experiment.log)
    size = state["metrics_bytes"] if state else 0
    with (
        MetricsLog(folder.metrics, size) as log,
        _parts(experiment) as parts,
        Loggers(experiment, folder) as loggers,
    ):
        run = Run(experiment, folder, log, loggers, callback, *parts)
        if state:
            run.restore(state)
        # Not before it is known that nobody else is at work here, and that the checkpoint fits.
        folder.create(loading.dump(experiment))
        return run.go_on() if state else run.begin()


def is_finished(experiment: Experiment, folder: RunFolder) -> bool:
    """True if `resume` has nothing left to do.

    Raises:
        dmpo.CheckpointError: the checkpoint cannot be used.
    """
    if not (folder.evaluation.is_file() and folder.checkpoint.is_file()):
        return False
    return _final_report(experiment, folder, folder.load_state()) is not None


def _final_report(experiment: Experiment, folder: RunFolder, state: dict[str, Any] | None) -> dict[str, Any] | None:
    """The contents of `evaluation.json` if all steps are done and it belongs to the checkpoint; None otherwise."""
    if not state or not folder.evaluation.is_file() or state["env_steps"] < experiment.train.env_steps:
        return None
    found = folder.read_report()
    return found if found["env_steps"] == state["env_steps"] else None  # an earlier end's, which was gone on from


def _check_unfinished(folder: RunFolder) -> None:
    """Refuse to begin again where a checkpoint was: the second evaluation comes with the first."""
    evaluations = sum("eval/reward" in line for line in folder.read_metrics())
    if evaluations > 2:
        raise RunError(
            f"{folder.checkpoint} is missing, though {folder.metrics} has {evaluations} evaluations, which beginning "
            "again would take back. Put it in its place, or start the run again elsewhere"
        )


@contextmanager
def _parts(experiment: Experiment) -> Iterator[tuple[dmpo.Trainer, envs.VectorEnv, envs.VectorEnv]]:
    train = set_threads(experiment)
    with ExitStack() as stack:
        learner = make_learner(experiment, experiment.scenario)
        patience = train.worker_timeout
        env = stack.enter_context(make_env(experiment.scenario, train.num_envs, train.workers, train.seed, patience))
        scenario = evaluation_scenario(experiment)
        evaluation_env = stack.enter_context(make_evaluation_env(scenario, train.workers, patience))
        trainer = dmpo.Trainer(env, learner, train.env_steps, train.seed, train.update_threads)
        yield trainer, env, evaluation_env


@dataclass
class Run:
    """A run in progress."""

    experiment: Experiment
    folder: RunFolder
    log: MetricsLog
    loggers: Loggers
    callback: TrainingCallback
    trainer: dmpo.Trainer
    env: envs.VectorEnv
    evaluation_env: envs.VectorEnv
    restarts: int = 0  # of SUMO workers before the run was resumed
    pending: list[dict[str, float]] = field(default_factory=list)  # metrics of iterations without a line yet
    started: float = field(default_factory=time.monotonic)

    def begin(self) -> Outcome:
        """From the untrained policy to the end."""
        self.log.take_back()
        self.loggers.open()
        self.callback.begin(0, self.experiment.train.env_steps)
        self._write(evaluated=self._evaluate().metrics)
        return self._train()  # a run killed before its first checkpoint begins again

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where a checkpoint was saved.

        Raises:
            RunError: it is one of another experiment.
        """
        try:
            _check_graph(self.trainer.learner, state["trainer"]["learner"])
            self.trainer.load_state_dict(state["trainer"])
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise RunError(f"{self.folder.checkpoint} does not fit the run's config.yaml: {error}") from error
        self.restarts = state.get("restarts", 0)
        self.started -= state["wall_seconds"]

    def go_on(self) -> Outcome:
        """From a checkpoint to the end."""
        self.log.take_back()
        self.loggers.open()
        self.callback.begin(self.trainer.env_steps, self.experiment.train.env_steps)
        return self._train()

    def _train(self) -> Outcome:
        total = self.experiment.train.env_steps
        evaluate_at = _next(self.trainer.env_steps, self.experiment.evaluate.every)
        log_at = _next(self.trainer.env_steps, self.experiment.log.every)
        for metrics in self.trainer.iterations():
            done = self.trainer.env_steps
            self.pending.append(metrics)
            self.callback.advance(done)
            if done >= evaluate_at and done < total:
                self._write(evaluated=self._evaluate().metrics)
                self._save()
                evaluate_at = _next(done, self.experiment.evaluate.every)
            elif done >= log_at and done < total:
                self._write()
            if done >= log_at:
                log_at = _next(done, self.experiment.log.every)
        return self._finish()

    def _evaluate(self) -> Assessment:
        assessment = assess(self.evaluation_env, self.trainer.learner)
        self.callback.evaluated(self.trainer.env_steps, assessment.metrics)
        return assessment

    def _write(self, evaluated: dict[str, float] | None = None) -> None:
        """A line: where we are, means over the iterations since the last line, and an evaluation if there is one."""
        line = {"env_steps": self.trainer.env_steps, "wall_seconds": round(time.monotonic() - self.started, 3)}
        if restarts := self._restarts():
            line["time/env_restarts"] = restarts
        self.loggers.write(self.log.write(line | _means(self.pending) | (evaluated or {})))
        self.pending = []

    def _restarts(self) -> int:
        """SUMO workers that died or hung and were replaced, in training and in evaluation."""
        return self.restarts + self.env.restarts + self.evaluation_env.restarts

    def _save(self) -> None:
        # The lines are on the disk before the checkpoint that counts them.
        state = {
            "env_steps": self.trainer.env_steps,
            "metrics_bytes": self.log.sync(),
            "wall_seconds": time.monotonic() - self.started,
            "restarts": self._restarts(),
            "trainer": self.trainer.state_dict(),
        }
        dmpo.save_checkpoint(self.folder.checkpoint, state)

    def _finish(self) -> Outcome:
        """The last evaluation and everything made of it; the checkpoint comes last, as it says that all is done."""
        from experiments.drawing import plots

        assessment, env = self._evaluate(), self.evaluation_env
        if self.pending:
            self._write(evaluated=assessment.metrics)
        scenario = evaluation_scenario(self.experiment)
        found = report(assessment, assess_controllers(env, scenario), self.trainer.env_steps)
        write_whole(self.folder.evaluation, json.dumps(found, indent=1) + "\n")
        seconds = env.step_seconds * env.action_repeat
        trajectory = assessment.deterministic.trajectory
        self.folder.write_trajectory(trajectory, seconds)
        plots.draw_run(
            self.folder.plots,
            metrics=self.folder.read_metrics(),
            name=self.experiment.name,
            controllers=found["controllers"],
            trajectory=trajectory,
            step_seconds=seconds,
            learners=env.spec.places,
        )
        self._save()
        return Outcome(self.folder, found)


def _check_graph(learner: dmpo.Learner, state: dict[str, Any]) -> None:
    """Refuse to go on on another graph, which a file or topology of the user's may have become since."""
    there, here = (x["policy"].get("sources") for x in (state, learner.state_dict()))
    if there is not None and here is not None:
        check_same_sources(there, here)


def _next(env_steps: int, every: int) -> int:
    """The first multiple of `every` after these steps."""
    return (env_steps // every + 1) * every if every else env_steps


def _means(iterations: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the iterations that have it; counters are where the last one left them."""
    keys = dict.fromkeys(key for metrics in iterations for key in metrics if key != "env_steps")
    values = {key: [metrics[key] for metrics in iterations if key in metrics] for key in keys}
    return {key: int(v[-1]) if key == "iteration" else sum(v) / len(v) for key, v in values.items()}
