"""Mechanisms whose only reason is speed, and what switches each of them off.

A switch replaces names in modules, in this process and, through an environment variable, in the simulations' processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

_VARIABLE = "DMPO_BENCHMARK_SWITCHES"
_HUGE = 2**40


@dataclass(frozen=True)
class Change:
    """Another value for a name in a module.

    Attributes:
        module: its dotted name.
        name: in it.
        value: that takes the place of the one there.
    """

    module: str
    name: str
    value: Any

    def apply(self) -> None:
        """Make it, for as long as the process lives.

        Raises:
            AttributeError: the module has no such name.
        """
        module = import_module(self.module)
        getattr(module, self.name)
        setattr(module, self.name, self.value)


def _never(*_: Any) -> bool:
    return False


def _adam_in_pytorch(*arguments: Any, **settings: float) -> None:
    import_module("dmpo.nn.torch_functions").adam_step(*arguments, **settings)


#: By name, what has to be replaced to do without a mechanism.
SWITCHES: dict[str, tuple[Change, ...]] = {
    "kernels": (Change("dmpo.nn.kernels.calls", "_max_level", 0),),
    "Adam kernel": (Change("dmpo.nn.functional", "adam_step", _adam_in_pytorch),),
    "model kernel": (Change("dmpo.models.loss", "can_fuse_model_gradients", _never),),
    "fused losses": (Change("dmpo.nn.functional", "can_fuse_loss", _never),),
    "fast products": (Change("dmpo.nn.matmul", "ONEDNN_MULTIPLICATIONS", _HUGE),),
    "chunks of samples": (Change("dmpo.updates.actor_critic", "CHUNK_STATES", _HUGE),),
    "pieces of messages": (Change("dmpo.models.trainer", "CHUNK_MESSAGES", _HUGE),),
    "kept memory": (Change("experiments.runs.threads", "platform", SimpleNamespace(libc_ver=lambda: ("", ""))),),
    "speeds in one call": (Change("envs.sumo.speeds", "_library", lambda: None),),
    "awake workers": (Change("envs.vector.worker_process", "AWAKE_SECONDS", 0.0),),
    "awake main process": (Change("envs.vector.worker", "AWAITING_SECONDS", 0.0),),
    "a core for each worker": (Change("envs.vector.vector_env", "cores", lambda workers: [None] * workers),),
    "preparing ahead": (Change("envs.vector.worker_process", "_ADVANCING", ()),),
}


def switch_off(*names: str) -> None:
    """Do without mechanisms in this process, and in those of simulations that it starts, until it ends."""
    for name in names:
        for change in SWITCHES[name]:
            change.apply()
    if names:
        os.environ[_VARIABLE] = ",".join(names)
        plugins: Any = import_module("envs.plugins")
        plugins.modules = _with_this_one(plugins.modules)


def _with_this_one(modules: Callable[[], tuple[str, ...]]) -> Callable[[], tuple[str, ...]]:
    # A worker imports these modules before it starts a simulation.
    return lambda: (*modules(), __name__)


if _inherited := os.environ.get(_VARIABLE):
    for _name in _inherited.split(","):
        for _change in SWITCHES[_name]:
            _change.apply()
