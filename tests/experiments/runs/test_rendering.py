import shutil
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

import dmpo as learners
import envs
from envs.traffic.measures import TrafficMeter
from experiments.config import loading
from experiments.drawing import film
from experiments.runs import rendering, runner
from experiments.runs.rendering import RecordingEnv, RenderSettings
from tests.conftest import Command
from tests.experiments.conftest import TINY


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the tiny experiment, which decides every four steps."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    experiment = loading.load(folder / "tiny.yaml", ["scenario.action_repeat=4", "train.env_steps=160"]).experiment
    return runner.train(experiment, folder / "run", MagicMock()).folder.path


@pytest.fixture
def run(finished: Path, tiny: Path) -> Path:
    """A copy of it, in the working directory."""
    return shutil.copytree(finished, Path("run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_is_drawn_and_filmed(dmpo: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "which", lambda name: None)
    before = contents(run)
    result = dmpo("render", run)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == ["run/film/time_space.png", "run/film/film.gif"]
    with Image.open("run/film/film.gif") as gif:
        assert gif.n_frames == 14  # of steps 0, 3, …, 39
    assert {name: data for name, data in contents(run).items() if "run/film/" not in name} == before
    result = dmpo("render", run, "scenario.num_vehicles=3", "--steps", 10, "--every", 1, "--output", "elsewhere")
    assert result.status == 0
    with Image.open("elsewhere/film.gif") as gif:
        assert gif.n_frames == 13  # whole actions


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--start", "20"], "--start: 20 is not possible; allowed: a whole number from 0 to 19"),
        (["--steps", "1"], "--steps"),
        (["--fps", "0"], "--fps"),
        (["--every", "0"], "--every"),
        (["--output", "tiny.yaml"], '--output: "tiny.yaml" cannot be used'),
        (["scenario.num_vehicles=4"], "the policies do not fit"),
        (["train.seed=4"], "train.seed"),
        (["--gui"], "there is no display here"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    dmpo: Command, run: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    before = contents(Path.cwd())
    result = dmpo("render", run, *arguments)
    assert result.status == 2
    assert what in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
    assert contents(Path.cwd()) == before


def test_a_display_that_nobody_serves_is_named(dmpo: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":977")
    result = dmpo("render", run, "--gui")
    assert result.status == 2
    assert "--gui: SUMO's window did not open on the display \":977\"; SUMO's window needs an X server" in result.err
    assert "Traceback" not in result.err


def test_the_film_shows_the_episode_that_evaluation_sees(
    dmpo: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(film, "write_film", lambda scene, *rest: seen.update(scene=scene) or Path("x"))
    rendering.render(rendering.RunFolder(run), [], RenderSettings(start=2), Path("out"), print)
    policy = rendering.load_trained_policy(rendering.RunFolder(run), [], print)
    with rendering.make_env(policy.scenario, 3, 1, rendering.SEED) as env:
        obs, info = env.reset(seed=rendering.SEED)
        speeds = [info["state"]["speed"][2].copy()]
        for _ in range(10):
            obs, *_, info = env.step(policy.learner.act(obs, deterministic=True))
            speeds.append(info["state"]["speed"][2].copy())
    scene = seen["scene"]
    assert scene.speed.shape == (41, 4) and scene.learners == 3  # and the leader
    np.testing.assert_array_equal(scene.speed[::4, :3], speeds)


def test_a_run_on_a_network_of_the_users_own_is_drawn_and_filmed(
    dmpo: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "which", lambda name: None)
    seen: dict[str, Any] = {}
    draw = film.SceneRenderer.__init__
    monkeypatch.setattr(
        film.SceneRenderer, "__init__", lambda self, scene: seen.update(scene=scene) or draw(self, scene)
    )
    agents = "scenario.agents={type: learner, count: 6}"
    given = [agents, "scenario.warm_up_steps=60", "train.num_envs=1"]
    tiny.write_text(TINY.replace("cacc_catchup, num_vehicles: 3", "sumo"), encoding="utf-8")
    assert dmpo("train", tiny, *given, "train.env_steps=40", "evaluate.every=40", "--output", "own").status == 0
    result = dmpo("render", "own", "--every", 4)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == ["own/film/time_space.png", "own/film/film.gif"]
    scene = seen["scene"]
    assert scene.learners == 6
    # The first ones are on the road, and the last slot is empty for some of the time.
    learners = np.isfinite(scene.x[:, :6])
    assert learners.any() and not learners.all()
    np.testing.assert_array_equal(np.isfinite(scene.speed[:, :6]).sum(1), np.isfinite(scene.measured).sum(1))


def test_an_action_is_held_until_an_episode_ends() -> None:
    parameters = {"num_vehicles": 3, "horizon": 40, "mode": "evaluate"}
    with envs.make("cacc_catchup", 2, action_repeat=8, **parameters) as whole:
        expected = learners.evaluate(whole, lambda obs: np.full(obs.shape[:2], 3), seed=0)
    with envs.make("cacc_catchup", 2, watch="vehicles", **parameters) as single:
        filmed = RecordingEnv(single, hold=8)
        found = learners.evaluate(filmed, lambda obs: np.full(obs.shape[:2], 3), seed=0)
    assert len(filmed.vehicles) == len(filmed.states) == len(filmed.collided) == 41
    np.testing.assert_allclose(found.episode_returns, expected.episode_returns, rtol=1e-5)
    for name in ("speed", "position", "headway"):
        np.testing.assert_array_equal(found.trajectory[name], expected.trajectory[name])


class Crashing:
    """An environment whose two episodes end in a collision after 3 and 5 steps, and begin again."""

    num_envs, num_agents, graph = 2, 1, None
    horizon, step_seconds, undriven_reward = 12, 0.1, 0.0
    get_state = set_state = None

    def reset(self, seed: object, options: object) -> tuple[Any, dict[str, Any]]:
        """Start."""
        self.clock = 0
        return np.zeros((2, 1, 1)), self._info(np.zeros(2, dtype=bool))

    def step(self, actions: object) -> tuple[Any, ...]:
        """A reward of 1 each."""
        self.clock += 1
        ended = self.clock % np.array([3, 5]) == 0
        return np.zeros((2, 1, 1)), np.ones((2, 1)), ended, ~ended & False, self._info(ended)

    def meter(self) -> TrafficMeter:
        """As on roads."""
        return TrafficMeter(0.1, self.horizon)

    def _info(self, collision: Any) -> dict[str, Any]:
        state = {"speed": np.full((2, 1), float(self.clock))}
        return {"vehicles": [self.clock] * 2, "traffic": state, "collision": collision, "lost": collision & False}


def test_what_comes_after_the_end_within_a_held_action_is_not_filmed() -> None:
    filmed = RecordingEnv(Crashing(), hold=4)  # type: ignore[arg-type]
    found = learners.evaluate(filmed, lambda obs: np.zeros((2, 1)))  # type: ignore[arg-type]
    assert found.episode_returns.tolist() == [[3.0], [5.0]]
    assert filmed.vehicles == [0, 1, 2, 3, 4, 5]
    assert filmed.collided == [False] * 5 + [True]
