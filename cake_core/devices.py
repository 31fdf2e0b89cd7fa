"""Where to compute: CUDA, Apple's MPS or the CPU, and what each needs to run at its best."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

from .errors import CakeError

__all__ = [
    "DEVICES",
    "PRECISIONS",
    "autocast",
    "bounded_memory",
    "choose",
    "describe",
    "free_memory",
    "free_unused",
    "is_out_of_memory",
    "peak_memory",
    "prepare",
]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16")


def available() -> list[str]:
    """The kinds of device that can compute here, best first."""
    kinds = ["cpu"]
    if torch.backends.mps.is_available():
        kinds.insert(0, "mps")
    if torch.cuda.is_available():
        kinds.insert(0, "cuda")
    return kinds


def choose(name: str = "auto") -> torch.device:
    """The device that a name stands for; "auto" is the best one there is.

    Raises:
        CakeError: the name is unknown, or no such device is here.
    """
    kinds = available()
    if name == "auto":
        name = kinds[0]
    kind = name.split(":")[0]
    if kind not in DEVICES:
        raise CakeError(f"There is no device '{name}'. Choose one of: {', '.join(DEVICES)}.")
    if kind not in kinds:
        raise CakeError(f"This machine has no '{kind}' device that torch can use. Choose one of: {', '.join(kinds)}.")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CakeError(f"'{name}' is no device. Write cpu, cuda, cuda:0 or mps.") from None
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CakeError(f"'{name}' is not there: this machine has {torch.cuda.device_count()} CUDA device(s).")
    prepare(device)
    return device


def describe(device: torch.device) -> str:
    """One line for a badge: the device's name and, on CUDA, its memory."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    if device.type == "mps":
        return "Apple GPU"
    return f"CPU, {torch.get_num_threads()} threads"


@cache
def prepare(device: torch.device) -> None:
    """Process-wide settings that make the inner loop fast on this device. Harmless to call again.

    CPU: glibc by default hands the memory of every large freed tensor back to the kernel, so each step of the loop
    pays page faults for the same buffers again (a third of the time of a LeNet-5 step). We ask it to keep them.
    CUDA: TF32 for float32 matrix products and convolutions; convolutions try out their algorithms, for their shapes
    stay the same for thousands of steps.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    elif device.type == "cpu" and sys.platform == "linux":
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of <malloc.h>
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(mmap_threshold, 32 * 2**20)  # the largest value glibc takes
            libc.mallopt(trim_threshold, 512 * 2**20)
        except (OSError, AttributeError):
            pass  # another C library: slower, not wrong


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The block in which a network computes its products in a number format of `PRECISIONS`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that this process could still use: free ones, and those it holds without need."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def peak_memory(work: Callable[[], None], device: torch.device) -> int:
    """Bytes of a CUDA device that some work takes at most, beyond what is held before it."""
    work()  # once without counting: what the first call sets up stays
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def free_unused(device: torch.device) -> None:
    """Gives memory that is held without need back to a device that others use too."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextlib.contextmanager
def bounded_memory(more: int) -> Iterator[None]:
    """Inside the block this process can't take more than so many further bytes of memory; beyond, allocations fail.

    For work whose size somebody else chose: Linux would otherwise promise any amount, and end processes when it is
    used. Elsewhere than on Linux nothing is bounded.

    Args:
        more: bytes beyond what is taken when the block is entered.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    taken = int(re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = taken + more if before[1] == resource.RLIM_INFINITY else min(taken + more, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device's memory is full."""
    said = str(error).lower()
    kinds = (torch.cuda.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "out of memory" in said or "can't allocate memory" in said
