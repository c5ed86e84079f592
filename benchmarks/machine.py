"""What the machine can do at best, what work is made of, and what memory it takes."""

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
    """Seconds of one call, what it left running on a GPU included."""
    _finish()
    start = perf_counter()
    part()
    _finish()
    return perf_counter() - start


def flops(part: Callable[[], object]) -> float:
    """Floating-point operations of one call: those of its matrix products, a multiplication and an addition each."""
    # PyTorch counts what it does itself.
    with calls.limited(calls.NONE), FlopCounterMode(display=False) as counter:
        part()
    return float(counter.get_total_flops())


@cache
def product_rate(options: Options, quick: bool = True) -> float:
    """Floating-point operations/s of a large product of two float32 matrices, the fastest of the rounds.

    Args:
        options: of the benchmark.
        quick: whether it is computed as large products of learners are (`dmpo.nn.matmul`), or as PyTorch comes.
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
    """Median of so many times, after two that do not count."""
    return median([part() for _ in range(rounds + 2)][2:])


def peak_megabytes() -> float:
    """The most memory that this process and those it has started, and still has, were in at any time, added up.

    On Linux each process's own, as the kernel tells it; `getrusage`, which is asked elsewhere, also counts what a
    process's parent held when it started it.
    """
    children = [child.pid for child in multiprocessing.active_children()]
    if _STATUS.exists():
        return sum(_high_water(Path(f"/proc/{pid}/status")) for pid in ("self", *children))
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(who).ru_maxrss for who in usage) / 1e6  # in bytes on macOS


def in_fresh_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What a function of this package gives in a process of its own, so that memory and threads are its own."""
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
