"""Runs before and after a refactoring are compared to the last digit."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import dmpo
from benchmarks import same_numbers
from experiments.config import loading
from experiments.runs.folder import RunFolder


def make_run(path: Path, *lines: dict[str, Any], **config: Any) -> RunFolder:
    """A run folder with metrics, an evaluation, and a configuration."""
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump({"name": "one", **config}), encoding="utf-8")
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (path / "evaluation.json").write_text(
        json.dumps({"env_steps": 10, "metrics": {"eval/reward": 1.0}}), encoding="utf-8"
    )
    return RunFolder(path)


def test_runs_are_equal_but_for_times(tmp_path: Path) -> None:
    line = {"env_steps": 10, "value/loss": 0.1, "wall_seconds": 1.0, "time/env_seconds": 2.0}
    one = make_run(tmp_path / "one", line)
    other = make_run(tmp_path / "other", line | {"wall_seconds": 3.0, "time/env_seconds": 4.0})
    assert same_numbers.difference(one, other) is None


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([{"value/loss": 0.1}], None),
        ([{"value/loss": math.nextafter(0.1, 1)}], "line 1, value/loss: 0.1, now 0.1000000000000000"),
        ([{"value/loss": 0.1, "value/mean": None}], "line 1, value/mean"),
        ([{}], "line 1, value/loss: 0.1, now None"),
        ([{"value/loss": 0.1}] * 2, "2 lines of metrics, now 3"),
    ],
)
def test_the_first_difference_is_told(tmp_path: Path, lines: list[dict[str, Any]], told: str | None) -> None:
    recorded, repeated = make_run(tmp_path / "one", {"value/loss": 0.1}), make_run(tmp_path / "other", *lines)
    found = same_numbers.difference(recorded, repeated)
    assert found is None if told is None else found is not None and told in found


def test_runs_of_an_earlier_format_are_migrated_in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(command: str, path: str) -> str | None:
        (Path(path) / "config.yaml").write_text(f"format: 2\ncommand: {command}\n", encoding="utf-8")
        return None

    monkeypatch.setattr(same_numbers, "_dmpo", migrate)
    old, new = make_run(tmp_path / "old", {}), make_run(tmp_path / "new", {}, format=2)
    assert same_numbers.in_current_format(new, tmp_path).path == new.path
    found = same_numbers.in_current_format(old, tmp_path)
    assert yaml.safe_load(found.config.read_text(encoding="utf-8")) == {"format": 2, "command": "migrate"}
    assert "format" not in old.config.read_text(encoding="utf-8")
    monkeypatch.setattr(same_numbers, "_dmpo", lambda *_: "not possible")
    with pytest.raises(RuntimeError, match="not possible"):
        same_numbers.in_current_format(make_run(tmp_path / "broken", {}), tmp_path)


def test_every_learner_is_compared_in_every_kind_of_scenario() -> None:
    cases = same_numbers.cases()
    assert {case["algorithm"]["name"] for case in cases.values()} == set(dmpo.names())
    kinds = {case["scenario"]["name"] for case in cases.values()}
    assert kinds == {"ring", "figure_eight", "cacc_catchup", "cacc_slowdown", "sumo"}
    for name, case in cases.items():
        if "bfloat16" not in name:  # not every processor has it
            loading.check({"name": name, **case})
