"""TensorBoard and Weights & Biases are told what stands in metrics.jsonl, whatever is killed and whatever fails."""

import json
import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.config import loading, yaml_io
from experiments.config.schema import Experiment
from experiments.errors import ConfigError
from experiments.runs import loggers, runner
from experiments.runs.folder import MetricsLog, RunFolder
from experiments.runs.loggers import Loggers
from tests.experiments.conftest import TINY

LINES: list[dict[str, Any]] = [
    {"env_steps": 10 * i, "wall_seconds": 1.5 * i, "eval/reward": -1.0 / (i + 1), "policy/kl": None if i == 2 else 0.1}
    for i in range(5)
]
WANDB = 'log.wandb={project: roads, mode: "%s"}'


def experiment(*overrides: str) -> Experiment:
    return loading.check(loading.yaml_io.read_text(TINY, "tiny.yaml"), overrides).experiment


def started(folder: RunFolder, lines: list[dict[str, Any]], *overrides: str, known: int = 0) -> Loggers:
    """Loggers of a run that goes on from its first `known` lines and writes the rest."""
    size = sum(len(json.dumps(line)) + 1 for line in lines[:known])
    with MetricsLog(folder.metrics, size) as log, Loggers(experiment(*overrides), folder) as opened:
        log.take_back()
        opened.open()
        for line in lines[known:]:
            opened.write(log.write(line))
    return opened


@pytest.fixture
def folder_of_run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


class FakeWandb(ModuleType):
    """As much of `wandb` as is used: `init`, `Settings(console=)`, and of a run `id`, `step`, `log` and `finish`.

    As there, a run that is resumed on the server begins at the step behind its last and takes no earlier ones; offline
    every start has a folder of its own.
    """

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None, origin="fake")
        self.server: dict[str, list[dict[str, Any]]] = {}
        self.starts: list[dict[str, Any]] = []
        self.exits: list[int] = []
        self.fails_at: int | None = None

    def Settings(self, console: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(console=console)

    def init(self, *, id: str | None, mode: str, resume: str | None, **named: Any) -> "FakeRun":
        if self.fails_at == -1:
            raise ConnectionError("no network")
        named_like_there = {"project", "entity", "name", "config", "allow_val_change", "dir", "settings"}
        assert named.keys() == named_like_there and Path(named["dir"]).is_dir()
        self.starts.append({"id": id, "mode": mode, "resume": resume, **named})
        name = id or f"run{len(self.starts)}"
        history = self.server.setdefault(name, []) if mode == "online" else []
        if mode == "offline":
            self.server[f"folder{len(self.starts)}"] = history
        assert not history or resume == "allow"
        return FakeRun(self, name, history)


class FakeRun:
    def __init__(self, wandb: FakeWandb, name: str, history: list[dict[str, Any]]) -> None:
        self.id, self.wandb, self.history = name, wandb, history
        self.step = history[-1]["env_steps"] + 1 if history else 0

    def log(self, data: dict[str, Any], step: int, commit: bool) -> None:
        assert commit and step >= self.step
        if self.wandb.fails_at == step:
            raise RuntimeError("the service has gone")
        self.step = step
        self.history.append(data)

    def finish(self, exit_code: int) -> None:
        self.wandb.exits.append(exit_code)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def events(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """Scalars that TensorBoard reads: (step, value) by tag."""
    return told(reader(folder))


def reader(folder: RunFolder) -> Any:
    needed = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed: pip install dmpo[tensorboard]",
    )
    return needed.EventAccumulator(str(folder.path / "tensorboard"))


def told(accumulator: Any) -> dict[str, list[tuple[int, float]]]:
    accumulator.Reload()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def columns(lines: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The same from lines; TensorBoard's numbers have 32 bits."""
    tags = {tag for line in lines for tag, value in line.items() if value is not None} - {"env_steps", "wall_seconds"}
    having = {tag: [line for line in lines if line.get(tag) is not None] for tag in tags}
    return {tag: [(line["env_steps"], float(np.float32(line[tag]))) for line in rows] for tag, rows in having.items()}


def plain(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if value is not None} for line in lines]


class StopError(Exception):
    """The end of a run in the midst of it."""


class Killer:
    """Ends a run at an evaluation, before its line is written."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at

    def begin(self, env_steps: int, total: int) -> None: ...

    def advance(self, env_steps: int) -> None: ...

    def evaluated(self, env_steps: int, metrics: dict[str, float]) -> None:
        if env_steps == self.at:
            raise StopError


def test_a_run_that_is_killed_and_resumed_with_other_loggers_tells_each_every_line_once(
    folder: Path, wandb: FakeWandb
) -> None:
    run = RunFolder(folder / "run")
    first = reader(run)
    with pytest.raises(StopError):
        runner.train(experiment("log.tensorboard=true"), run.path, Killer(at=200))
    before = run.read_metrics()
    assert [line["env_steps"] for line in before] == [0, 40, 80, 120, 160]
    assert run.load_state()["env_steps"] == 120
    assert told(first) == columns(before)
    wandb.fails_at = 280
    runner.resume(experiment("log.tensorboard=true", WANDB % "online"), run, Killer())
    lines = run.read_metrics()
    assert [line["env_steps"] for line in lines] == list(range(0, 401, 40))
    assert events(run) == columns(lines)
    assert told(first) == columns(lines)  # one who was looking on all the time
    (history,) = wandb.server.values()
    assert history == plain(lines[:7])  # and training went on when it failed
    assert wandb.starts[0]["config"]["log"]["wandb"]["project"] == wandb.starts[0]["project"] == "roads"


def test_times_are_those_of_the_lines_however_often_a_run_is_started(folder_of_run: RunFolder) -> None:
    accumulator = reader(folder_of_run)
    started(folder_of_run, LINES[:3], "log.tensorboard=true")
    started(folder_of_run, LINES, "log.tensorboard=true", known=2)
    accumulator.Reload()
    times = [event.wall_time for event in accumulator.Scalars("eval/reward")]
    np.testing.assert_allclose(np.diff(times), 1.5, atol=1e-6)
    for _ in range(3):
        started(folder_of_run, LINES, "log.tensorboard=true", known=5)
        assert len(list((folder_of_run.path / "tensorboard").iterdir())) == 2
        assert told(accumulator) == events(folder_of_run) == columns(LINES)


def test_auto_is_where_it_is_installed(folder_of_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "_installed", lambda package: False)
    started(folder_of_run, LINES, "log.tensorboard=auto")
    assert not (folder_of_run.path / "tensorboard").exists()
    monkeypatch.undo()
    reader(folder_of_run)  # skips where it is not
    started(folder_of_run, LINES, "log.tensorboard=auto", known=5)
    assert events(folder_of_run) == columns(LINES)
    started(folder_of_run, LINES, "log.tensorboard=false", known=4)
    assert events(folder_of_run) == columns(LINES)


def test_a_folder_of_a_package_s_name_is_no_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    log = loading.check(yaml_io.read_text(TINY, "tiny.yaml"), [WANDB % "online"]).experiment.log
    with monkeypatch.context() as only:
        only.setattr(sys, "path", [str(folder)])
        with pytest.raises(ConfigError, match=r"log\.wandb.*pip install"):
            loggers.check_installed(log)
        (folder / "wandb" / "__init__.py").touch()
        invalidate_caches()
        loggers.check_installed(log)


def test_weights_and_biases_goes_on_with_the_same_run(folder_of_run: RunFolder, wandb: FakeWandb) -> None:
    started(folder_of_run, LINES[:4], WANDB % "online")
    # From the second line on they come again.
    started(folder_of_run, LINES, WANDB % "online", known=2)
    assert wandb.server == {"run1": plain(LINES)}
    assert [start["id"] for start in wandb.starts] == [None, "run1"]
    assert wandb.exits == [0, 0]
    assert wandb.starts[0]["settings"].console == "off"


def test_offline_the_newest_folder_of_weights_and_biases_has_everything(
    folder_of_run: RunFolder, wandb: FakeWandb
) -> None:
    started(folder_of_run, LINES[:4], WANDB % "offline")
    started(folder_of_run, LINES, WANDB % "offline", known=2)
    assert wandb.server == {"folder1": plain(LINES[:4]), "folder2": plain(LINES)}
    assert [(start["id"], start["resume"]) for start in wandb.starts] == [(None, None), ("run1", None)]


def test_the_real_weights_and_biases_takes_every_line_without_a_network(folder_of_run: RunFolder) -> None:
    wandb = pytest.importorskip("wandb", reason="Weights & Biases is not installed: pip install dmpo[wandb]")
    for known in (0, 3):
        started(folder_of_run, LINES, WANDB % "offline", known=known)
        time.sleep(1.0)  # folders are named by the second
    wandb.teardown()
    starts = sorted(folder_of_run.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(starts) == 2 and len({start.name for start in starts}) == 1  # of the same run
    assert [history_of(start) for start in starts] == [plain(LINES)] * 2


def history_of(file: Path) -> list[dict[str, Any]]:
    """The lines in a file for `wandb sync`: 7 bytes, then a LevelDB log of Record messages, here of one block."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, history = file.read_bytes(), 7, []
    assert content.startswith(b":W&B") and len(content) < 32_768
    while at < len(content):
        length = int.from_bytes(content[at + 4 : at + 6], "little")
        record = Record.FromString(content[at + 7 : at + 7 + length])
        at += 7 + length
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            history.append({name: value for name, value in items.items() if not name.startswith("_")})
    return history


@pytest.mark.parametrize("moment", [-1, 20])
def test_a_logger_that_fails_is_warned_of_once_and_the_others_go_on(
    folder_of_run: RunFolder, wandb: FakeWandb, caplog: pytest.LogCaptureFixture, moment: int
) -> None:
    reader(folder_of_run)
    wandb.fails_at = moment
    with caplog.at_level(logging.WARNING):
        started(folder_of_run, LINES, "log.tensorboard=true", WANDB % "online")
    (warning,) = (record.getMessage() for record in caplog.records if record.name == loggers.__name__)
    assert warning.startswith("log.wandb: ") and ("no network" in warning or "the service has gone" in warning)
    assert folder_of_run.read_metrics() == LINES
    assert events(folder_of_run) == columns(LINES)
    assert wandb.exits == ([] if moment == -1 else [1])
    # The next start makes good what is missing.
    wandb.fails_at = None
    started(folder_of_run, LINES, WANDB % "online", known=5)
    assert list(wandb.server.values()) == [plain(LINES)]


def test_a_full_disk_under_tensorboard_does_not_end_a_run(
    folder_of_run: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader(folder_of_run)
    original = Path.open

    def full(path: Path, *arguments: Any, **named: Any) -> Any:
        return open("/dev/full", "wb") if "tfevents" in path.name else original(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", full)
    started(folder_of_run, LINES, "log.tensorboard=true")
    (warning,) = (record.getMessage() for record in caplog.records if record.name == loggers.__name__)
    assert "log.tensorboard: OSError: [Errno 28] No space left on device" in warning
    assert folder_of_run.read_metrics() == LINES


def test_a_run_that_stops_before_its_end_is_reported_as_failed(folder_of_run: RunFolder, wandb: FakeWandb) -> None:
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(StopError))
        stack.enter_context(Loggers(experiment(WANDB % "online"), folder_of_run)).open()
        raise StopError
    assert wandb.exits == [1]


@pytest.mark.parametrize(("override", "extra"), [("log.tensorboard=true", "tensorboard"), (WANDB % "offline", "wandb")])
def test_what_is_asked_for_but_not_installed_is_refused_before_anything_starts(
    tiny: Path, dmpo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, override: str, extra: str
) -> None:
    monkeypatch.setattr(loggers, "_installed", lambda package: False)
    result = dmpo("train", tiny, override)
    assert result.status == 2
    assert result.err.startswith(f"error: log.{extra}: ") and f'pip install "dmpo[{extra}]"' in result.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("log.tensorboard=yes", 'log.tensorboard: "yes" is not possible; allowed: auto or true or false'),
        ("log.wandb=roads", 'log.wandb: "roads" is not possible; allowed: a mapping with keys among project, entity'),
        ("log.wandb.entity=us", "log.wandb.project: missing"),
        ("log.wandb.project=a/b", 'log.wandb.project: "a/b" is not possible'),
        ("log.wand=x", "log.wand: unknown key"),
    ],
)
def test_bad_settings_are_refused(override: str, words: str) -> None:
    with pytest.raises(loading.ConfigError) as error:
        experiment(override)
    assert str(error.value).startswith(words)
