"""Runs that are killed and resumed."""

from pathlib import Path

import pytest
import torch

from benchmarks import resume
from experiments.config import loading


@pytest.mark.parametrize("algorithm", resume.ALGORITHMS)
def test_runs_to_be_killed_can_be_run(algorithm: str, tmp_path: Path) -> None:
    experiment = loading.load(resume.write_config(algorithm, tmp_path)).experiment
    assert experiment.train.threads == 1
    assert experiment.train.env_steps >= 20 * experiment.evaluate.every


def test_states_are_the_same_to_the_last_bit_or_not_at_all() -> None:
    state = {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", None)}]}
    assert resume.same(state, {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", None)}]})
    for other in (
        {"a": [torch.tensor([0.0, 1.0 + 2**-23]), {"b": (1, "x", None)}]},
        {"a": [torch.tensor([0.0, 1.0], dtype=torch.float64), {"b": (1, "x", None)}]},
        {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", 0)}]},
        {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x")}]},
        {"a": [torch.tensor([0.0, 1.0]), {"b": (1, "x", None), "c": 0}]},
    ):
        assert not resume.same(state, other)
