"""Exit status and message of commands that are interrupted or fail."""

import signal
import sys

from experiments.errors import RunError


class StoppedError(Exception):
    """Interruption by Ctrl-C or SIGTERM; the message says how to continue."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Terminated(KeyboardInterrupt):
    """Interruption by SIGTERM, which must close the simulations as Ctrl-C does."""


def interrupt_status(error: KeyboardInterrupt) -> int:
    """Exit status of a command that was interrupted."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def is_failure(error: Exception) -> bool:
    """Whether an error is a failure of the run or machine rather than a fault of the program."""
    # Modules that are not loaded raised nothing.
    names = {"dmpo": ("TrainingError", "EvaluationError", "CheckpointError"), "envs": ("SimulationError",)}
    loaded = [getattr(sys.modules[module], name) for module in names if module in sys.modules for name in names[module]]
    return isinstance(error, (RunError, OSError, *loaded)) or _is_out_of_memory(error)


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch has a kind of its own for a GPU's memory only. A RunError has been put in words already.
    words = ("not enough memory", "can't allocate memory", "out of memory")
    general = isinstance(error, RuntimeError) and not isinstance(error, RunError)
    return isinstance(error, MemoryError) or (general and any(part in str(error) for part in words))


def failure_message(error: Exception) -> str:
    """Message of a failure."""
    if _is_out_of_memory(error):
        details = f" ({str(error).splitlines()[0]})" if str(error) else ""
        return f"out of memory{details}: take fewer or smaller environments, networks or batches"
    return str(error) or type(error).__name__
