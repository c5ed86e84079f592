"""Worker process: simulates its share of the environments.

It obeys commands from a pipe and leaves the results in memory that it shares with the environment's process.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs import plugins
from envs.scenario import Scenario, Spec
from envs.types import SimulationError, State
from graphs.spelling import check_names

Fields = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class WorkerTask:
    """Share of a worker: the scenario, its parameters, and which environments are its own.

    Attributes:
        modules: to be imported first, for the scenarios and observations that they register.
        window: whether the simulator shows the simulation in a window of its own.
        core: the only one that it may run on; None means any.
    """

    scenario: type[Scenario[Any]]
    parameters: Any
    numbers: range
    seed: int
    modules: tuple[str, ...] = ()
    window: bool = False
    core: int | None = None


def layout(scenario: type[Scenario[Any]], spec: Spec, num_envs: int) -> dict[str, tuple[tuple[int, ...], type[Any]]]:
    """Shape and type of every shared array: E environments, M entities, N agents, D features, A actions."""
    agents = (num_envs, spec.num_agents)
    observation = (*agents, *spec.observation_space.shape)
    action = (*agents, *(spec.action_space.shape or ()))
    fields: dict[str, tuple[tuple[int, ...], type[Any]]] = {
        "actions": (action, np.float64 if spec.action_space.shape else np.int64),
        "obs": (observation, np.float32),
        "final_obs": (observation, np.float32),
        "reward": (agents, np.float32),
        "terminated": ((num_envs,), np.bool_),
        "truncated": ((num_envs,), np.bool_),
        "ended_by": (agents, np.bool_),
    }
    fields |= dict.fromkeys(scenario.commands, (agents, np.float64))
    fields |= dict.fromkeys(scenario.flags, ((num_envs,), np.bool_))
    entities = (num_envs, spec.num_entities)
    fields |= {f"entities.{name}": (entities, np.float64) for name in spec.state_names}
    return fields | {f"first_state.{name}": (agents, np.float64) for name in spec.state_names}


def views(memory: Any, scenario: type[Scenario[Any]], spec: Spec, num_envs: int) -> Fields:
    """The shared arrays, laid out one behind the other in ``memory``."""
    fields: Fields = {}
    offset = 0
    for name, (shape, dtype) in layout(scenario, spec, num_envs).items():
        fields[name] = np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)
        offset += _padded(fields[name].nbytes)
    return fields


def memory_size(scenario: type[Scenario[Any]], spec: Spec, num_envs: int) -> int:
    """Bytes that ``views`` needs."""
    arrays = layout(scenario, spec, num_envs).values()
    return sum(_padded(int(np.prod(shape)) * np.dtype(dtype).itemsize) for shape, dtype in arrays)


def _padded(size: int) -> int:
    """Whole cache lines, so that two fields never share one."""
    return -(-size // 64) * 64


AWAKE_SECONDS = 1e-3  # after an answer
LENT_SECONDS = 5e-5  # away from the core, it was not waiting but waited for
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def run(connection: Connection, memory: Any, num_envs: int, task: WorkerTask, parent: int | None) -> None:
    """Obey commands until told to close or until the other end of the pipe is gone.

    Args:
        connection: for commands and answers.
        memory: shared, with all environments' arrays.
        num_envs: E, of all workers.
        task: the share of this worker.
        parent: the process that must not be outlived, not even by a simulation that hangs.
    """
    if parent is not None:
        _end_with(parent)
    if task.core is not None:
        with suppress(OSError):  # where it may not be chosen, or is not there any more, any will do
            os.sched_setaffinity(0, {task.core})
    mine = slice(task.numbers.start, task.numbers.stop)
    try:
        plugins.load(task.modules)
        if task.window:
            task.scenario.open_window()
        shared = views(memory, task.scenario, task.scenario.spec(task.parameters), num_envs)
        fields = {name: rows[mine] for name, rows in shared.items()}
        with tempfile.TemporaryDirectory(prefix="dmpo-simulation-") as folder:
            scenario = task.scenario(task.parameters, task.numbers, task.seed, Path(folder))
    except Exception as error:
        connection.send(_failure(error))
        return
    connection.send(None)
    asked = select.poll()
    asked.register(connection, select.POLLIN)
    try:
        while _obey(connection, scenario, fields):
            stay_awake(asked, AWAKE_SECONDS)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        # The environment's process is gone or going: nobody is left to answer.
        pass
    finally:
        scenario.close()


def _end_with(parent: int) -> None:
    """See to it that the kernel kills this process when its parent has gone; without Linux, the pipe must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went before the kernel knew
            os._exit(1)


def stay_awake(awaited: select.poll, seconds: float) -> None:
    """Wait a while for a command, or an answer, without sleeping, unless somebody else wants this core.

    A core that has nothing to do goes to sleep, or to another tenant of the machine, and comes back slowly and with an
    empty cache: that takes about as long as a policy takes to act.
    """
    now = perf_counter()
    end = now + seconds
    while now < end and not awaited.poll(0):
        os.sched_yield()
        before, now = now, perf_counter()
        if now - before > LENT_SECONDS:
            break


def _obey(connection: Connection, scenario: Scenario[Any], fields: Fields) -> bool:
    """Carry out one command and answer it; false after the last."""
    command, argument = connection.recv()
    try:
        answer = _commands[command](scenario, fields, argument) if command in _commands else None
    except Exception as error:
        answer = _failure(error)
    connection.send(answer)
    if command in _ADVANCING:
        with suppress(Exception):  # the next step does it again, and reports why
            scenario.prepare()
    return bool(command != "close")


def _failure(error: Exception) -> Exception:
    """A refusal or a failed simulation: errors that the environment's process can read without loading SUMO."""
    if isinstance(error, ValueError | SimulationError):
        return error
    failure = SimulationError(f"the simulation failed: {type(error).__name__}: {error}")
    failure.add_note(traceback.format_exc())
    return failure


def _step(scenario: Scenario[Any], fields: Fields, name_and_watch: tuple[str, str | None]) -> list[Any] | None:
    """One step under actions or another command, and new episodes where one ended; answers the query watched."""
    name, watch = name_and_watch
    if name == "actions":
        scenario.step(fields["actions"])
    else:
        scenario.step_by(name, fields[name])
    watched = _query(scenario, fields, watch) if watch else None
    ended = np.flatnonzero(scenario.terminated | scenario.truncated)
    fields["reward"][:] = scenario.reward
    for flag in ("terminated", "truncated", "ended_by", *scenario.flags):
        fields[flag][:] = getattr(scenario, flag)
    _report_entities(scenario, fields)
    if len(ended):
        fields["final_obs"][ended] = scenario.observe_agents()[ended]
        for env in ended.tolist():
            scenario.begin(env)
        _report_first_state(scenario, fields, ended)
    fields["obs"][:] = scenario.observe_agents()
    return watched


def _report(scenario: Scenario[Any], fields: Fields) -> None:
    """Write observations and states at the beginning of an episode."""
    fields["obs"][:] = scenario.observe_agents()
    _report_entities(scenario, fields)
    _report_first_state(scenario, fields, slice(None))


def _report_entities(scenario: Scenario[Any], fields: Fields) -> None:
    for name, rows in scenario.reported_state().items():
        fields[f"entities.{name}"][:] = rows


def _report_first_state(scenario: Scenario[Any], fields: Fields, envs: Any) -> None:
    for name, rows in scenario.reported_state().items():
        fields[f"first_state.{name}"][envs] = scenario.of_agents(rows)[envs]


def _reset(scenario: Scenario[Any], fields: Fields, seed_and_start: tuple[int | None, State | None]) -> None:
    seed, start = seed_and_start
    if seed is not None:
        scenario.seed(seed)
    scenario.reset(start)
    _report(scenario, fields)


def _query(scenario: Scenario[Any], fields: Fields, name: str) -> list[Any]:
    queries = scenario.queries()
    check_names("query", [name], queries)
    return [queries[name](env) for env in range(scenario.num_envs)]


def _get_state(scenario: Scenario[Any], fields: Fields, _: None) -> dict[str, NDArray[Any]]:
    return scenario.get_state()


def _set_state(scenario: Scenario[Any], fields: Fields, state: State) -> None:
    scenario.set_state(state)
    _report(scenario, fields)


_commands: Mapping[str, Callable[[Scenario[Any], Fields, Any], Any]] = {
    "step": _step,
    "reset": _reset,
    "query": _query,
    "get_state": _get_state,
    "set_state": _set_state,
}
#: After these the environment's process chooses the next actions, and this one has time.
_ADVANCING = ("step", "reset")
