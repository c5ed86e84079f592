"""E environments side by side, simulated by SUMO in worker processes and seen through shared arrays."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.scenario import Scenario
from envs.simulation import STEP_SECONDS, SimulationError
from envs.worker import Fields, Job, memory_size, run, views

#: Seconds after which a worker that has not answered counts as hung.
ANSWER_SECONDS = 60.0
_MAX_RESTARTS_IN_A_ROW = 3
_context = multiprocessing.get_context("spawn")
_log = logging.getLogger(__name__)


class Worker:
    """One worker process as its environment sees it: started, spoken to, and started again if it dies or hangs."""

    def __init__(self, job: Job, memory: Any, num_envs: int) -> None:
        self.job, self._memory, self._num_envs = job, memory, num_envs
        self.restarts = 0
        self._launch(job)

    def _launch(self, job: Job) -> None:
        self.connection, theirs = _context.Pipe()
        arguments = (theirs, self._memory, self._num_envs, job)
        self.process = _context.Process(target=run, args=arguments, daemon=True, name=f"sumo-{job.numbers.start}")
        self.process.start()
        theirs.close()

    @property
    def rows(self) -> slice:
        """Its environments among all."""
        return slice(self.job.numbers.start, self.job.numbers.stop)

    def restart(self) -> None:
        """Replace a dead or hung process by a new one, with random streams of their own."""
        self.kill()
        self.restarts += 1
        seed = int(np.random.SeedSequence([self.job.seed, self.restarts]).generate_state(1)[0])
        self._launch(Job(self.job.scenario, self.job.parameters, self.job.numbers, seed))

    def kill(self) -> None:
        """End the process without asking it."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def ask(self, command: str, argument: Any = None) -> None:
        """Send a command; a broken pipe is noticed by ``answer``."""
        try:
            self.connection.send((command, argument))
        except (BrokenPipeError, ConnectionResetError):
            _log.debug("worker %s does not take commands", self.process.name)

    def answer(self) -> Any:
        """Wait for the answer to the last command.

        Raises:
            SimulationError: the worker died or hung.
            ValueError: the worker refused what it was given.
        """
        answer = _receive(self.connection, self.process.name)
        if isinstance(answer, Exception):
            raise answer
        return answer


class VectorEnv:
    """E environments of one scenario behind Gymnasium's vector interface, with N agents each.

    Episodes restart in the step that ends them (``AutoresetMode.SAME_STEP``). All arrays that ``reset`` and ``step``
    return are views of shared memory, which the next call overwrites: copy what is to last.

    Args:
        scenario: the scenario's class.
        parameters: an instance of its ``Parameters``.
        num_envs: E.
        workers: SUMO processes that share the environments.
        seed: fixes every episode, however the environments are split over workers.

    Raises:
        ValueError: no environment, or more workers than environments.
        SimulationError: SUMO did not start.
    """

    def __init__(
        self, scenario: type[Scenario[Any]], parameters: Any, num_envs: int = 16, workers: int = 1, seed: int = 0
    ) -> None:
        if not 1 <= workers <= num_envs:
            raise ValueError(
                f"workers = {workers} must lie between 1 and num_envs = {num_envs}: every worker needs an environment"
            )
        self.spec = scenario.spec(parameters)
        self.num_envs, self.num_agents, self.graph = num_envs, self.spec.num_agents, self.spec.graph
        self.observation_space, self.action_space = self.spec.observation_space, self.spec.action_space
        self.reference_starts = self.spec.reference_starts
        self.horizon, self.action_repeat = parameters.horizon, parameters.action_repeat
        self.step_seconds = STEP_SECONDS
        self.restarts = 0
        memory = _context.RawArray(ctypes.c_byte, memory_size(self.spec, num_envs))
        self._fields: Fields = views(memory, self.spec, num_envs)
        self._state = {name: self._fields[f"state.{name}"] for name in self.spec.state_names}
        bounds = np.linspace(0, num_envs, workers + 1).astype(int).tolist()
        jobs = [Job(scenario, parameters, range(a, b), seed) for a, b in zip(bounds, bounds[1:], strict=False)]
        self._workers = [Worker(job, memory, num_envs) for job in jobs]
        try:
            for worker in self._workers:
                worker.answer()
        except BaseException:
            self.close()
            raise

    def reset(
        self, seed: int | None = None, options: Mapping[str, Mapping[str, ArrayLike]] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin a new episode in every environment.

        Args:
            seed: starts all random streams anew; None goes on with them.
            options: ``{"state": {…}}`` starts every environment exactly there. Loops: ``edge`` (names), ``offset`` (m),
                ``speed`` (m/s); platoon: ``headway`` (m), ``speed``, ``leader_speed`` (T+1 values). Arrays (N,), the
                same for all, or (E, N).

        Returns:
            Observations (E, N, D), and ``info`` with ``state``.

        Raises:
            ValueError: a start state of the wrong form.
        """
        start = None if options is None else self._start_state(options)
        for worker in self._workers:
            rows = None if start is None else {name: values[worker.rows] for name, values in start.items()}
            worker.ask("reset", (seed, rows))
        self._answers()
        return self._fields["obs"], {"state": self._state}

    def step(
        self, actions: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Drive all environments for ``action_repeat`` simulated steps.

        Args:
            actions: (E, N, A) accelerations in m/s², clipped to the action space, or (E, N) action numbers.

        Returns:
            Observations (E, N, D), rewards (E, N), terminated (E,), truncated (E,), and ``info`` with ``final_obs``
            (E, N, D; valid where an episode ended), ``state`` (of the ended episode where one ended), ``collision``
            (E,) and ``restarts``, the number of workers that had to be replaced so far.

        Raises:
            ValueError: actions of the wrong shape, outside the action numbers, or not finite.
            SimulationError: a worker fails again and again.
        """
        self._fields["actions"][:] = self._checked(np.asarray(actions))
        for worker in self._workers:
            worker.ask("step")
        for worker in self._workers:
            self._step_answer(worker)
        fields = self._fields
        info = {
            "final_obs": fields["final_obs"],
            "state": self._state,
            "collision": fields["collision"],
            "restarts": self.restarts,
        }
        return fields["obs"], fields["reward"], fields["terminated"], fields["truncated"], info

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything needed to go on exactly, as arrays (E, …); see ``set_state``."""
        for worker in self._workers:
            worker.ask("get_state")
        states = self._answers()
        return {name: np.concatenate([state[name] for state in states]) for name in states[0]}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Go on from what ``get_state`` gave, bit for bit, under any number of workers; returns observations."""
        for worker in self._workers:
            worker.ask("set_state", {name: rows[worker.rows] for name, rows in state.items()})
        self._answers()
        return self._fields["obs"]

    def close(self) -> None:
        """End all worker processes."""
        for worker in self._workers:
            if worker.process.is_alive():
                worker.ask("close")
        for worker in self._workers:
            worker.process.join(timeout=5.0)
            worker.kill()
        self._workers = []

    def _answers(self) -> list[Any]:
        # All answers are taken before an error is raised: one left in a pipe would answer the next question.
        answers = [_receive(worker.connection, worker.process.name) for worker in self._workers]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _step_answer(self, worker: Worker) -> None:
        for _ in range(_MAX_RESTARTS_IN_A_ROW):
            try:
                worker.answer()
                return
            except SimulationError as error:
                _log.warning("%s; its episodes are cut off and it is started again", error)
                self._replace(worker)
        worker.answer()

    def _replace(self, worker: Worker) -> None:
        """Start a worker again; the episodes it had are truncated where they were last seen."""
        self.restarts += 1
        last_seen = self._fields["obs"][worker.rows].copy()
        worker.restart()
        worker.answer()
        worker.ask("reset", (None, None))
        for name, value in (("reward", 0.0), ("terminated", False), ("truncated", True), ("collision", False)):
            self._fields[name][worker.rows] = value
        self._fields["final_obs"][worker.rows] = last_seen

    def _checked(self, actions: NDArray[Any]) -> NDArray[Any]:
        expected = self._fields["actions"].shape
        if actions.shape != expected:
            letters = "(E, N, A)" if len(expected) == 3 else "(E, N)"
            raise ValueError(f"actions have shape {actions.shape}; {letters} = {expected} is needed")
        if not np.isfinite(actions).all():
            env, agent = np.argwhere(~np.isfinite(actions))[0][:2]
            raise ValueError(f"the action of agent {agent} in environment {env} is not a finite number")
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            count = int(self.action_space.n)
            outside = actions[(actions < 0) | (actions >= count)]
            if outside.size:
                raise ValueError(f"action numbers must lie between 0 and {count - 1}; there is a {outside[0]}")
        return actions

    def _start_state(self, options: Mapping[str, Mapping[str, ArrayLike]]) -> dict[str, NDArray[Any]]:
        if set(options) != {"state"}:
            raise ValueError(f"options hold {sorted(options)}; only 'state' is known")
        start = {}
        for name, values in options["state"].items():
            array = np.asarray(values)
            start[name] = np.broadcast_to(array, (self.num_envs, array.shape[-1]))
        return start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _receive(connection: Connection, name: str) -> Any:
    try:
        if not connection.poll(ANSWER_SECONDS):
            raise SimulationError(f"SUMO worker {name} has not answered for {ANSWER_SECONDS:g} s")
        return connection.recv()
    except (EOFError, ConnectionResetError, OSError) as error:
        raise SimulationError(f"SUMO worker {name} died") from error


def worker_processes(env: VectorEnv) -> Sequence[int]:
    """Process numbers of the workers of an environment."""
    return [worker.process.pid for worker in env._workers if worker.process.pid is not None]
