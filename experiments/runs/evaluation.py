"""Evaluation of a policy on the reference starts of a scenario, beside classical controllers."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import gymnasium
import networkx as nx

import dmpo
import envs
from experiments.config import loading, yaml_io
from experiments.config.checks import communication_graph, evaluation_scenario
from experiments.config.schema import Experiment, Train
from experiments.errors import ConfigError
from experiments.runs.folder import RunFolder
from experiments.runs.threads import use_processor
from graphs.neighborhood import graph_of

SEED = 0  # of every evaluation, so that all algorithms and seeds meet the same
MAX_THREADS = 4
_SAMPLED = ("eval/reward", "eval/collisions")
_ACTING = ("policy", "obs_normalizer")  # the parts of a learner's state that its actions depend on
_VERSIONS = ("torch", "numpy", "eclipse-sumo", "libsumo")


# What evaluation may change of an experiment.
FREE_TO_CHANGE = (
    "scenario",
    "graph",
    "evaluate",
    "train.workers",
    "train.threads",
    "train.update_threads",
    "train.device",
    "train.precision",
    "train.worker_timeout",
)


@dataclass(frozen=True)
class Assessment:
    """One episode from each reference start, with deterministic actions and again with sampled ones."""

    metrics: dict[str, float]
    deterministic: dmpo.Evaluation
    sampled: dmpo.Evaluation


@dataclass(frozen=True)
class TrainedPolicy:
    """A trained policy and the setting that it is evaluated in; `scenario` is that of evaluation."""

    experiment: Experiment
    scenario: envs.ScenarioParameters
    learner: dmpo.Learner
    env_steps: int


def with_threads(experiment: Experiment) -> Experiment:
    """The experiment with numbers of CPU threads: where it leaves them open, those SUMO leaves over, and all.

    Threads beyond the cores wait for one another by spinning: acting next to one SUMO on two cores then takes thirty
    times as long. More than a few have nothing to do in networks of this size.
    """
    cores, train = len(os.sched_getaffinity(0)), experiment.train
    numbers = {
        "threads": train.threads or max(1, min(cores - train.workers, MAX_THREADS)),
        "update_threads": train.update_threads or min(cores, MAX_THREADS),
    }
    return experiment.model_copy(update={"train": train.model_copy(update=numbers)})


def set_threads(experiment: Experiment) -> Train:
    """Give PyTorch the experiment's CPU threads; returns how it trains, with the numbers of both kinds of threads."""
    train = with_threads(experiment).train
    assert train.threads is not None
    use_processor(train.threads)
    return train


def make_env(
    scenario: envs.ScenarioParameters,
    num_envs: int,
    workers: int,
    seed: int,
    worker_timeout: float = envs.WORKER_TIMEOUT,
    *,
    window: bool = False,
    watch: str | None = None,
) -> envs.VectorEnv:
    """Environments of a scenario with checked parameters."""
    parameters = scenario.model_dump(exclude={"name"})
    return envs.make(scenario.name, num_envs, workers, seed, worker_timeout, window=window, watch=watch, **parameters)


def make_evaluation_env(
    scenario: envs.ScenarioParameters, workers: int, worker_timeout: float = envs.WORKER_TIMEOUT
) -> envs.VectorEnv:
    """One environment for each reference start."""
    starts = envs.spec(scenario).reference_starts
    return make_env(scenario, starts, min(workers, starts), SEED, worker_timeout)


def make_learner(
    experiment: Experiment, scenario: envs.ScenarioParameters, graph: nx.Graph | None = None
) -> dmpo.Learner:
    """The learner that the experiment asks for, untrained.

    Args:
        experiment: with the algorithm.
        scenario: what its agents observe and do.
        graph: who talks to whom; the experiment's graph if left out.

    Raises:
        ConfigError: the algorithm cannot handle what the scenario's agents see or do.
    """
    here, train = envs.spec(scenario), experiment.train
    graph = communication_graph(experiment, scenario) if graph is None else graph
    try:
        return dmpo.make_learner(
            experiment.algorithm,
            graph,
            here.observation_space,
            here.action_space,
            train.seed,
            train.device,
            train.precision,
        )
    except ValueError as error:
        raise ConfigError(f"algorithm: {error}") from error


def assess(env: envs.VectorEnv, learner: dmpo.Learner) -> Assessment:
    """Evaluate a learner; it learns nothing from it."""
    deterministic = dmpo.evaluate(env, learner, deterministic=True, seed=SEED)
    learner.seed_acting(SEED)
    sampled = dmpo.evaluate(env, learner, deterministic=False, seed=SEED)
    metrics = deterministic.metrics | {f"{key}_sampled": sampled.metrics[key] for key in _SAMPLED}
    return Assessment(metrics, deterministic, sampled)


def assess_controllers(env: envs.VectorEnv, scenario: envs.ScenarioParameters) -> dict[str, dict[str, float]]:
    """Metrics of what a learner has to beat, by name: the scenario's constant actions, then every controller there is.

    Each controller has the parameters that suit the scenario.
    """
    constants = envs.controllers.constants(scenario.name)
    found = {name: dmpo.evaluate(env, policy, seed=SEED).metrics for name, policy in constants.items()}
    return found | {
        name: assess_controller(envs.controllers.make(name, env)).metrics for name in envs.controllers.names()
    }


def assess_controller(controller: envs.controllers.Controller[Any]) -> dmpo.Evaluation:
    """Evaluation of a controller on the reference starts that every policy is evaluated on."""
    return dmpo.evaluate(controller.env, controller, seed=SEED)


def evaluate_run(folder: RunFolder, overrides: Sequence[str], notify: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate the newest policy of a run, perhaps on another graph or in another setting of the scenario.

    Args:
        folder: of the run.
        overrides: of its experiment.
        notify: called with notes on the overrides.

    Returns:
        The contents of an `evaluation.json`.

    Raises:
        ConfigError, dmpo.CheckpointError: see `load_trained_policy`.
    """
    policy = load_trained_policy(folder, overrides, notify)
    train = policy.experiment.train
    with make_evaluation_env(policy.scenario, train.workers, train.worker_timeout) as env:
        return report(assess(env, policy.learner), assess_controllers(env, policy.scenario), policy.env_steps)


def load_trained_policy(folder: RunFolder, overrides: Sequence[str], notify: Callable[[str], None]) -> TrainedPolicy:
    """The newest policy of a run, perhaps put on another graph or into another setting of the scenario.

    Args:
        folder: of the run.
        overrides: of its experiment.
        notify: called with notes on the overrides.

    Raises:
        ConfigError: an override that cannot be, or that the policies cannot act with.
        dmpo.CheckpointError: there is no usable checkpoint.
    """
    begun = loading.load(folder.config).experiment
    loaded = evaluation_experiment(begun, overrides)
    for note in loaded.notes:
        notify(note)
    experiment, state = loaded.experiment, folder.load_state()
    try:
        learner = load_learner(begun, experiment, state["trainer"]["learner"])
    except ConfigError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise dmpo.CheckpointError(f"{folder.checkpoint} does not fit the run's config.yaml: {error}") from error
    set_threads(experiment)
    return TrainedPolicy(experiment, evaluation_scenario(experiment), learner, state["env_steps"])


def load_learner(trained: Experiment, experiment: Experiment, state: dict[str, Any]) -> dmpo.Learner:
    """Learner that acts in one experiment as one that was trained in another; nothing else of it is trained.

    Its networks are those of the graph of training, where each input has the meaning that it was learned with. On the
    graph of the experiment a neighbor is heard in its place of training, and zeros are read for those not heard.

    Args:
        trained: the experiment of the training.
        experiment: the one to act in, with the same algorithm.
        state: of the trained learner. One from before policies kept their neighbors was trained on `trained`'s graph.

    Raises:
        ConfigError: observations, actions or the graph are not such that the policies can act.
        LookupError, ValueError, TypeError, AttributeError: the state is not one of such a learner.
    """
    scenario = evaluation_scenario(experiment)
    _check_spaces(evaluation_scenario(trained), scenario)
    sources = state["policy"].get("sources")
    graph = communication_graph(trained, trained.scenario) if sources is None else graph_of(sources)
    learner = make_learner(experiment, scenario, graph)
    learner.load_state_dict(learner.state_dict() | {name: state[name] for name in _ACTING})
    here = communication_graph(experiment, scenario)
    try:
        learner.communicate_on(here)
    except ValueError as error:
        raise ConfigError(f"graph, scenario: the policies do not fit: {error}") from error
    return learner


def evaluation_experiment(trained: Experiment, overrides: Sequence[str]) -> loading.Loaded:
    """The experiment that a run's policies are evaluated in, with overrides.

    Raises:
        ConfigError: an override that cannot be, or that would be of the training.
    """
    loaded = loading.check(_without_overridden_parameters(overrides, trained.model_dump(mode="json")), overrides)
    loading.check_unchanged(trained, loaded.experiment, FREE_TO_CHANGE, "and its policies are as they were trained")
    return loaded


def report(assessment: Assessment, controllers: dict[str, dict[str, float]], env_steps: int) -> dict[str, Any]:
    """Contents of `evaluation.json`."""
    return {
        "env_steps": env_steps,
        "metrics": assessment.metrics,
        "episodes": episodes(assessment.deterministic),
        "episodes_sampled": episodes(assessment.sampled),
        "controllers": controllers,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers may depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _VERSIONS}}


def episodes(evaluation: dmpo.Evaluation) -> list[dict[str, Any]]:
    """Returns by reference start, in order: one object each, with every agent's return and their mean."""
    returns = evaluation.episode_returns  # (E, N)
    return [{"start": k, "return": float(row.mean()), "agents": row.tolist()} for k, row in enumerate(returns)]


def _check_spaces(trained: envs.ScenarioParameters, scenario: envs.ScenarioParameters) -> None:
    there, here = (_spaces(envs.spec(parameters)) for parameters in (trained, scenario))
    if there != here:
        raise ConfigError(
            f"graph, scenario: the policies do not fit: their agents {there}, and here they {here}. Evaluate them in a "
            "scenario with the observations and actions of their training"
        )


def _spaces(spec: envs.Spec) -> str:
    space = spec.action_space
    # Bounds of continuous actions are the environment's: policies act in units in which they are ±1.
    act = f"choose from {space.n} actions" if isinstance(space, gymnasium.spaces.Discrete) else f"act in {space.shape}"
    return f"observe {spec.observation_space.shape[0]} numbers each and {act}"


def _without_overridden_parameters(overrides: Sequence[str], data: yaml_io.Mapping) -> yaml_io.Mapping:
    """The file's mapping without those parameters of evaluation that an override sets for the whole scenario."""
    given = {keys[1] for keys, _ in yaml_io.parse_overrides(overrides) if keys[0] == "scenario" and len(keys) == 2}
    kept = {key: value for key, value in data["evaluate"]["scenario"].items() if key not in given}
    return data | {"evaluate": data["evaluate"] | {"scenario": kept}}
