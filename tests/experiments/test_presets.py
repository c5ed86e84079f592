"""Every preset runs: with few and short episodes, but with its own scenario, algorithm and networks."""

from pathlib import Path

import pytest

from experiments.config import loading
from experiments.drawing import plots
from experiments.runs import runner
from tests.experiments.conftest import metrics_of
from tests.experiments.runs.test_runner import RecordingCallback

SHORT = ("scenario.horizon=20", "evaluate.scenario.horizon=20", "train.num_envs=2", "train.threads=1")
FEW = {
    "rollout_steps": 4,
    "warm_up_steps": 0,
    "model_warm_up_fit_steps": 25,
    "model_fit_steps": 25,
    "model_holdout": 0.5,
    "model_starts": 16,
    "inner_iterations": 2,
    "epochs": 2,
    "gradient_steps": 2,
}


@pytest.mark.parametrize("preset", sorted(loading.presets()))
def test_it_trains_from_its_first_evaluation_to_its_last(
    preset: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []  # made, but not turned into pixels, which takes as long as the training
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(path.name))
    algorithm = loading.load(preset).experiment.algorithm.model_dump()
    few = [f"algorithm.{key}={value}" for key, value in FEW.items() if key in algorithm]
    repeat = loading.load(preset).experiment.scenario.action_repeat
    steps = 3 * 2 * FEW["rollout_steps"] * repeat  # three iterations
    experiment = loading.load(preset, [*SHORT, *few, f"train.env_steps={steps}"]).experiment
    runner.train(experiment, folder / "run", RecordingCallback())
    lines = metrics_of(folder / "run")
    assert [line["env_steps"] for line in lines if "eval/reward" in line] == [0, steps]
    assert lines[-1]["policy/gradient_steps"] > 0
    modeled = "model_fit_steps" in algorithm
    # Models are not learned any more once nobody practises in them.
    assert any("model/state_error" in line for line in lines) == modeled
    assert {"learning_curve.png", "time_space.png"} <= set(drawn)
    assert ("model_errors.png" in drawn) == modeled


# Tables 1 and 2 of the DMPO paper (appendix B), and the ends of the axes of its figure 2.
SAMPLES = {"cacc_catchup": 350_000, "cacc_slowdown": 1_000_000, "figure_eight": 400_000, "ring": 400_000}
TABLE_1 = {
    "cacc_catchup": {"lr_value": 3e-4, "lr_policy": 3e-4, "lr_model": 3e-4, "kappa": 1}
    | {"model_share": 1, "model_horizon": 1},
    "cacc_slowdown": {"lr_value": 3e-4, "lr_policy": 3e-4, "lr_model": 3e-4, "kappa": 1}
    | {"model_share": 1, "model_horizon": 1},
    "figure_eight": {"lr_value": 5e-5, "lr_policy": 5e-5, "lr_model": 5e-4, "kappa": 3, "clip": 0.15, "gae_lambda": 0.5}
    | {"kl_target": 7.5e-3, "total_kl": 7.5e-3, "model_share": 0.5, "model_horizon": 25},
    "ring": {"lr_value": 5e-4, "lr_policy": 5e-4, "lr_model": 5e-4, "kappa": 3, "clip": 0.2, "gae_lambda": 0.5}
    | {"kl_target": 0.01, "total_kl": 0.01, "model_share": 0.5, "model_horizon": 25},
}
TABLE_2 = {
    "cacc_catchup": {"lr_value": 7e-4, "lr_policy": 5e-5, "kappa": 2},
    "cacc_slowdown": {"lr_value": 5e-4, "lr_policy": 5e-5, "kappa": 2},
    "figure_eight": {"lr_value": 5e-4, "lr_policy": 5e-5, "kappa": 3},
    "ring": {"lr_value": 1e-3, "lr_policy": 1e-3, "kappa": 3},
}
ALL_OF_TABLE_2 = {"clip": 0.2, "gae_lambda": 0.5, "kl_target": 0.01}


@pytest.mark.parametrize("scenario", SAMPLES)
def test_paper_presets_have_the_papers_numbers(scenario: str) -> None:
    for learner, table in (("dmpo", TABLE_1), ("dppo", TABLE_2), ("cppo", TABLE_2)):
        experiment = loading.load(f"{learner}_{scenario}_paper").experiment
        expected = table[scenario] | (ALL_OF_TABLE_2 if table is TABLE_2 else {})
        if learner == "cppo":
            expected = {key: value for key, value in expected.items() if key != "kappa"}  # its critic sees everybody
        assert {key: getattr(experiment.algorithm, key) for key in expected} == expected
        assert experiment.train.env_steps == SAMPLES[scenario]
    assert loading.load(f"ic3net_{scenario}_paper").experiment.train.env_steps == SAMPLES[scenario]
