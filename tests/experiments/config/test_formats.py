from pathlib import Path

import pytest

import dmpo
from experiments.config import formats, loading, yaml_io
from experiments.errors import ConfigError

OLD = """\
# A comment that stays.
name: mine   # and another

scenario: {name: ring}
algorithm:
  name: dmpo_sac
  hidden: [64, 64]    # widths
  "target_rate": 5e-3
  overlap: true   # gone
  model_actions: 'neighbours'
  fit_steps: 2_00
train: {answer_seconds: 60, seed: 3}
compare:
  algorithm.memory_steps: [40, 80]
  algorithm.model_actions: [own, neighbours]
  algorithm:
    - {name: ic3net, hidden: 8}
    - {overlap: false, name: dsac, batch: 8}
    - {name: dsac, overlap: false}
evaluate_on:
  wide: [graph.name=complete, algorithm.held_out=0.3]
"""
NEW = """\
# A comment that stays.
format: 2
name: mine   # and another

scenario: {name: ring}
algorithm:
  name: dmpo_sac
  hidden_sizes: [64, 64]    # widths
  "tau": 5e-3
  model_actions: 'neighbors'
  model_fit_steps: 2_00
train: {worker_timeout: 60, seed: 3}
compare:
  algorithm.model_buffer_size: [40, 80]
  algorithm.model_actions: [own, neighbors]
  algorithm:
    - {name: ic3net, hidden_size: 8}
    - {name: dsac, batch_size: 8}
    - {name: dsac}
evaluate_on:
  wide: [graph.name=complete, algorithm.model_holdout=0.3]
"""


def test_a_file_is_rewritten_in_place_of_keys_and_values() -> None:
    text, notes = formats.migrate_text(OLD, "old.yaml")
    assert text == NEW
    assert notes == [f"algorithm.overlap: true is left out: {formats.REMOVED_SETTINGS['algorithm.overlap']}"]
    assert formats.migrate_text(text, "new.yaml") == (NEW, [])


@pytest.mark.parametrize(
    "text", ["{algorithm: {hidden: 8}}", "a: &x {hidden: 8}\nalgorithm: {<<: *x}", "format: 1\na: 1"]
)
def test_flow_style_aliases_and_an_old_number_are_rewritten(text: str) -> None:
    migrated = yaml_io.read_text(formats.migrate_text(text, "f")[0], "f")
    assert migrated["format"] == 2
    assert "hidden" not in migrated.get("algorithm", {})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_stay(end: str) -> None:
    text = OLD.replace("\n", end)
    assert formats.migrate_text(text, "f")[0].replace("format: 2\n", f"format: 2{end}") == NEW.replace("\n", end)


def test_a_setting_that_is_gone_leaves_the_list_that_it_stood_in() -> None:
    text, _ = formats.migrate_text("compare:\n  algorithm:\n    - overlap: true\n      name: dsac\n", "f.yaml")
    assert yaml_io.read_text(text, "f.yaml")["compare"] == {"algorithm": [{"name": "dsac"}]}


def test_a_setting_that_is_gone_and_alone_is_left_to_the_user() -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.overlap: .*; take it out by hand"):
        formats.migrate_text("compare:\n  algorithm.overlap: [true, false]\n", "f.yaml")


def test_every_renamed_setting_leads_to_one_that_exists() -> None:
    known = {key for name in dmpo.names() for key in dmpo.settings_of(name).model_fields}
    assert set(formats.RENAMED_SETTINGS["algorithm"].values()) <= known
    assert not known & (formats.RENAMED_SETTINGS["algorithm"].keys())


def test_names_of_today_are_renamed_no_further() -> None:
    assert not set(formats.RENAMED_METRICS.values()) & set(formats.RENAMED_METRICS)
    for settings in formats.RENAMED_SETTINGS.values():
        assert not set(settings.values()) & set(settings)


def test_a_metric_of_one_agent_is_renamed_as_that_of_all() -> None:
    assert formats.renamed_metric("model/loss.3") == "model/validation_loss.3"
    assert formats.renamed_metric("model/loss") == "model/validation_loss"
    assert formats.renamed_metric("eval/reward") == "eval/reward"


@pytest.mark.parametrize("line", ["algorithm: {name: dppo, hidden: [8]}", "train: {answer_seconds: 3}", "format: 1",
                                  "compare: {algorithm.memory_steps: [3]}"])  # fmt: skip
def test_a_file_of_format_1_is_refused_with_the_command_that_rewrites_it(tmp_path: Path, line: str) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(f"scenario: {{name: ring}}\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        loading.load(path)
    (problem,) = refused.value.problems
    assert problem.endswith(f"rewrite it with: dmpo migrate {path}")


def test_a_file_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text("format: 3\nscenario: {name: ring}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has format 3, written by a newer version of dmpo; this one reads format 2"):
        loading.load(path)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("algorithm.neighbour_order=cyclic", "since format 2 it is algorithm.neighbor_order"),
        ("algorithm.hidden=[8]", "since format 2 it is hidden_sizes, for ic3net hidden_size"),
        ("train.answer_seconds=3", "since format 2 it is train.worker_timeout"),
    ],
)
def test_an_override_with_an_old_key_is_refused_with_the_new_name(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loading.load("dppo_ring", [override])
    (problem,) = refused.value.problems
    assert told in problem
