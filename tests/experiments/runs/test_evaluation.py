"""Construction of learners and environments for training and evaluation."""

import pytest

from experiments.config import loading
from experiments.runs import evaluation


@pytest.mark.parametrize(
    ("cores", "given", "threads", "update_threads"),
    [
        (2, [], 1, 2),  # one is SUMO's while it steps
        (1, [], 1, 1),
        (64, [], 4, 4),  # more have nothing to do
        (8, ["train.workers=6"], 2, 4),
        (8, ["train.threads=1"], 1, 1),  # who asks for one has others to run
        (8, ["train.threads=3", "train.update_threads=6"], 3, 6),
        (8, ["train.update_threads=1"], 4, 1),
    ],
)
def test_pytorch_has_the_cores_that_sumo_leaves(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: list[str], threads: int, update_threads: int
) -> None:
    monkeypatch.setattr(evaluation.os, "sched_getaffinity", lambda _: set(range(cores)))
    train = evaluation.with_threads(loading.load("dppo_ring", given).experiment).train
    assert (train.threads, train.update_threads) == (threads, update_threads)
