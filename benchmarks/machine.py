"""Limits of the machine, operations and seconds of a piece of work, and memory of processes."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import ParamSpec, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rows import Options
from dmpo.nn.kernels import calls
from dmpo.nn.matmul import fast_matmul

P = ParamSpec("P")
T = TypeVar("T")
_STATUS = Path("/proc/self/status")


def timed(part: Callable[[], object]) -> float:
    """Seconds of one call, including what it leaves running on a GPU."""
    _finish()
    start = perf_counter()
    part()
    _finish()
    return perf_counter() - start


def flops(part: Callable[[], object]) -> float:
    """Floating-point operations of one call: those of its matrix products, a multiplication and an addition each."""
    # The counter sees operations of PyTorch only.
    with calls.limited(calls.NONE), FlopCounterMode(display=False) as counter:
        part()
    return float(counter.get_total_flops())


def kernels_in_use() -> str:
    """Name of the kernels that compute on this processor: none, avx2, avx512 or avx512_bf16."""
    return calls.LEVELS[calls.level()]


@cache
def product_rate(options: Options, quick: bool = True) -> float:
    """Rate of a large product of two float32 matrices in floating-point operations/s, the fastest of the rounds.

    Args:
        options: of the suite.
        quick: whether it is computed as learners compute large products (`dmpo.nn.matmul`), or by PyTorch's default.
    """
    size = product_size(options)
    a, b = torch.rand(2, size, size, device=options.device)
    out = torch.empty_like(a)
    with fast_matmul(size**3) if quick else nullcontext():
        return 2 * size**3 / min(timed(lambda: torch.mm(a, b, out=out)) for _ in range(options.rounds + 1))


def product_size(options: Options) -> int:
    """Rows and columns of these matrices."""
    return 1_024 if options.quick else 2_048


def seconds(part: Callable[[], float], rounds: int) -> float:
    """Median over rounds, after two that do not count."""
    return median([part() for _ in range(rounds + 2)][2:])


def peak_megabytes() -> float:
    """Peak memory of this process and its living children, added up, in MB.

    On Linux it is the peak of each process alone; elsewhere `getrusage` also counts what the parent held when a process
    was started.
    """
    children = [child.pid for child in multiprocessing.active_children()]
    if _STATUS.exists():
        return sum(_high_water(Path(f"/proc/{pid}/status")) for pid in ("self", *children))
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(who).ru_maxrss for who in usage) / 1e6  # in bytes on macOS


def in_fresh_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Result of a function of this package in a new process, with memory and threads of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def _high_water(status: Path) -> float:
    try:
        lines = status.read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def _finish() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
