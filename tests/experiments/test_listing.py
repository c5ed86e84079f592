"""`dmpo list`: one screen of names, and behind each name whole sentences."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dmpo as learners
from experiments import listing
from experiments.config import metrics
from experiments.runs.folder import RunFolder

Command = Callable[..., Any]
MODELS = {
    **{f"{group} {name}": model for group, models in listing._groups() for name, model in models.items()},
    **listing._SECTIONS,
}
SENTENCES = re.compile(r"([^a-z\s]|[a-z] ~).*\.", re.DOTALL)  # i ~ j is how a graph is described


@pytest.fixture(params=[80, 100, 120])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The width of the terminal."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def test_all_names_fit_on_one_screen(dmpo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = dmpo("list").out.splitlines()
    assert len(lines) < 45
    assert not [line for line in lines if line.rstrip().endswith("…")]  # no sentence is cut
    assert set(listing.names()) <= set(re.findall(r"\w+", "\n".join(lines)))


@pytest.mark.parametrize("name", listing.names())
def test_each_name_tells_everything_and_cuts_nothing(dmpo: Command, columns: int, name: str) -> None:
    result = dmpo("list", name)
    assert result.status == 0
    assert max(map(len, result.out.splitlines())) <= columns
    words = " ".join(result.out.split())
    for model in (model for key, model in MODELS.items() if key.split()[-1] == name):
        for key, description, _, allowed in listing.settings(model):
            for part in (key, description, allowed):
                # Lines also end at hyphens and in words that are longer than a line.
                assert part.replace(" ", "") in words.replace(" ", "")


@pytest.mark.parametrize("what", MODELS)
def test_every_setting_is_described_in_whole_sentences(what: str) -> None:
    short = {
        key: description
        for key, description, _, _ in listing.settings(MODELS[what])
        if not SENTENCES.fullmatch(description)
    }
    assert not short
    assert SENTENCES.fullmatch(listing._summary(MODELS[what]))


def test_defaults_ranges_and_needed_settings_are_told(dmpo: Command) -> None:
    words = " ".join(dmpo("list", "k_nearest").out.split())
    assert "graph: {name: k_nearest}" in words
    assert "a whole number of at least 2, a multiple of 2" in words
    assert "ring_length" not in words
    assert "Must be given. Allowed: text" in " ".join(dmpo("list", "file").out.split())
    assert "Default: 15.0. Allowed: a number of at least 0." in " ".join(dmpo("list", "follower_stopper").out.split())
    assert "humans.controller" in dmpo("list", "ring").out


def test_a_preset_shows_its_comment_and_its_settings(dmpo: Command) -> None:
    words = " ".join(dmpo("list", "dppo_ring").out.split())
    assert "DPPO on a ring of 22 vehicles" in words
    assert "algorithm: name: dppo" in words
    assert "yaml-language-server" not in words


@pytest.mark.parametrize("name", learners.names())
def test_every_metric_that_a_learner_logs_is_in_the_table(dmpo: Command, folder: Path, name: str) -> None:
    few = {"rollout_steps": 10, "epochs": 1, "gradient_steps": 2, "warm_up_steps": 0, "inner_iterations": 1, "kappa": 1,
           "model_fit_steps": 2, "model_starts": 4, "model_horizon": 2, "consensus": 0.5}  # fmt: skip
    known = learners.settings_of(name).model_fields
    given = [f"algorithm.{key}={value}" for key, value in few.items() if key in known]
    short = ["scenario.num_vehicles=3", "scenario.horizon=20", "train.num_envs=2", "train.env_steps=80"]
    arguments = [
        "train",
        "dppo_cacc_catchup",
        f"algorithm.name={name}",
        *given,
        *short,
        "evaluate.every=40",
        "--output",
        "run",
    ]
    assert dmpo(*arguments).status == 0
    logged = {key for line in RunFolder(Path("run")).read_metrics() for key in line}
    assert {key for key in logged if metrics.find(key) is None} == set()
    assert "policy/gradient_steps" in logged


def test_metrics_are_listed_with_unit_and_meaning(dmpo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    lines = [" ".join(line.split()) for line in dmpo("list", "metrics").out.splitlines()]
    for metric in metrics.METRICS:
        assert any(line.startswith(metric.name) for line in lines)
        assert SENTENCES.fullmatch(metric.meaning)
    assert len({metric.name for metric in metrics.METRICS}) == len(metrics.METRICS)
    assert metrics.find("model/state_error.12") == metrics.find("model/state_error")
    assert metrics.find("model/unheard_of") is None


def test_an_unknown_name_is_refused_with_the_nearest(dmpo: Command) -> None:
    result = dmpo("list", "metrik")
    assert result.status == 2
    assert "did you mean metrics?" in result.err
