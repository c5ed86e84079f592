"""Controllers alone, from the command line: parameters, scenarios, and the same figures as beside a policy."""

import json
from pathlib import Path
from typing import Any

import pytest

import envs
from experiments.config.checks import evaluation_scenario
from experiments.config.loading import load
from experiments.runs import controllers
from experiments.runs.evaluation import assess_controllers, make_evaluation_env
from tests.conftest import Command

SHORT = ("scenario.num_vehicles=3", "scenario.horizon=40")


def test_a_scenario_shows_all_its_controllers_and_a_file_the_same(dmpo: Command, tiny: Path) -> None:
    found: list[dict[str, Any]] = []
    for what, changes in (("cacc_catchup", SHORT), (tiny, ("scenario.action_repeat=1",))):
        result = dmpo("evaluate", what, *changes, "--output", "found.json")
        assert (result.status, result.err) == (0, "")
        found.append(json.loads(Path("found.json").read_text(encoding="utf-8")))
        for row in ("constant (0.5, 0.5)", *envs.controllers.names()):
            assert row in result.out
    assert found[0]["controllers"] == found[1]["controllers"]
    assert found[0]["starts"] == 20

    experiment = load(tiny).experiment
    scenario = evaluation_scenario(experiment)
    with make_evaluation_env(scenario, 1) as env:
        assert assess_controllers(env, scenario) == found[0]["controllers"]


def test_one_controller_is_evaluated_with_its_parameters(dmpo: Command, folder: Path) -> None:
    metrics = []
    for gap in (0.5, 2.0):
        result = dmpo("evaluate", "cacc_catchup", *SHORT, "controller.name=idm", f"controller.time_gap={gap}",
                      "--output", "found.json")  # fmt: skip
        assert (result.status, result.err) == (0, "")
        assert "ovm" not in result.out
        found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
        assert found["controller"] == {**envs.controllers.parameters("idm")().model_dump(), "time_gap": gap}
        mean = sum(episode["return"] for episode in found["episodes"]) / 20
        assert mean == pytest.approx(found["controllers"]["idm"]["eval/return"])
        metrics.append(found["controllers"]["idm"])
    assert metrics[0]["eval/reward"] != metrics[1]["eval/reward"]


def test_a_scenario_has_parameters_of_its_own_for_a_controller_that_can_be_changed() -> None:
    speeds = []
    for what, given in (("ring", ()), ("figure_eight", ()), ("dppo_ring", ("controller.desired_speed=3",))):
        loaded = controllers.load(what, ["controller.name=follower_stopper", *given])
        assert loaded.scenario.mode == "evaluate"
        speeds.append(loaded.controller.desired_speed)  # type: ignore[union-attr]
    assert speeds == [2.5, 15.0, 3.0]


def test_another_scenario_than_the_files_starts_from_its_defaults(tiny: Path) -> None:
    loaded = controllers.load(str(tiny), ["scenario.name=ring"])
    assert loaded.scenario == envs.parameters("ring")(mode="evaluate")
    assert "left out" in loaded.notes[0]
