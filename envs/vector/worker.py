"""Handle of a worker process in the environment's process: start, requests, answers, restart."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import select
import signal
import threading
from dataclasses import replace
from typing import Any

import numpy as np

from envs.types import SimulationError
from envs.vector.worker_process import WorkerTask, run, stay_awake

AWAITING_SECONDS = 3e-3  # awake, after a command: a step of some dozens of environments
_PARTS = 20  # in which an answer is waited for
# The commonest causes; Python prints what happened, but in the worker's words.
_AT_ITS_START = (
    ' at its start; it has printed why. A script that makes environments does so under `if __name__ == "__main__":`, '
    "and registers its own scenarios above that line"
)
_context = multiprocessing.get_context("spawn")
_log = logging.getLogger(__name__)


def shared_memory(size: int) -> Any:
    """Bytes that a worker's process shares with the one that starts it."""
    return _context.RawArray(ctypes.c_byte, size)


def cores(workers: int) -> list[int | None]:
    """The core that each worker stays on, where all cores have equally many; elsewhere None, whichever is free.

    Workers that step together and wait for each other are moved by the kernel from core to core, away from what they
    have in its cache. With equally many on every core it stays so when several runs do the same.
    """
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(own) < 2 or workers % len(own):
        return [None] * workers
    return [own[worker % len(own)] for worker in range(workers)]


class Worker:
    """One worker process as its environment sees it, started again if it dies or hangs.

    Attributes:
        worker_timeout: how long it may take to answer before it counts as hung.
        failures: how often in a row it died or hung.
        cut_off: whether episodes were lost with its last process, which the next step has to report.
    """

    def __init__(self, task: WorkerTask, memory: Any, num_envs: int, worker_timeout: float) -> None:
        self.task, self._memory, self._num_envs, self.worker_timeout = task, memory, num_envs, worker_timeout
        self._launches = self.failures = 0
        self.cut_off = self._begun = False
        self._launch(task.seed)

    def _launch(self, seed: int) -> None:
        self._launches += 1
        self._connection, theirs = _context.Pipe()
        self._ready = select.poll()
        self._ready.register(self._connection, select.POLLIN)
        # The kernel takes the end of the thread that starts a process for the end of its parent.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else None
        arguments = (theirs, self._memory, self._num_envs, replace(self.task, seed=seed), parent)
        name = f"worker-{self.task.numbers.start}"
        self.process = _context.Process(target=run, args=arguments, daemon=True, name=name)
        # Ctrl-C reaches every process of a terminal: this one decides what becomes of the workers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    @property
    def rows(self) -> slice:
        """Its environments among all."""
        return slice(self.task.numbers.start, self.task.numbers.stop)

    def restart(self) -> None:
        """Replace a dead or hung process by a new one, which begins new episodes with random streams of its own."""
        self.kill()
        self._launch(int(np.random.SeedSequence([self.task.seed, self._launches]).generate_state(1)[0]))
        self.answer()
        self.ask("reset", (None, None))
        self.answer()

    def kill(self) -> None:
        """End the process without asking it."""
        self.process.kill()
        self.process.join()
        self._connection.close()

    def ask(self, command: str, argument: Any = None) -> None:
        """Send a command; a broken pipe is noticed by ``answer``."""
        try:
            self._connection.send((command, argument))
        except OSError:
            _log.debug("worker %s does not take commands", self.process.name)

    def answer(self) -> Any:
        """Wait for the answer to the last command, or to the start.

        Raises:
            SimulationError: the worker died or hung.
            ValueError: the worker refused what it was given.
        """
        try:
            if not self._wait():
                raise SimulationError(
                    f"{self.process.name} has not answered for worker_timeout = {self.worker_timeout:g}"
                )
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise SimulationError(f"{self.process.name} died{'' if self._begun else _AT_ITS_START}") from error
        self._begun = True
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wait(self) -> bool:
        # In parts: where all processes were stopped (Ctrl-Z) and go on, one part has passed and not all of the time.
        # A poll object; the connection's own poll() makes a new selector for each of some thousand calls a second.
        stay_awake(self._ready, AWAITING_SECONDS)
        part = 1000.0 * self.worker_timeout / _PARTS
        return any(self._ready.poll(part) for _ in range(_PARTS))
