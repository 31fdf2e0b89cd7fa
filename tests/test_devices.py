"""What a process may take: bounded while somebody else's network answers, and not after."""

from __future__ import annotations

import sys

import pytest
import torch

from cake_core import devices


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process")
def test_memory_is_bounded_inside_the_block_and_not_after():
    with pytest.raises((RuntimeError, MemoryError)) as error, devices.bounded_memory(64 * 2**20):
        torch.ones(2**26)  # 256 MiB
    assert devices.is_out_of_memory(error.value)
    assert torch.ones(2**26).sum() == 2**26
    with devices.bounded_memory(512 * 2**20):
        assert torch.ones(2**26).sum() == 2**26
