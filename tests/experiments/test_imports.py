"""Modules of the user's, in a folder that is not this repository."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import RunError
from experiments.runs import runner
from tests.experiments.conftest import TINY

ROOT = Path(__file__).parents[2]
Command = Callable[..., Any]

BEHIND = """
import networkx as nx

import graphs

@graphs.register("behind")
def behind(n: int) -> nx.Graph:
    return nx.path_graph(n)
"""
HEADWAY = """
from envs.traffic.platoon import observations

@observations.register("headway", size=1)
def headway(platoon):
    return platoon.headway[..., None] / 20
"""
COMMANDS = """
import json, sys
from experiments.cli import main

for command in json.load(sys.stdin):
    sys.argv = ["dmpo", "--import", "behind", "--import", "headway", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture
def own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, whose modules are forgotten after the test, with all they register."""
    from graphs import registry

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(registry._topologies, "_entries", dict(registry._topologies._entries))
    return folder


@pytest.mark.parametrize(
    ("module", "text", "what"),
    [
        ("absent", None, "No module named 'absent'; it is looked for in "),
        ("absent.part", None, "No module named 'absent'"),
        ("mine.py", "", '"mine.py" is not the name of a module'),
        ("../mine", "", '"../mine" is not the name of a module'),
        ("", None, '"" is not the name of a module'),
        ("mine", "import graphs\nimport nothing_like_it", "No module named 'nothing_like_it' ("),
        ("mine", "import graphs\n1 / 0", "ZeroDivisionError: division by zero ("),
        ("mine", "import sys\nsys.exit(3)", "SystemExit: 3 ("),
        ("mine", "def (:", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("mine", "import graphs\n@graphs.register('cycle')\ndef mine(n): ...", "two graphs are called 'cycle'"),
        ("mine", "import envs\n@envs.register('mine')\nclass Mine: ...", "needs an attribute Parameters"),
        (
            "mine",
            "import graphs\n@graphs.register('mine')\ndef mine(n, x: Path = 1): ...",
            "name 'Path' is not defined",
        ),
        (
            "mine",
            "import graphs\n@graphs.register('mine')\ndef mine(n, x: graphs.Neighborhood): ...",
            "a type that YAML",
        ),
        ("wave", "", "wave.py here has the name of another module"),
    ],
)
def test_what_cannot_be_imported_ends_in_one_message(
    dmpo: Command, own: Path, module: str, text: str | None, what: str
) -> None:
    if text is not None:
        (own / f"{Path(module).stem}.py").write_text(text, encoding="utf-8")
    for command in (["list"], ["train", "dppo_ring"], ["evaluate", "run"]):
        result = dmpo("--import", module, *command)
        assert result.status == 2
        (line,) = result.err.splitlines()
        assert line.startswith("error: --import: ")
        assert what in line
        assert not (own / "runs").exists()


def test_the_line_at_fault_is_named(dmpo: Command, own: Path) -> None:
    (own / "mine.py").write_text("import mine_too", encoding="utf-8")
    (own / "mine_too.py").write_text("\n\nwrong", encoding="utf-8")
    assert f"not defined ({own / 'mine_too.py'}, line 3)" in dmpo("--import", "mine", "list").err


def test_several_modules_may_be_given(dmpo: Command, own: Path) -> None:
    for name in ("one", "two"):
        text = f"import graphs\n@graphs.register('{name}')\ndef {name}(n: int, width: int = 1): ...\n"
        (own / f"{name}.py").write_text(text, encoding="utf-8")
    result = dmpo("--import", "one", "--import", "two", "list")
    assert result.status == 0
    assert {"one", "two"} <= set(result.out.split())


def test_a_run_with_what_a_module_registers_is_trained_resumed_and_evaluated(dmpo: Command, folder: Path) -> None:
    (folder / "behind.py").write_text(BEHIND, encoding="utf-8")
    (folder / "headway.py").write_text(HEADWAY, encoding="utf-8")
    text = TINY.replace("horizon: 40", "horizon: 40, observation: headway")
    (folder / "tiny.yaml").write_text(f"{text}graph: {{name: behind}}\n", encoding="utf-8")
    commands = [
        ["train", "tiny.yaml", "--output", "run", "train.env_steps=40"],
        ["train", "--resume", "run", "train.env_steps=80"],
        ["evaluate", "run", "scenario.horizon=20", "--output", "there.json"],
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-P", "-c", COMMANDS],
        env=environment,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "there.json").read_text(encoding="utf-8"))["env_steps"] == 80
    # Here, without the module, both names are unknown, and the messages say what may be missing.
    for command in (["evaluate", "run"], ["train", "--resume", "run"]):
        refused = dmpo(*command)
        assert refused.status == 2
        lines = refused.err.splitlines()
        assert [line.split(": ")[1] for line in lines] == ["scenario.observation", "graph.name"]
        assert all("--import MODULE" in line for line in lines)


def test_how_to_go_on_names_the_modules(dmpo: Command, own: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(experiment: Any, folder: Path, watch: Any) -> Any:
        folder.mkdir()
        (folder / "config.yaml").touch()
        raise RunError("no more")

    monkeypatch.setattr(runner, "train", fail)
    (own / "mine.py").touch()
    result = dmpo("--import", "mine", "train", tiny, "--output", "run")
    assert result.status == 1
    assert result.err.endswith("error: no more; go on with: dmpo --import mine train --resume run\n")
