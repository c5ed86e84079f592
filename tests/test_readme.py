"""What README.md tells the reader to do is done here, with a budget of a few steps."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.comparisons import comparison
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = ("train.env_steps=40", "train.num_envs=2", "train.threads=1", "scenario.horizon=20", "algorithm.rollout_steps=4")

FEWER = {"--seeds": "1", "--steps": "20"}

# Runs commands as the installed `dmpo` does, but all of a section in one process: starting one takes seconds.
RUNNER = """
import json, sys
from experiments.cli import main

for command in json.load(sys.stdin):
    sys.argv = ["dmpo", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"status {end.code}: {command}")
"""


def sections() -> dict[str, str]:
    """The text below each heading."""
    return {part.partition("\n")[0]: part for part in re.split(r"^#{2,} ", README, flags=re.MULTILINE)}


def blocks(text: str) -> list[str]:
    """What stands between fences."""
    return [block for _, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def commands(text: str) -> list[list[str]]:
    """The arguments of each `dmpo`."""
    lines = re.findall(r"^    \.venv/bin/dmpo (.*)$", text.replace("\\\n", ""), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def begun(told: list[list[str]]) -> list[list[str]]:
    """The commands that begin a run."""
    return [command for command in told if "train" in command and "--resume" not in command]


def run_of(command: list[str]) -> str:
    """The folder that a run is written into."""
    values = dict(word.split("=", 1) for word in command if "=" in word)
    name = values.get("name", Path(command[command.index("train") + 1]).stem)
    return f"runs/{name}-seed{values.get('train.seed', 0)}"


def shortened(command: list[str]) -> list[str]:
    """The same command with less to do."""
    if "--resume" in command:
        return [*command, "train.env_steps=80"]  # of the rest, a resumed run may change nothing
    command = [FEWER.get(before, word) for before, word in zip(["", *command], command, strict=False)]
    if "compare" in command:
        return [*command, *TINY, "algorithm.epochs=1"]
    if "evaluate" in command and not any(word.startswith("runs/") for word in command):
        return [*command, "scenario.horizon=20"]
    if "bench" in command:
        return [*command, "--threads", "1"]
    return [*command, *TINY] if "train" in command else command


def python(folder: Path, *arguments: str, given: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-P", *arguments], cwd=folder, env=environment, input=given, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("heading", [heading for heading, text in sections().items() if commands(text)])
def test_the_commands_of_a_section_work_with_its_files(folder: Path, dmpo: Command, heading: str) -> None:
    text = sections()[heading]
    for block in blocks(text):
        name = re.match(r"# (\S+)\n", block)
        assert name, "a file begins with its name"
        (folder / name[1]).write_text(block, encoding="utf-8")
    told = [shortened(command) for command in commands(text)]
    if any("--import" in command for command in told):
        python(folder, "-c", RUNNER, given=json.dumps(told))  # what modules register ends with the process
    else:
        for command in told:
            result = dmpo(*command)
            assert result.status == 0, (command, result.err)
    for command in told:
        if "compare" in command:
            made = comparison.read(folder / command[command.index("--output") + 1])
            assert len(made) == 2
    for command in begun(told):
        run = folder / run_of(command)
        assert (run / "evaluation.json").is_file()
        drawn = {path.name for path in (run / "plots").iterdir()}
        practised = "model/gradient_steps" in (run / "metrics.jsonl").read_text(encoding="utf-8")  # not in a warm-up
        of_models = {"model_errors.png", "model_horizon.png"} if practised else set()
        assert drawn == {"learning_curve.png", "time_space.png"} | of_models
        warming_up = any(word.endswith("_paper") for word in command)
        assert practised == (any(word.startswith("dmpo_") for word in command) and not warming_up)


def test_no_two_commands_write_into_the_same_folder() -> None:
    folders = [run_of(command) for command in begun(commands(README))]
    assert len(set(folders)) == len(folders) > 5


@pytest.mark.parametrize(
    ("heading", "most"), [("From Python", 30), ("Learners of other libraries", 1000)], ids=["vector", "pettingzoo"]
)
def test_the_examples_in_python_run(tmp_path: Path, heading: str, most: float) -> None:
    (example,) = blocks(sections()[heading])
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    assert 0 < float(python(tmp_path, "example.py")) < most


def test_the_files_that_are_named_exist() -> None:
    linked = re.findall(r"\]\((?!http)([^)]+)\)", README)
    folders = re.findall(r"^    (\w+/) {2,}", sections()["Layout"], re.MULTILINE)
    named = re.findall(r"`((?:envs|experiments|graphs|dmpo)/[\w/.]+)`", README)
    assert folders and named
    for path in (*linked, *folders, *named):
        assert (ROOT / path).exists(), path
