"""Commands, files and links of README.md and the pages below docs/, tried with a budget of a few steps."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.comparisons import comparison
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
# Their commands take hours; their figures are checked where they are read, in `benchmarks`.
REPORTS = ("benchmarks/README.md", "benchmarks/learning.md", "docs/results/README.md")
TINY = ("train.env_steps=40", "train.num_envs=2", "train.threads=1", "scenario.horizon=20", "algorithm.rollout_steps=4")
# Of so few episodes one must report the models' errors, which are drawn.
MODELS = (
    *("algorithm.model_holdout=0.5", "scenario.stagger=false", "algorithm.warm_up_steps=0"),
    *("algorithm.model_warm_up_fit_steps=25", "algorithm.model_fit_steps=25", "algorithm.model_starts=16"),
)
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


class Section(NamedTuple):
    """Part of a page below one heading, and the files that the whole page shows."""

    page: str
    heading: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.heading}"

    @property
    def blocks(self) -> list[str]:
        """Contents of the fenced blocks."""
        return re.findall(r"^```\w+\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each `dmpo`."""
        lines = re.findall(r"^    \.venv/bin/dmpo (.*)$", self.text.replace("\\\n", ""), re.MULTILINE)
        return [shlex.split(line, comments=True) for line in lines]

    @property
    def runs(self) -> list[list[str]]:
        """The commands that begin a run."""
        return [command for command in self.commands if "train" in command and "--resume" not in command]


def sections(page: str) -> list[Section]:
    """The parts of a page, each below a heading."""
    parts = re.split(r"^#{1,} (?=[A-Z])", PAGES[page], flags=re.MULTILINE)[1:]
    return [Section(page, part.partition("\n")[0], part) for part in parts]


SECTIONS = [section for page in PAGES for section in sections(page)]


def files(section: Section) -> dict[str, str]:
    """The files that the section's page shows, by the names in their first lines."""
    found = {}
    for block in (block for other in sections(section.page) for block in other.blocks):
        name = re.match(r"# (\S+)\n", block)
        assert name, f"a file in {section} begins with its name"
        found[name[1]] = block
    return found


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
    models = MODELS if any(word.startswith("dmpo_") for word in command) else ()
    return [*command, *TINY, *models] if "train" in command else command


def python(folder: Path, *arguments: str, given: str = "") -> str:
    """Output of a new Python process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-P", *arguments], cwd=folder, env=environment, input=given, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("section", [section for section in SECTIONS if section.commands], ids=str)
def test_the_commands_of_a_section_work_with_its_files(folder: Path, dmpo: Command, section: Section) -> None:
    for name, content in files(section).items():
        (folder / name).write_text(content, encoding="utf-8")
    commands = [shortened(command) for command in section.commands]
    if any("--import" in command for command in commands):
        python(folder, "-c", RUNNER, given=json.dumps(commands))  # what modules register ends with the process
    else:
        for command in commands:
            result = dmpo(*command)
            assert result.status == 0, (command, result.err)
    for command in commands:
        if "compare" in command:
            assert len(comparison.read(folder / command[command.index("--output") + 1])) == 2
    for command in section.runs:
        check_run(folder / run_of(command), command)


def check_run(run: Path, command: list[str]) -> None:
    """A run has its evaluation, and the plots of its learner."""
    assert (run / "evaluation.json").is_file()
    plots = {path.name for path in (run / "plots").iterdir()}
    logged = {
        key for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() for key in json.loads(line)
    }
    fitted = "model/gradient_steps" in logged
    of_models = {"model_errors.png", "model_horizon.png"} if fitted else set()
    assert plots == {"learning_curve.png", "time_space.png"} | of_models
    assert fitted == any(word.startswith("dmpo_") for word in command)


def test_no_two_commands_of_a_page_write_into_the_same_folder() -> None:
    for page in PAGES:
        folders = [(section.heading, run_of(command)) for section in sections(page) for command in section.runs]
        assert len({run for _, run in folders}) == len(folders), page


PROGRAMS = [
    (s, name) for s in SECTIONS for name in files(s) if f"# {name}\n" in s.text and "__main__" in files(s)[name]
]


@pytest.mark.parametrize(("section", "name"), PROGRAMS, ids=[name for _, name in PROGRAMS])
def test_the_programs_on_the_pages_run(tmp_path: Path, section: Section, name: str) -> None:
    (tmp_path / name).write_text(files(section)[name], encoding="utf-8")
    assert 0 < float(python(tmp_path, name)) < 1_000  # a speed in m/s, a gap in m


@pytest.mark.parametrize("page", [*PAGES, *REPORTS])
def test_what_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link
    for path in re.findall(r"`((?:benchmarks|dmpo|docs|envs|experiments|graphs|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), module
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:^    |`)make (\w+)", text, re.MULTILINE)) <= set(targets)


def test_the_pages_are_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", PAGES["README.md"]))
    assert linked >= set(PAGES) - {"README.md"}
