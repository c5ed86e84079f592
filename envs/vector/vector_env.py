"""E environments of any scenario side by side, simulated in worker processes and seen through shared arrays."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs import plugins
from envs.meter import Meter
from envs.scenario import Scenario
from envs.selection import selection
from envs.starts import start_rows
from envs.types import Floats, SimulationError
from envs.vector.actions import checked, checked_actions
from envs.vector.worker import Worker, cores, shared_memory
from envs.vector.worker_process import Fields, WorkerTask, memory_size, views
from graphs.spelling import check_names

#: Seconds after which a worker that has not answered counts as hung, unless another number is given.
WORKER_TIMEOUT = 60.0
_MAX_FAILURES_IN_A_ROW = 3
_log = logging.getLogger(__name__)
_Request = tuple[str, Any]  # a command and its argument
_Step = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class VectorEnv:
    """E environments of one scenario behind Gymnasium's vector interface, with N agents each.

    Episodes restart in the step that ends them (``AutoresetMode.SAME_STEP``). All arrays that ``reset`` and ``step``
    return are views of shared memory, which the next call overwrites: copy what is to last.

    Args:
        scenario: the scenario's class.
        parameters: an instance of its ``Parameters``.
        num_envs: E.
        workers: processes that share the environments; one for each environment where the scenario needs that.
        seed: fixes every episode, however the environments are split over workers.
        worker_timeout: how long a worker may take to start, or to answer, before it counts as hung and is replaced.
        window: whether the simulator shows what happens in a window of its own, at the speed of real time.
        watch: one of the scenario's queries, whose answers ``info`` then holds as well; see ``query``.

    Raises:
        ValueError: no environment, more workers than environments, or a query that the scenario does not have.
        SimulationError: the simulator did not start.
    """

    def __init__(
        self,
        scenario: type[Scenario[Any]],
        parameters: Any,
        num_envs: int = 16,
        workers: int = 1,
        seed: int = 0,
        worker_timeout: float = WORKER_TIMEOUT,
        *,
        window: bool = False,
        watch: str | None = None,
    ) -> None:
        if not 1 <= workers <= num_envs:
            raise ValueError(
                f"workers = {workers} must lie between 1 and num_envs = {num_envs}: every worker needs an environment"
            )
        workers = num_envs if scenario.one_env_a_process else workers
        self._describe(scenario, parameters, num_envs)
        self.restarts, self._watch = 0, watch
        self._lost = np.zeros(num_envs, dtype=np.bool_)
        memory = shared_memory(memory_size(scenario, self.spec, num_envs))
        self._fields: Fields = views(memory, scenario, self.spec, num_envs)
        self._entities, self._first_state = (
            {name: self._fields[f"{which}.{name}"] for name in self.spec.state_names}
            for which in ("entities", "first_state")
        )
        self._agents = selection(np.array(self.spec.places))
        self._begun = False
        shares = _shares(num_envs, workers)
        tasks = [
            WorkerTask(scenario, parameters, share, seed, plugins.modules(), window, None if window else core)
            for share, core in zip(shares, cores(workers), strict=True)
        ]
        self._workers = [Worker(task, memory, num_envs, worker_timeout) for task in tasks]
        try:
            for worker in self._workers:
                worker.answer()
        except BaseException:
            self.close()
            raise

    def _describe(self, scenario: type[Scenario[Any]], parameters: Any, num_envs: int) -> None:
        self.spec = scenario.spec(parameters)
        self.scenario = scenario
        self.num_envs, self.num_agents, self.graph = num_envs, self.spec.num_agents, self.spec.graph
        self.observation_space, self.action_space = self.spec.observation_space, self.spec.action_space
        self.reference_starts = self.spec.reference_starts
        self.horizon, self.action_repeat = parameters.horizon, parameters.action_repeat
        self.step_seconds, self.undriven_reward = self.spec.step_seconds, scenario.undriven_reward

    def reset(
        self, seed: int | None = None, options: Mapping[str, Mapping[str, ArrayLike]] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin a new episode in every environment.

        Args:
            seed: starts all random streams anew; None goes on with them.
            options: ``{"state": {…}}`` starts every environment exactly there. Loops: ``edge`` (names), ``offset`` (m),
                ``speed`` (m/s); platoon: ``headway`` (m), ``speed``, ``leader_speed`` (T+1 values). Arrays (M,), of all
                vehicles, or (E, M).

        Returns:
            Observations (E, N, D), and ``info`` with the ``state`` of the agents and of all entities.

        Raises:
            ValueError: a start state of the wrong form.
        """
        start = self._start(options or {})
        self._exchange(
            ("reset", (seed, None if start is None else {name: rows[worker.rows] for name, rows in start.items()}))
            for worker in self._workers
        )
        self._whole()
        info: dict[str, Any] = {"state": self._state(), self.scenario.entities: self._entities}
        return self._fields["obs"], info | ({self._watch: self.query(self._watch)} if self._watch else {})

    def step(self, actions: ArrayLike) -> _Step:
        """Advance all environments by ``action_repeat`` simulated steps.

        Args:
            actions: (E, N, A) in physical units, clipped to the action space, or (E, N) action numbers.

        Returns:
            Observations (E, N, D), rewards (E, N), terminated (E,), truncated (E,), and ``info`` with ``final_obs``
            (E, N, D; valid where an episode ended), ``state`` (E, N; of the ended episode where one ended), the same of
            all entities under the scenario's name for them (E, M; ``traffic`` on roads), ``first_state`` (E, N; of the
            next; valid where one ended), ``ended_by`` (E, N; agents whose own state ended the episode, such as those
            that collided, and nobody where time was up or the episode was lost), the scenario's flags (E,) such as
            ``collision``, ``lost`` (E,; its worker died or hung, the state is the next episode's), and ``restarts`` of
            workers.

        Raises:
            ValueError: actions of the wrong shape or kind, outside the action numbers, or not finite.
            SimulationError: a worker fails again and again.
        """
        self._fields["actions"][:] = checked_actions(actions, self._fields["actions"].shape, self.action_space)
        return self._advance("actions")

    def step_by(self, name: str, commands: ArrayLike) -> _Step:
        """Advance all environments by one simulated step under other commands than actions, such as accelerations.

        So a classical controller drives vehicles whose learners choose among gains, or decide less often.

        Args:
            name: one of the scenario's ``commands``; on roads ``accelerations``, in m/s², clipped to what the vehicles
                can do.
            commands: (E, N).

        Returns:
            As ``step``.

        Raises:
            ValueError: no such command, another shape, or not finite.
            SimulationError: a worker fails again and again.
        """
        check_names("command", [name], self.scenario.commands)
        self._fields[name][:] = checked(commands, self._fields[name].shape, name)
        return self._advance(name)

    def _advance(self, name: str) -> _Step:
        if not self._begun:
            raise gymnasium.error.ResetNeeded("the first step needs a reset() or set_state() before it")
        # A worker that lost its episodes since the last step has new ones, which this step shows from their beginning.
        answers = self._exchange(
            ("reset", (None, None)) if worker.cut_off else ("step", (name, self._watch)) for worker in self._workers
        )
        self._report_cut_off()
        fields = self._fields
        info = {
            "final_obs": fields["final_obs"],
            "state": self._state(),
            self.scenario.entities: self._entities,
            "first_state": self._first_state,
            "ended_by": fields["ended_by"],
            **{flag: fields[flag] for flag in self.scenario.flags},
            "lost": self._lost,
            "restarts": self.restarts,
        }
        if self._watch:
            # An answer is missing where a worker failed, and its episodes with it.
            complete = all(answers)
            info[self._watch] = [seen for answer in answers for seen in answer] if complete else self.query(self._watch)
        return fields["obs"], fields["reward"], fields["terminated"], fields["truncated"], info

    def _state(self) -> dict[str, Floats]:
        """State of the agents, (E, N)."""
        return {name: rows[:, self._agents] for name, rows in self._entities.items()}

    def query(self, name: str) -> list[Any]:
        """Answers of each environment to one of the scenario's queries; on roads ``vehicles`` and ``roads``.

        Raises:
            ValueError: the scenario has no such query.
        """
        return [found for answer in self._exchange(("query", name) for _ in self._workers) for found in answer]

    def meter(self, seconds: float | None = None) -> Meter:
        """Meter of what the scenario measures in an evaluation.

        Args:
            seconds: from one step to the next; those of an action if left out.
        """
        seconds = self.step_seconds * self.action_repeat if seconds is None else seconds
        return self.scenario.meter(seconds, round(self.horizon * self.step_seconds / seconds))

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything needed to go on exactly, as arrays (E, …); see ``set_state``."""
        states = self._exchange(("get_state", None) for _ in self._workers)
        return {name: np.concatenate([state[name] for state in states]) for name in states[0]}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Go on from what ``get_state`` gave, bit for bit, under any number of workers; returns observations (E, N, D).

        Raises:
            ValueError: the state is that of other environments.
        """
        for name, rows in state.items():
            if len(rows) != self.num_envs:
                raise ValueError(f"the state holds {name} of {len(rows)} environments; here there are {self.num_envs}")
        self._exchange(
            ("set_state", {name: rows[worker.rows] for name, rows in state.items()}) for worker in self._workers
        )
        self._whole()
        return self._fields["obs"]

    def close(self) -> None:
        """End all worker processes."""
        for worker in self._workers:
            worker.ask("close")
        for worker in self._workers:
            worker.process.join(timeout=5.0)
            worker.kill()
        self._workers = []

    def _exchange(self, requests: Iterable[_Request]) -> list[Any]:
        """Send one request to each worker and wait for all answers.

        All answers are taken before an error is raised: one left in a pipe would answer the next request.
        """
        if not self._workers:
            raise gymnasium.error.ClosedEnvironmentError("this environment is closed; make a new one")
        sent = list(zip(self._workers, requests, strict=True))
        for worker, request in sent:
            worker.ask(*request)
        answers, failure = [], None
        for worker, request in sent:
            try:
                answers.append(self._answer(worker, *request))
            except (SimulationError, ValueError) as error:
                failure = error
        if failure is not None:
            raise failure
        return answers

    def _answer(self, worker: Worker, command: str, argument: Any) -> Any:
        """Wait for an answer; a worker that dies or hangs is started again, and asked again for all but a step."""
        while True:
            try:
                answer = worker.answer()
            except SimulationError as error:
                self._recover(worker, error)
                if command == "step":
                    return None
                worker.ask(command, argument)
            else:
                worker.failures = 0
                return answer

    def _recover(self, worker: Worker, error: SimulationError) -> None:
        """Start a worker again; the episodes it had end where they were last seen."""
        if worker.task.window:
            raise error  # somebody may have closed the window, and wants no other
        if not worker.cut_off:
            self._fields["final_obs"][worker.rows] = self._fields["obs"][worker.rows]
            worker.cut_off = True
        while worker.failures < _MAX_FAILURES_IN_A_ROW:
            worker.failures += 1
            self.restarts += 1
            _log.warning("%s; its episodes are cut off and it is started again", error)
            try:
                worker.restart()
            except SimulationError as again:
                error = again
            else:
                return
        raise SimulationError(f"{error}; it was started again {worker.failures} times in a row") from error

    def _report_cut_off(self) -> None:
        self._lost[:] = False
        for worker in self._workers:
            if worker.cut_off:
                self._lost[worker.rows] = True
                outcome = {"reward": 0.0, "terminated": False, "truncated": True, "ended_by": False}
                outcome |= dict.fromkeys(self.scenario.flags, False)
                for name, value in outcome.items():
                    self._fields[name][worker.rows] = value
                worker.cut_off = False

    def _whole(self) -> None:
        """All environments are where they were asked to be: no lost episode is left to report."""
        self._begun = True
        for worker in self._workers:
            worker.cut_off = False

    def _start(self, options: Mapping[str, Mapping[str, ArrayLike]]) -> dict[str, NDArray[Any]] | None:
        """The start state among the options of ``reset``, a row an environment; None where there is none."""
        check_names("option", options, ["state"])
        if not options:
            return None
        return start_rows(options["state"], self.spec.start, self.num_envs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shares(num_envs: int, workers: int) -> list[range]:
    """Numbers of the environments of each worker, equal to within one."""
    bounds = [num_envs * worker // workers for worker in range(workers + 1)]
    return [range(a, b) for a, b in itertools.pairwise(bounds)]
