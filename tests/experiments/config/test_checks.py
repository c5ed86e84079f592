"""What fits key by key and not together is refused before anything is simulated."""

import pytest

from experiments.config import checks, loading
from experiments.errors import ConfigError


def problem_of(preset: str, *overrides: str) -> str:
    """The message that refuses a preset with some overrides; empty if nothing does."""
    try:
        checks.check(loading.load(preset, overrides).experiment)
    except ConfigError as error:
        return "\n".join(error.problems)
    return ""


@pytest.mark.parametrize("preset", ["dmpo_cacc_catchup", "dsac_cacc_catchup", "dmpo_cacc_catchup_paper"])
def test_a_warm_up_as_long_as_training_is_refused(preset: str) -> None:
    repeat = loading.load(preset).experiment.scenario.action_repeat
    steps = 4_000 * repeat
    found = problem_of(preset, f"train.env_steps={steps}", "algorithm.warm_up_steps=4000")
    assert found.startswith("algorithm.warm_up_steps: 4000 is not possible; allowed: fewer actions than the 4,000 ")
    assert problem_of(preset, f"train.env_steps={steps}", "algorithm.warm_up_steps=3999") == ""


def test_practice_in_models_that_ends_before_it_begins_is_refused() -> None:
    # 100,800 steps of 5 simulated ones: the warm-up takes half of training.
    fading = ("algorithm.warm_up_steps=10080", "algorithm.model_share_final=0")
    found = problem_of("dmpo_cacc_catchup", *fading, "algorithm.model_share_schedule=[0.1, 0.5]")
    assert found.startswith("algorithm.model_share_schedule: [0.1, 0.5] is not possible; allowed: an end after 0.50")
    assert problem_of("dmpo_cacc_catchup", *fading, "algorithm.model_share_schedule=[0.1, 0.51]") == ""
    # Models that go on serve policies whenever the warm-up ends.
    still = ("algorithm.warm_up_steps=10080", "algorithm.model_share_final=0.1")
    assert problem_of("dmpo_cacc_catchup", *still, "algorithm.model_share_schedule=[0.1, 0.5]") == ""


@pytest.mark.parametrize("preset", sorted(loading.presets()))
def test_no_preset_is_refused(preset: str) -> None:
    assert problem_of(preset) == ""
