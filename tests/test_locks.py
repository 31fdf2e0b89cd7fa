"""Locks: a death opens them, and those who only ask do not see each other."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cake_core.locks import held, is_held

ROOT = Path(__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from cake_core.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def at_once(ask: Callable[[], bool], count: int = 8) -> list[bool]:
    """What so many threads are told that ask at the same time."""
    told, gate = [], threading.Barrier(count)

    def go() -> None:
        gate.wait()
        told.append(ask())

    threads = [threading.Thread(target=go) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_a_death_opens_a_lock_and_all_who_ask_see_it(tmp_path):
    """Two pages that are drawn at the same time, after a server was killed, say: each has to find what it left."""
    path = tmp_path / "a.lock"
    for _ in range(3):
        holder = subprocess.Popen([sys.executable, "-c", HOLD, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "held\n"
        assert at_once(lambda: is_held(path)) == [True] * 8
        holder.kill()
        holder.wait()
        assert at_once(lambda: is_held(path)) == [False] * 8


def test_asking_keeps_nobody_from_taking_it(tmp_path):
    path = tmp_path / "a.lock"
    assert not is_held(path)
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            is_held(path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(20):
            with held(path, wait=5):
                assert is_held(path)
    finally:
        done.set()
        asking.join()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
def test_a_file_of_something_else_is_no_lock(tmp_path, content):
    path = tmp_path / "a.lock"
    path.write_bytes(content)
    assert not is_held(path)
