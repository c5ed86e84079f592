import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import envs
from dmpo import EvaluationError, load_checkpoint
from dmpo.data.rollout import Rollout
from dmpo.models.trainer import ModelTrainer
from experiments import cli, commands
from experiments.config import loading
from experiments.errors import RunError
from experiments.runs import runner
from tests.experiments.conftest import metrics_of

ROOT = Path(__file__).parents[2]
Command = Callable[..., Any]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; import experiments.cli; print({'torch', 'libsumo', 'matplotlib', 'pydantic'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "set()", result.stderr


def test_no_window_system_is_needed_to_train() -> None:
    code = (
        "import sys; import experiments.drawing.plots; "
        "print('matplotlib.pyplot' in sys.modules, 'tkinter' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.split() == ["False", "False"], result.stderr


def test_the_module_is_the_command(folder: Path) -> None:
    command = [sys.executable, "-m", "experiments", "train", "dppo_rnig", "train.seed=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(
        'error: FILE: "dppo_rnig" is neither a file nor a preset; did you mean the preset dppo_ring?'
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["train"], "FILE: missing"),
        (["train", "train.seed=1"], "FILE: missing"),
        (["train", "absent.yaml"], '"absent.yaml" is neither a file nor a preset'),
        (["train", "."], "is a folder"),
        (["train", "x" * 5000], "neither a file nor a preset"),
        (["train", "syntax.yaml"], "syntax.yaml: line 2, column 1"),
        (["train", "double.yaml"], "'scenario' is here twice"),
        (["train", "empty.yaml"], "a mapping with keys"),
        (["train", "list.yaml"], "a mapping with keys"),
        (["train", "bomb.yaml"], "aliases written out"),
        (["train", "code.yaml"], "not known here"),
        (["train", "binary.yaml"], "is not UTF-8"),
        (["train", "dppo_ring", "train.seed"], "key.path=value"),
        (["train", "dppo_ring", "train..seed=1"], "key.path=value"),
        (["train", "dppo_ring", "train.seed=[1"], "value of train.seed: line 1"),
        (["train", "dppo_ring", "seed=1"], "did you mean train.seed?"),
        (["train", "dppo_ring", "graph=complete"], "error: graph: "),
        (["train", "dppo_ring", "--output", "list.yaml"], "is a file"),
        (["train", "dppo_ring", "--output", "."], "is not empty"),
        (["train", "--resume", "absent"], "not the folder of a run"),
        (["train", "--resume", "."], "holds no config.yaml"),
        (["train", "dppo_ring", "--resume", "absent", "--output", "x"], "--output"),
        (["evaluate", "absent"], "not the folder of a run"),
        (["evaluate", "list.yaml"], "a mapping with keys"),
        (["evaluate", "x" * 5000], "not the folder of a run"),
        (["evaluate", "."], "holds no config.yaml"),
        (["evaluate", "rnig"], "did you mean ring? scenarios: cacc_catchup"),
        (["evaluate", "ring", "controller.name=imd"], 'controller.name: "imd" is unknown; did you mean idm?'),
        (["evaluate", "ring", "controller.time_gap=1"], "controller.name: missing; allowed: follower_stopper, idm"),
        (["evaluate", "ring", "controller=idm"], 'controller: "idm" is not possible'),
        (["evaluate", "ring", "controller.name=idm", "controller.timegap=1"], "did you mean time_gap?"),
        (["evaluate", "ring", "controller.name=idm", "controller.time_gap=-1"], "a number of at least 0"),
        (["evaluate", "ring", "controller.name=idm", "algorithm.kappa=1"], "algorithm: unknown key"),
        (["evaluate", "dppo_ring", "controller.name=ovm", "controller.go_headway=1"], "must be above stop_headway"),
        (["evaluate", "ring", "scenario.horizon=0"], "scenario.horizon: 0 is not possible"),
        (["evaluate", "ring", "scenario.mode=train"], "scenario.mode: may not be given"),
        (["list", "rnig"], "did you mean ring?"),
        (["bench", "--only", "part"], "did you mean parts?"),
        (["bench", "--against", "absent.json"], "cannot be read"),
        (["bench", "--against", "list.yaml"], "is no report"),
        (["bench", "--device", "abacus"], '--device: "abacus" is not possible; allowed: cpu'),
        (["train", "dppo_ring", "--ouput", "x"], "--output"),
        (["evaluate"], "RUN_DIR"),
        (["trian"], "train"),
    ],
)
def test_a_mistake_ends_in_a_message_and_status_2(dmpo: Command, folder: Path, arguments: list[str], what: str) -> None:
    files = {
        "syntax.yaml": b"name: x\n]",
        "double.yaml": b"scenario: {name: ring}\nscenario: {name: ring}",
        "empty.yaml": b"",
        "list.yaml": b"[1, 2]",
        "bomb.yaml": b"a: &a [" + b"x," * 200 + b"]\nb: &b [" + b"*a," * 200 + b"]\nc: [" + b"*b," * 200 + b"]",
        "code.yaml": b"scenario: !!python/object/apply:os.system ['touch hacked']",
        "binary.yaml": bytes(range(128, 256)),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    result = dmpo(*arguments)
    assert result.status == 2
    assert what in result.err
    assert "Traceback" not in result.err
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)


def test_a_run_folder_that_is_edited_badly_is_refused(dmpo: Command, folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("scenario: {name: ring}\nalgorithm: {name: dppo, kapa: 1}", "utf-8")
    for command in (["train", "--resume", "run"], ["evaluate", "run"]):
        result = dmpo(*command)
        assert result.status == 2
        assert "algorithm.kapa" in result.err


def test_nothing_is_written_when_the_environment_does_not_start(
    dmpo: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*arguments: Any, **named: Any) -> Any:
        raise envs.SimulationError("SUMO did not start")

    monkeypatch.setattr(envs, "make", dead)
    result = dmpo("train", tiny, "--output", "run")
    assert result.status == 1
    assert result.err == "error: SUMO did not start; there is no run in run\n"
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (RunError("no more"), "no more"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (MemoryError(), "out of memory: take fewer"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory\nat 0x1"), "out of memory (DefaultCPUAllocator: "),
        (EvaluationError("Episodes were lost"), "Episodes were lost"),
    ],
)
def test_a_failure_ends_in_a_message_and_status_1(
    dmpo: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str
) -> None:
    def fail(*arguments: Any) -> Any:
        raise failure

    monkeypatch.setattr(runner, "train", fail)
    result = dmpo("train", tiny, "--output", "run")
    assert result.status == 1
    assert result.err.startswith(f"error: {told}")
    assert result.err.endswith("; there is no run in run\n")
    assert "Traceback" not in result.err


def test_a_model_that_explodes_is_named_and_the_last_good_checkpoint_stays(
    dmpo: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, calls = ModelTrainer.fit, []

    def spoilt(self: ModelTrainer, batch: Rollout) -> dict[str, float]:
        found = fit(self, batch)
        calls.append(1)
        if len(calls) > 6:  # of 40 steps each
            self.model.heads.get_parameter("0.bias").data[1, 0] = 1e30
        return found

    monkeypatch.setattr(ModelTrainer, "fit", spoilt)
    settings = ("algorithm.name=dmpo", "algorithm.rollout_steps=20", "algorithm.model_horizon=5", "algorithm.kappa=1")
    result = dmpo("train", tiny, *settings, "algorithm.model_share=1", "--output", "run")
    assert result.status == 1
    assert "model state of agent 1 exploded: after 1 steps" in result.err
    assert "environment step 240" in result.err and "--resume run" in result.err
    assert load_checkpoint(Path("run/checkpoint/newest.pt"))["env_steps"] == 200
    assert [line["env_steps"] for line in metrics_of(Path("run")) if "eval/reward" in line] == [0, 120, 200]


def test_a_fault_of_the_program_shows_where_it_is(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(commands, "train", fail)
    monkeypatch.setattr(sys, "argv", ["dmpo", "train", "tiny.yaml"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_an_override_that_makes_others_void_says_so(dmpo: Command, folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "scenario: {name: ring}\nalgorithm: {name: dppo}\ngraph: {name: k_nearest, k: 4}", encoding="utf-8"
    )
    result = dmpo("train", "a.yaml", "graph.name=cycle", "--output", "a.yaml")
    assert "note: graph.name=cycle: left out graph.k" in result.err


def test_a_file_goes_before_a_preset_and_a_folder_does_not(folder: Path) -> None:
    (folder / "dppo_ring").mkdir()
    assert loading.find("dppo_ring") == loading.presets()["dppo_ring"]
    (folder / "dppo_ring").rmdir()
    (folder / "dppo_ring").write_text("scenario: {name: ring}", encoding="utf-8")
    assert loading.find("dppo_ring") == Path("dppo_ring")
