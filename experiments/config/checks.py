"""Checks of an experiment that need two keys together, or the machine. Nothing is simulated here."""

import json
from typing import Any

import networkx as nx
from pydantic import ValidationError

import envs
import graphs
from experiments.config.messages import validation_messages, with_path
from experiments.config.schema import Experiment, Train, experiment_model
from experiments.errors import ConfigError, refusal, shown

MAX_AGENTS = 2_000  # a complete graph of more has millions of edges


def check(experiment: Experiment) -> None:
    """Refuse an experiment whose keys do not fit together or do not fit this machine.

    Raises:
        ConfigError: with one line a problem.
    """
    problems: list[str] = []
    for part in (_check_evaluation, _check_graph, _check_learning, _check_machine):
        try:
            part(experiment)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def evaluation_scenario(experiment: Experiment) -> Any:
    """Parameters of the scenario in evaluation: those of training, changed by `evaluate.scenario`.

    Raises:
        ConfigError: one of them is not possible.
    """
    changed = experiment.evaluate.scenario
    fixed = [f"evaluate.scenario.{key}: may not be given here, it is always that of evaluation"
             for key in ("name", "mode") if key in changed]  # fmt: skip
    if fixed:
        raise ConfigError(fixed)
    data = experiment.model_dump(mode="json")
    data["scenario"] |= {**changed, "mode": "evaluate"}
    try:
        return experiment_model().model_validate_json(json.dumps(data), strict=True).scenario
    except ValidationError as error:
        raise ConfigError([f"evaluate.{line}" for line in validation_messages(error, data)]) from None


def communication_graph(experiment: Experiment, scenario: envs.ScenarioParameters) -> nx.Graph:
    """Communication graph: the one that the experiment names, or else the scenario's own.

    Raises:
        ConfigError: there is no such graph of the scenario's agents.
    """
    here = envs.spec(scenario)
    if experiment.graph is None:
        return here.graph
    parameters = experiment.graph.model_dump(exclude={"name"})
    try:
        return graphs.make(experiment.graph.name, n=here.num_agents, **parameters)
    except ValueError as error:
        raise ConfigError(with_path("graph", str(error), list(parameters))) from error


def check_device(key: str, device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ConfigError: it has none such; the message begins with `key`.
    """
    if device == "cpu":
        return
    import torch

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    devices += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if device not in devices:
        raise ConfigError(refusal(key, device, f"{' or '.join(devices)} on this machine"))


def _check_evaluation(experiment: Experiment) -> None:
    training, evaluation = envs.spec(experiment.scenario), envs.spec(evaluation_scenario(experiment))
    for what, there, here in (
        ("agents", training.num_agents, evaluation.num_agents),
        ("observations", training.observation_space, evaluation.observation_space),
        ("actions", training.action_space, evaluation.action_space),
    ):
        if there != here:
            given = shown(experiment.evaluate.scenario)
            raise ConfigError(f"evaluate.scenario: {given} is not possible: the {what} would be {here}, in training "
                              f"they are {there}, and the same policies must fit both")  # fmt: skip


def _check_graph(experiment: Experiment) -> None:
    agents = envs.spec(experiment.scenario).num_agents
    if agents > MAX_AGENTS:
        raise ConfigError(f"scenario: {agents} agents are too many; allowed: at most {MAX_AGENTS:,}")
    communication_graph(experiment, experiment.scenario)


def _check_learning(experiment: Experiment) -> None:
    """Refuse training in which no policy would ever take a step."""
    algorithm, total = experiment.algorithm, experiment.train.env_steps
    warm_up: int = getattr(algorithm, "warm_up_steps", 0) * experiment.scenario.action_repeat  # in simulated steps
    if warm_up and warm_up >= total:
        allowed = (
            f"fewer actions than the {total // experiment.scenario.action_repeat:,} of train.env_steps = {total:,}, "
            "after which policies begin to learn"
        )
        raise ConfigError(refusal("algorithm.warm_up_steps", algorithm.warm_up_steps, allowed))
    last = getattr(algorithm, "model_share_schedule", (0.0, 1.0))[1]
    if warm_up and getattr(algorithm, "model_share_final", None) == 0 and last * total <= warm_up:
        allowed = (
            f"an end after {warm_up / total:.2f}, where algorithm.warm_up_steps end: before, nothing is "
            "learned from models, and with model_share_final = 0 nothing after this, so that policies never learn"
        )
        schedule = list(algorithm.model_share_schedule)
        raise ConfigError(refusal("algorithm.model_share_schedule", schedule, allowed))


def _check_precision(train: Train) -> list[str]:
    if train.precision == "float32":
        return []
    from dmpo.nn.layers import supports_bfloat16

    if supports_bfloat16(train.device):
        return []
    why = f"{train.device} on this machine does not multiply bfloat16 (AVX512-BF16, AMX or a GPU from 2020 on does)"
    return [refusal("train.precision", train.precision, f"float32, since {why}")]


def _check_machine(experiment: Experiment) -> None:
    train, problems = experiment.train, []
    if train.workers > train.num_envs:
        allowed = f"a whole number from 1 to train.num_envs = {train.num_envs}, each worker needs an environment"
        problems.append(refusal("train.workers", train.workers, allowed))
    try:
        check_device("train.device", train.device)
    except ConfigError as error:
        problems += error.problems
    else:
        problems += _check_precision(train)
    if problems:
        raise ConfigError(problems)
