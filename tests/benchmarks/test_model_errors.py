"""Errors of models beside their limits."""

from benchmarks import model_errors
from experiments.config import loading


def test_errors_are_those_nearest_to_the_samples_asked_for() -> None:
    names = ("state_error", "change_error", "reward_error")
    lines = [{"env_steps": 0}, *({"env_steps": k, **{f"model/{n}": k / 1e6 for n in names}} for k in (60, 110, 150))]
    assert model_errors.errors_at(lines, 100) == dict.fromkeys(names, 110 / 1e6)
    assert set(model_errors.STATE_LIMITS) <= set(loading.presets())
