"""Training loop of every learner: collect → fit → improve (DMPO paper, Algorithm 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from dmpo.collector import Collector
from dmpo.environment import Environment
from dmpo.errors import TrainingError
from dmpo.learner import Learner


class Trainer:
    """Trains a learner in an environment until it has simulated so many steps.

    Args:
        env: the environment.
        learner: that learns.
        total_env_steps: simulated steps, summed over environments; the last iteration may pass it.
        seed: of the environment's episodes.
        update_threads: threads of PyTorch while the learner fits and improves and the environment's processes wait;
            None leaves them as they are.
    """

    def __init__(
        self,
        env: Environment,
        learner: Learner,
        total_env_steps: int,
        seed: int = 0,
        update_threads: int | None = None,
    ) -> None:
        self.env, self.learner, self.total_env_steps = env, learner, total_env_steps
        self.update_threads = update_threads
        self.collector = Collector(env, learner, seed)
        self.env_steps = 0
        self.iteration = 0

    def iterations(self) -> Iterator[dict[str, float]]:
        """Train, yielding the metrics of one iteration at a time; between two of them everything may be saved."""
        while self.env_steps < self.total_env_steps:
            try:
                yield self._iterate()
            except TrainingError as error:
                raise error.at(self.env_steps) from None

    def _iterate(self) -> dict[str, float]:
        start = perf_counter()
        progress = self.env_steps / self.total_env_steps
        batch, metrics = self.collector.collect()
        collected = perf_counter()
        with _torch_threads(self.update_threads):
            metrics |= self.learner.fit(batch, progress)
            metrics |= self.learner.improve(batch, progress)
        end = perf_counter()
        steps = int(batch.taken.sum()) * self.env.action_repeat
        self.env_steps += steps
        self.iteration += 1
        return {
            "env_steps": float(self.env_steps),
            "iteration": float(self.iteration),
            **metrics,
            "time/update_seconds": end - collected,
            "time/env_steps_per_second": steps / (end - start),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact continuation needs, as plain dicts of tensors, numbers, strings and lists.

        An environment may re-place its vehicles when asked for its state, so asking is part of the course of a run: two
        runs are equal if they were asked at the same steps.
        """
        return {
            "env_steps": self.env_steps,
            "iteration": self.iteration,
            "learner": self.learner.state_dict(),
            "collector": self.collector.state_dict(),
            "env": {name: _to_tensor(name, array) for name, array in self.env.get_state().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`, in an environment with the same scenario and number of environments."""
        self.env_steps, self.iteration = state["env_steps"], state["iteration"]
        self.learner.load_state_dict(state["learner"])
        self.collector.load_state_dict(state["collector"])
        self.env.set_state({name: tensor.numpy() for name, tensor in state["env"].items()})


@contextmanager
def _torch_threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _to_tensor(name: str, array: Any) -> torch.Tensor:
    try:
        return torch.tensor(array)
    except TypeError as error:
        kind = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"env.get_state()[{name!r}] holds {kind}, only numbers and booleans can be kept.") from error
