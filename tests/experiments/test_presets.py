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
