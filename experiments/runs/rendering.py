"""One episode of a trained policy as pictures, or in SUMO's own window."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dmpo
import envs
from envs.meter import Meter
from experiments.config.checks import communication_graph
from experiments.drawing import film, plots
from experiments.errors import ConfigError, RunError, refusal, shown
from experiments.runs.evaluation import SEED, TrainedPolicy, load_trained_policy, make_env
from experiments.runs.folder import RunFolder

Array = NDArray[Any]
_ROWS = 1_000  # of a time-space diagram, which has no more points across


@dataclass(frozen=True)
class RenderSettings:
    """Settings of a rendered episode.

    Attributes:
        steps: simulated steps at most; the whole episode if left out.
        start: number of the reference start.
        every: simulated steps from one picture to the next.
        fps: pictures a second.
    """

    steps: int | None = None
    start: int = 0
    every: int = 3
    fps: int = 20


class RecordingEnv:
    """An environment that holds actions as the trained one does, while every simulated step is seen.

    Args:
        env: with `action_repeat` 1, watched; its last environment is the one that is filmed.
        hold: simulated steps for which an action is held.

    Attributes:
        vehicles: of the filmed environment, at the start and after each step up to the end of its first episode.
        states: its `info["traffic"]` at those moments, each (M,).
        collided: whether there had been a collision by then.
    """

    def __init__(self, env: envs.VectorEnv, hold: int) -> None:
        self._env, self.action_repeat = env, hold
        self.num_envs, self.num_agents, self.graph = env.num_envs, env.num_agents, env.graph
        self.horizon, self.step_seconds, self.undriven_reward = env.horizon, env.step_seconds, env.undriven_reward
        self.get_state, self.set_state = env.get_state, env.set_state
        self._begin()

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """See :class:`envs.VectorEnv`."""
        observation, info = self._env.reset(seed, options)
        self._begin()
        self._keep(info, collided=False)
        return observation, info

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """See :class:`envs.VectorEnv`; an episode that ends while the action is held has ended."""
        reward = np.zeros((self.num_envs, self.num_agents))
        flags = {name: np.zeros(self.num_envs, dtype=np.bool_) for name in ("terminated", "truncated", "collision")}
        for _ in range(self.action_repeat):
            going = ~(flags["terminated"] | flags["truncated"])
            observation, earned, terminated, truncated, info = self._env.step(actions)
            reward += np.where(going[:, None], earned, 0.0)
            for name, now in zip(flags, (terminated, truncated, info["collision"]), strict=True):
                flags[name] |= going & now
            if going[-1]:
                self._keep(info, collided=bool(info["collision"][-1]))
            if info["lost"].any():
                break
        return observation, reward, flags["terminated"], flags["truncated"], info | {"collision": flags["collision"]}

    def meter(self) -> Meter:
        """Meter of the environment that is recorded."""
        return self._env.meter()

    def _begin(self) -> None:
        self.vehicles: list[envs.Vehicles] = []
        self.states: list[dict[str, Array]] = []
        self.collided: list[bool] = []

    def _keep(self, info: dict[str, Any], collided: bool) -> None:
        self.vehicles.append(info["vehicles"][-1])
        self.states.append({name: rows[-1].copy() for name, rows in info["traffic"].items()})
        self.collided.append(collided)


def render(
    folder: RunFolder, overrides: Sequence[str], settings: RenderSettings, output: Path, notify: Callable[[str], None]
) -> list[Path]:
    """Write a time-space diagram and a film of one episode with deterministic actions; returns their paths.

    Args:
        folder: of the run.
        overrides: of its experiment.
        settings: what to show.
        output: folder, made if it is not there.
        notify: called with notes on the overrides.

    Raises:
        ConfigError: an override or start that cannot be, or a folder that cannot be made.
        dmpo.CheckpointError: there is no usable checkpoint.
    """
    policy = load_trained_policy(folder, overrides, notify)
    _check_start(policy, settings)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: {shown(str(output), 300)} cannot be used: {error.strerror}") from error
    scenario = _shortened(policy, settings).model_copy(update={"action_repeat": 1})
    with make_env(scenario, settings.start + 1, 1, SEED, watch="vehicles") as env:
        filmed = RecordingEnv(env, policy.scenario.action_repeat)
        dmpo.evaluate(filmed, policy.learner, deterministic=True, seed=SEED)
        roads, seconds, learners = env.query("roads")[-1], env.step_seconds, env.spec.places
    name = policy.experiment.name
    trajectory = {key: np.stack([state[key] for state in filmed.states]) for key in filmed.states[0]}
    every = -(-len(filmed.states) // _ROWS)
    some = {key: rows[::every] for key, rows in trajectory.items()}
    which = f"after {policy.env_steps:,} steps, reference start {settings.start}"
    diagram = plots.time_space(some, name, seconds * every, learners, which)
    picture = output / "time_space.png"
    plots.save(diagram, picture)
    scene = _scene(policy, filmed, trajectory, roads, seconds)
    return [picture, film.write_film(scene, output / "film", settings.fps, settings.every)]


def show(folder: RunFolder, overrides: Sequence[str], settings: RenderSettings, notify: Callable[[str], None]) -> None:
    """Drive one episode from the first reference start in SUMO's own window, at the speed of real time.

    Raises:
        ConfigError: there is no display, or what `render` refuses.
        RunError: the window was closed before the end.
    """
    if not os.environ.get("DISPLAY"):
        raise ConfigError(f"--gui: there is no display here (DISPLAY is not set); {_WITHOUT_A_DISPLAY}")
    if settings.start:
        raise ConfigError(refusal("--start", settings.start, "0 with --gui, whose window shows one road"))
    policy = load_trained_policy(folder, overrides, notify)
    try:
        env = make_env(_shortened(policy, settings), 1, 1, SEED, window=True)
    except envs.SimulationError as error:
        display = shown(os.environ["DISPLAY"])
        raise ConfigError(
            f"--gui: SUMO's window did not open on the display {display}; {_WITHOUT_A_DISPLAY}"
        ) from error
    with env:
        try:
            dmpo.evaluate(env, policy.learner, deterministic=True, seed=SEED)
        except envs.SimulationError as error:
            raise RunError(f"SUMO's window was closed before the end of the episode: {error}") from error


_WITHOUT_A_DISPLAY = (
    "SUMO's window needs an X server: log in to a desktop, or with ssh -X. Without --gui this command makes a film "
    "instead, which needs none"
)


def _check_start(policy: TrainedPolicy, settings: RenderSettings) -> None:
    starts = envs.spec(policy.scenario).reference_starts
    if settings.start >= starts:
        raise ConfigError(refusal("--start", settings.start, f"a whole number from 0 to {starts - 1}"))


def _shortened(policy: TrainedPolicy, settings: RenderSettings) -> envs.ScenarioParameters:
    """The scenario with an episode of no more steps than asked for, in whole actions."""
    hold, horizon = policy.scenario.action_repeat, policy.scenario.horizon
    actions = -(-min(settings.steps or horizon, horizon) // hold)
    return policy.scenario.model_copy(update={"horizon": actions * hold})


def _scene(
    policy: TrainedPolicy, filmed: RecordingEnv, trajectory: dict[str, Array], roads: Sequence[Array], seconds: float
) -> film.Scene:
    x, y, heading, speed, length = (_rows([seen[k] for seen in filmed.vehicles]) for k in range(5))
    return film.Scene(
        title=f"{policy.experiment.name} after {policy.env_steps:,} steps",
        roads=roads,
        x=x,
        y=y,
        heading=heading,
        speed=speed,
        length=length,
        measured=plots.vehicle_trajectory(trajectory)["speed"],
        collided=np.logical_or.accumulate(filmed.collided),
        graph=communication_graph(policy.experiment, policy.scenario),
        seconds=seconds,
    )


def _rows(moments: Sequence[Array]) -> Array:
    """One row (M,) a moment; where vehicles come and go, with not a number for those that are not there."""
    rows = np.full((len(moments), max(map(len, moments))), np.nan)
    for row, seen in zip(rows, moments, strict=True):
        row[: len(seen)] = seen
    return rows
