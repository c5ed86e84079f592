"""The folder of a comparison, without running anything."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.comparisons import comparison
from experiments.comparisons.comparison import Comparison, ComparisonRun
from experiments.config import loading
from experiments.errors import ConfigError, RunError
from experiments.runs.folder import RunFolder
from tests.conftest import Command
from tests.experiments.conftest import TINY, tiny_experiment

ONE, TWO = (ComparisonRun("tiny", "cacc_catchup", seed, f"runs/tiny-seed{seed}") for seed in (0, 1))
WANTED = Comparison.of(["tiny.yaml"], [], [ONE, TWO])
EXPERIMENTS = [tiny_experiment(f"train.seed={seed}") for seed in (0, 1)]


def refused(path: Path, wanted: Comparison = WANTED, experiments: Any = None) -> str:
    with pytest.raises(ConfigError) as error, comparison.opened(path, wanted, experiments or EXPERIMENTS):
        pass
    return str(error.value)


def finish(path: Path, seed: int) -> None:
    """Something that is read as a finished run."""
    run = RunFolder(path / f"runs/tiny-seed{seed}")
    run.create(loading.dump(EXPERIMENTS[seed]))
    run.metrics.write_text('{"env_steps": 400, "wall_seconds": 1.0}\n{"env', encoding="utf-8")
    run.evaluation.write_text('{"env_steps": 400}', encoding="utf-8")


def test_finished_runs_are_read_wherever_the_folder_is(tmp_path: Path) -> None:
    with comparison.opened(tmp_path / "a", WANTED, EXPERIMENTS) as whole:
        assert whole == WANTED == comparison.load(tmp_path / "a")
    assert comparison.read(tmp_path / "a") == []
    finish(tmp_path / "a", seed=1)
    shutil.move(tmp_path / "a", tmp_path / "b")
    (record,) = comparison.read(tmp_path / "b")
    assert (record.label, record.experiment, record.report) == ("tiny", EXPERIMENTS[1], {"env_steps": 400})
    assert record.metrics == [{"env_steps": 400, "wall_seconds": 1.0}]
    assert record.folder.path == tmp_path / "b/runs/tiny-seed1"


def test_the_folder_of_a_comparison_stands_for_its_finished_runs(tmp_path: Path) -> None:
    with comparison.opened(tmp_path / "a", WANTED, EXPERIMENTS):
        pass
    with pytest.raises(RunError, match="no run in .* is finished"):
        comparison.gather([tmp_path / "a"])
    finish(tmp_path / "a", seed=1)
    finish(tmp_path / "b", seed=0)
    alone = tmp_path / "b" / ONE.folder
    found = comparison.gather([tmp_path / "a", alone])
    assert [(run.label, run.experiment.train.seed) for run in found] == [("tiny", 1), ("tiny", 0)]
    with pytest.raises(ConfigError, match='are both "tiny" with seed 1'):
        comparison.gather([tmp_path / "a", tmp_path / "a" / TWO.folder])


def test_runs_are_added_and_none_is_forgotten(tmp_path: Path) -> None:
    with comparison.opened(tmp_path, Comparison.of(["a.yaml"], [], [ONE]), EXPERIMENTS[:1]):
        pass
    other = replace(ONE, label="other", folder="runs/other-seed0")
    for more in (Comparison.of(["a.yaml"], ["x=1"], [TWO, ONE]), Comparison.of(["b.yaml"], ["x=1"], [other])):
        with comparison.opened(tmp_path, more, [EXPERIMENTS[run.seed] for run in more.runs]):
            pass
    assert comparison.load(tmp_path) == Comparison(
        "a, b", ["a.yaml", "b.yaml"], ["x=1"], ["tiny", "other"], [0, 1], [ONE, TWO, other]
    )


def test_a_run_of_another_configuration_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    with comparison.opened(tmp_path, WANTED, EXPERIMENTS):
        pass
    finish(tmp_path, seed=0)
    before = (tmp_path / "comparison.json").read_bytes()
    changed = [tiny_experiment("algorithm.kappa=0", "train.env_steps=800"), EXPERIMENTS[1]]
    message = refused(tmp_path, experiments=changed)
    assert "tiny-seed0: algorithm.kappa: 0 is not possible: the run has 1" in message
    assert "tiny-seed0: train.env_steps: 800 is not possible" in message
    assert "tiny-seed1" not in message
    assert (tmp_path / "comparison.json").read_bytes() == before
    with comparison.opened(tmp_path, WANTED, [tiny_experiment("train.workers=2"), EXPERIMENTS[1]]):
        pass


def test_a_run_from_before_update_threads_is_gone_on_with(tmp_path: Path) -> None:
    begun, now = (tiny_experiment("train.threads=1", f"train.update_threads={n}") for n in ("null", "1"))
    with comparison.opened(tmp_path, WANTED, [begun, EXPERIMENTS[1]]):
        RunFolder(tmp_path / ONE.folder).create(loading.dump(begun))
    with comparison.opened(tmp_path, WANTED, [now, EXPERIMENTS[1]]):
        pass
    two = tiny_experiment("train.threads=1", "train.update_threads=2")
    assert "train.update_threads: 2 is not possible" in refused(tmp_path, experiments=[two, EXPERIMENTS[1]])


def test_a_label_stands_for_one_thing(tmp_path: Path) -> None:
    with comparison.opened(tmp_path, WANTED, EXPERIMENTS):
        pass
    moved = replace(ONE, folder="runs/cacc_catchup-tiny-seed0")
    assert 'other runs with the label "tiny"' in refused(tmp_path, Comparison.of(["b.yaml"], [], [moved]))


def test_two_do_not_compare_into_the_same_folder(dmpo: Command, tiny: Path) -> None:
    with comparison.opened(Path("out"), WANTED, EXPERIMENTS):
        result = dmpo("compare", tiny, "--seeds", 2, "--output", "out")
        assert result.status == 2
        assert result.err == (
            'error: --output: "out" is at work: another dmpo compare writes into it; wait for its end or choose '
            "another folder\n"
        )
        assert [path.name for path in Path("out").iterdir()] == ["comparison.json"]


def _foreign(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine", "utf-8")


def _damaged(path: Path) -> None:
    path.mkdir()
    (path / "comparison.json").write_text('{"title": 1}', "utf-8")


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (_foreign, "is not empty and holds no comparison.json"),
        (_damaged, "is damaged"),
        (lambda path: path.write_text("", "utf-8"), "is a file"),
    ],
)
def test_what_is_no_comparison_is_left_alone(tmp_path: Path, made: Callable[[Path], None], what: str) -> None:
    made(tmp_path / "there")
    before = sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))
    assert what in refused(tmp_path / "there")
    assert sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")) == before


def test_failures_are_recorded_until_the_next_attempt(tmp_path: Path) -> None:
    with comparison.opened(tmp_path, WANTED, EXPERIMENTS):
        comparison.write_failures(tmp_path, [{"label": "tiny", "seed": 0}])
    assert json.loads((tmp_path / "failures.json").read_text("utf-8")) == [{"label": "tiny", "seed": 0}]
    with comparison.opened(tmp_path, WANTED, EXPERIMENTS):
        assert not (tmp_path / "failures.json").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["compare", "--output", "out"], "FILE: missing; give a YAML file or one of the presets"),
        (["compare", "tiny.yaml"], "--output: missing"),
        (["compare", "tiny.yaml", "absent.yaml", "--output", "out"], '"absent.yaml" is neither a file nor a preset'),
        (["compare", "tiny.yaml", "--output", "out", "--backend", "loky"], "leave it out"),
        (["compare", "tiny.yaml", "--output", "out", "--backend", "dusk"], '--backend: "dusk" cannot be used'),
        (["compare", "tiny.yaml", "--output", "out", "--seeds", "0"], "--seeds"),
        (["compare", "tiny.yaml", "--output", "tiny.yaml"], "is a file"),
        (["compare", "tiny.yaml", "algorithm.kapa=1", "--output", "out"], "tiny: algorithm.kapa: unknown key"),
        (["compare", "tiny.yaml", "tiny.yaml", "--output", "out"], "is it given twice?"),
        (["train", "axes.yaml", "--output", "out"], "compare: is a part that dmpo compare FILE reads"),
    ],
)
def test_a_mistake_ends_in_a_message_and_nothing_is_written(
    dmpo: Command, tiny: Path, arguments: list[str], what: str
) -> None:
    Path("axes.yaml").write_text(TINY + "compare: {algorithm.kappa: [0, 1]}\n", "utf-8")
    result = dmpo(*arguments)
    assert result.status == 2
    assert what in result.err
    assert "Traceback" not in result.err
    assert sorted(path.name for path in tiny.parent.iterdir()) == ["axes.yaml", "tiny.yaml"]


def test_a_backend_that_is_not_installed_says_what_to_install(dmpo: Command, tiny: Path) -> None:
    for backend in ("dask", "ray"):
        try:
            __import__({"dask": "distributed", "ray": "ray"}[backend])
        except ImportError:
            result = dmpo("compare", tiny, "--output", "out", "--backend", backend)
            assert result.status == 2
            assert f'--backend: "{backend}" cannot be used' in result.err
            assert "pip install" in result.err
            assert not Path("out").exists()


def test_a_title_names_a_few_files_and_counts_many() -> None:
    few, many = ["dppo_ring", "folder/mine.yaml"], [f"{n}.yaml" for n in range(5)]
    assert comparison.Comparison.of(few, [], []).title == "dppo_ring, mine"
    assert comparison.Comparison.of(many, [], []).title == "5 files compared"
