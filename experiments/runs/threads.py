"""CPU threads and memory allocation of a process that trains or acts."""

import ctypes
import platform

import torch

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 2**30  # bytes


def use_processor(threads: int) -> None:
    """Give PyTorch so many CPU threads, and let the process keep the memory it has freed.

    What lies between the layers is megabytes that are needed again at once. glibc would give them back to the kernel,
    which clears them page by page before they are used again; always so what a thread has from a heap of its own, so
    that all share one. Other C libraries are left as they are.
    """
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGE)
        library.mallopt(_M_ARENA_MAX, 1)
