import ctypes
import os
import platform
import subprocess
import sys

import pytest
import torch

from experiments.runs.threads import use_processor

pytestmark = pytest.mark.usefixtures("threads")


class Allocated(ctypes.Structure):
    """Fields of glibc's mallinfo2."""

    names = "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in names)


def test_pytorch_uses_the_threads_it_is_given() -> None:
    for threads in (2, 1):
        use_processor(threads)
        assert torch.get_num_threads() == threads


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_memory_that_is_freed_is_kept_for_the_next_tensor() -> None:
    use_processor(1)
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Allocated

    def held() -> int:
        return library.mallinfo2().arena  # type: ignore[no-any-return]

    mapped = library.mallinfo2().hblkhd
    tensor = torch.zeros(2**24)  # 64 MB
    assert library.mallinfo2().hblkhd == mapped  # a mapping of its own would go back with the tensor
    before = held()
    del tensor
    assert held() == before


HEAPS = """
import ctypes, threading
from experiments.runs.threads import use_processor

library = ctypes.CDLL(None)
if {prepared}:
    use_processor(1)
thread = threading.Thread(target=library.malloc, args=(100_000,))
thread.start()
thread.join()
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_threads_have_no_heaps_of_their_own_which_would_give_memory_back() -> None:
    heaps = []
    for prepared in (False, True):
        script = [sys.executable, "-c", HEAPS.format(prepared=prepared)]
        environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
        told = subprocess.run(script, capture_output=True, text=True, check=True, env=environment).stdout
        heaps.append(told.count("<heap nr="))
    assert heaps[0] > heaps[1] == 1
