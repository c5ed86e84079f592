"""Evaluation of classical controllers in a scenario, without a learner.

dmpo evaluate ring controller.name=idm controller.time_gap=1.2 scenario.ring_length=250
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, create_model

import envs
from experiments.config import loading, yaml_io
from experiments.config.checks import evaluation_scenario
from experiments.config.json_schema import Schema
from experiments.config.messages import validation_messages, value_at
from experiments.config.schema import STRICT, union
from experiments.errors import ConfigError, shown
from experiments.runs.evaluation import assess_controller, assess_controllers, episodes, make_evaluation_env, versions
from experiments.runs.folder import RunFolder
from graphs.spelling import nearest


class Workers(BaseModel):
    """The settings of `train` that an evaluation without a learner uses."""

    model_config = STRICT

    workers: int = Field(default=1, ge=1, le=256, description="SUMO processes that the environments are spread over.")


@dataclass(frozen=True)
class ControllerEvaluation:
    """Checked scenario and controller (None: each one in turn), with notes on settings that an override discarded."""

    scenario: envs.ScenarioParameters
    controller: envs.controllers.ControllerParameters | None
    workers: int
    notes: list[str]


def load(source: str, overrides: Sequence[str] = ()) -> ControllerEvaluation:
    """The scenario of a run, a YAML file or a preset, or the one of that name, with `a.b=c` overrides applied.

    Raises:
        ConfigError: anything in it that cannot be, with one line a problem.
    """
    given = yaml_io.parse_overrides(overrides)
    if any(keys == ["scenario", "mode"] for keys, _ in given):
        raise ConfigError("scenario.mode: may not be given here, it is always that of evaluation")
    data, notes = loading.apply_overrides(_sources(source), given)
    controller, scenario = data.get("controller"), value_at(data, ["scenario", "name"])
    if isinstance(controller, dict) and controller.get("name") in envs.controllers.names() and scenario in envs.names():
        data["controller"] = {**envs.controllers.scenario_defaults(controller["name"], scenario), **controller}
    if isinstance(data["scenario"], dict):
        data["scenario"]["mode"] = "evaluate"
    try:
        checked: Any = controller_evaluation_model().model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ConfigError(
            validation_messages(error, data, Schema(controller_evaluation_model().model_json_schema()))
        ) from None
    return ControllerEvaluation(checked.scenario, checked.controller, checked.train.workers, notes)


def evaluate(setup: ControllerEvaluation) -> dict[str, Any]:
    """Drive one episode from each reference start.

    Returns:
        Scenario, the controllers' metrics by name, versions; for a single controller also its parameters and, for each
        start, the agents' returns.
    """
    with make_evaluation_env(setup.scenario, setup.workers) as env:
        found: dict[str, Any] = {"scenario": setup.scenario.model_dump(mode="json"), "starts": env.num_envs}
        if setup.controller is None:
            found["controllers"] = assess_controllers(env, setup.scenario)
        else:
            name, parameters = setup.controller.name, setup.controller.model_dump(exclude={"name"})
            evaluation = assess_controller(envs.controllers.make(name, env, **parameters))
            found["controllers"] = {name: evaluation.metrics}
            found |= {"controller": setup.controller.model_dump(mode="json"), "episodes": episodes(evaluation)}
    return found | {"versions": versions()}


def controller_evaluation_model() -> type[BaseModel]:
    """Schema of a controller evaluation, with the scenarios and controllers that are registered now."""
    return _controller_evaluation_model(tuple(envs.names()), tuple(envs.controllers.names()))


@lru_cache(maxsize=4)
def _controller_evaluation_model(scenarios: tuple[str, ...], controllers: tuple[str, ...]) -> type[BaseModel]:
    controller = union([envs.controllers.parameters(name) for name in controllers])
    axes: dict[str, Any] = {
        "scenario": (union([envs.parameters(name) for name in scenarios]), Field(description="What is driven.")),
        "controller": (controller | None, Field(None, description="Who drives; left out, each in turn.")),
        "train": (Workers, Workers()),
    }
    return create_model("ControllerEvaluation", __config__=STRICT, **axes)


def _sources(source: str) -> yaml_io.Mapping:
    """The scenario that a name or path on the command line means, as in its evaluation."""
    exists = os.path.exists(source)  # pathlib's raises for a name that is too long
    if source in envs.names() and not exists:
        return {"scenario": {"name": source}, "train": {}}
    if not exists and source not in loading.presets():
        known = [*envs.names(), *loading.presets()]
        near = nearest(source, known)
        raise ConfigError(
            f"{shown(source, 300)} is not the folder of a run, nor a YAML file, preset or scenario; "
            f"{f'did you mean {near}? ' if near else ''}scenarios: {', '.join(envs.names())}; see also `dmpo list`"
        )
    experiment = loading.load(RunFolder.existing(Path(source)).config if os.path.isdir(source) else source).experiment
    scenario = evaluation_scenario(experiment).model_dump(mode="json")
    return {"scenario": scenario, "train": {"workers": experiment.train.workers}}
