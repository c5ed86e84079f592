from pathlib import Path

import pytest

from experiments.comparisons import variants
from experiments.errors import ConfigError
from tests.experiments.conftest import TINY

RING = "scenario: {name: ring, num_vehicles: 6}\nalgorithm: {name: dppo}\n"


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def labels(*files: str, overrides: tuple[str, ...] = ()) -> list[str]:
    return [variant.label for variant in variants.load(files, overrides)[0]]


def problems(*files: str, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        variants.load(files, overrides)
    return refused.value.problems


def test_every_combination_is_a_variant(folder: Path) -> None:
    axes = "compare: {algorithm.kappa: [0, 2], graph.name: [cycle, complete], train.num_envs: [1, 2]}"
    found, _ = variants.load([write("a.yaml", TINY + axes)], ["train.env_steps=80"])
    combinations = {(v.experiment.algorithm.kappa, v.experiment.graph.name, v.experiment.train.num_envs) for v in found}
    assert combinations == {(k, g, e) for k in (0, 2) for g in ("cycle", "complete") for e in (1, 2)}
    assert found[0].label == found[0].stem == "kappa=0-cycle-num_envs=1"
    assert found[0].experiment.name == "tiny-kappa_0-cycle-num_envs_1"
    assert all(v.experiment.train.env_steps == 80 and v.experiment.train.threads == 1 for v in found)
    assert len({v.label for v in found}) == len(found)


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        ("algorithm.name: [dppo, dmpo]", ["dppo", "dmpo"]),
        ("algorithm: [dppo, {name: dmpo, kappa: 1}, {name: dmpo, kappa: 2}]", ["dppo", "dmpo-kappa=1", "dmpo-kappa=2"]),
        ("algorithm: [dppo, dmpo_cacc_catchup]", ["dppo", "dmpo_cacc_catchup"]),
        ("graph: [null, complete, {name: k_nearest, k: 2}]", ["graph=null", "complete", "k_nearest"]),
        ("algorithm.hidden_sizes: [[8], [8, 8]]", ["hidden_sizes=8", "hidden_sizes=8_8"]),
        ("scenario.name: [cacc_catchup, cacc_slowdown]", ["a", "a"]),
    ],
)
def test_a_label_is_what_tells_it_from_the_others(folder: Path, axes: str, named: list[str]) -> None:
    found, _ = variants.load([write("a.yaml", f"{TINY}compare:\n  {axes}\n")], [])
    assert [variant.label for variant in found] == named
    assert len({variant.stem for variant in found}) == len(found)


def test_a_preset_has_the_same_label_in_every_scenario_and_a_folder_of_its_own() -> None:
    presets = "dppo_ring", "dppo_ring_updates", "dppo_cacc_catchup", "dppo_figure_eight", "dppo_figure_eight_shared"
    found = variants.load(presets, ())[0]
    assert [variant.label for variant in found] == ["dppo", "dppo_updates", "dppo", "dppo", "dppo_shared"]
    assert tuple(variant.stem for variant in found) == presets


def test_files_are_called_by_their_names_and_repeated_labels_by_both(folder: Path) -> None:
    axes = "compare: {algorithm.kappa: [0, 1]}"
    files = write("a.yaml", TINY + axes), write("b.yaml", TINY.replace("hidden_sizes: [8]", "hidden_sizes: [9]") + axes)
    assert labels(*files, "dppo_ring") == ["kappa=0", "kappa=1", "b-kappa=0", "b-kappa=1", "dppo"]


def test_the_part_that_is_compared_may_be_missing_elsewhere(folder: Path) -> None:
    text = "scenario: {name: cacc_catchup}\ncompare: {algorithm: [dppo, dsac]}"
    assert labels(write("a.yaml", text)) == ["dppo", "dsac"]


def test_another_name_on_an_axis_says_what_it_left_out(folder: Path) -> None:
    _, notes = variants.load([write("a.yaml", TINY + "compare: {algorithm.name: [dppo, dmpo]}")], [])
    assert len(notes) == 1
    assert "algorithm.name=dmpo: left out algorithm.kappa" in notes[0]


def test_all_problems_of_all_variants_are_told_at_once(folder: Path) -> None:
    files = write("a.yaml", TINY + "compare: {algorithm.kappa: [1, -1, x]}"), write("b.yaml", RING)
    found = problems(*files, overrides=("train.sed=1",))
    assert "kappa=1, kappa=-1, kappa=x and 1 more: train.sed: unknown key (given 1); did you mean seed?" in found[0]
    assert [line.split(": ")[:2] for line in found[1:]] == [
        ["kappa=-1", "algorithm.kappa"],
        ["kappa=x", "algorithm.kappa"],
    ]


def test_seeds_follow_that_of_the_experiment(folder: Path) -> None:
    ((variant,), _) = variants.load([write("a.yaml", TINY)], ["train.seed=3"])
    assert [variant.seeded(number).train.seed for number in range(3)] == [3, 4, 5]


@pytest.mark.parametrize(
    ("part", "overrides", "what"),
    [
        ("compare: 3", (), "a.yaml: compare: 3 is not possible; allowed: a mapping of dotted keys to lists"),
        ("compare: {algorithm: {kappa: [1]}}", (), "compare.algorithm: "),
        ("compare: {algorithm.kappa: 1}", (), "a list of values, such as algorithm.kappa: [1, 2]"),
        ("compare: {algorithm.kappa: []}", (), "a list of values"),
        ("compare: {algorithm.kappa: [1, 1]}", (), "compare.algorithm.kappa: 1 is there twice"),
        ("compare: {train.seed: [1, 2]}", (), "how many says --seeds"),
        ("compare: {algorithm: [dpo]}", (), "did you mean dppo?"),
        ("compare: {graph: [dppo_ring]}", (), 'compare.graph: "dppo_ring" is unknown'),
        ("compare: {algoritm.kappa: [1]}", (), "did you mean algorithm?"),
        ("compare: {train.num_envs: [1, 1000000]}", (), "num_envs=1000000: train.num_envs: "),
        ("compare: {algorithm.kappa: [0, 1]}", ("algorithm.kappa=1",), "leave it out of the command line"),
        ("compare: {algorithm.name: [dppo, dmpo]}", ("algorithm.name=dppo",), "leave it out of the command line"),
        ("compare: {algorithm: [dppo, {name: dppo, kappa: 1}]}", ("algorithm.kappa=1",), "are the same experiment"),
        (f"compare: {{algorithm.kappa: {[*range(40)]}, train.num_envs: {[*range(1, 41)]}}}", (), "1,600 combinations"),
        ("evaluate_on: [graph.name=empty]", (), "a mapping of labels to lists of overrides"),
        ("evaluate_on: {../x: [graph.name=empty]}", (), "as it names a file"),
        ("evaluate_on: {x: graph.name=empty}", (), "evaluate_on.x: "),
        ("evaluate_on: {x: [graph.name=emty]}", (), 'a: evaluate_on.x: graph.name: "emty" is unknown'),
        ("evaluate_on: {x: [algorithm.kappa=0]}", (), "evaluate_on.x: algorithm.kappa: 0 is not possible"),
        ("evaluate_on: {x: [nonsense]}", (), "key.path=value"),
    ],
)
def test_what_cannot_be_compared_is_refused(folder: Path, part: str, overrides: tuple[str, ...], what: str) -> None:
    assert what in "\n".join(problems(write("a.yaml", f"{TINY}{part}\n"), overrides=overrides))
