"""Pages are drawn in turn: who comes first is served first, and nothing that goes wrong costs the others a turn."""

from __future__ import annotations

import threading

import pytest
from streamlit.testing.v1 import AppTest

from cake_core.errors import CakeError
from pages._ui import cached
from pages._ui.turns import AT_ONCE, Turns

from .test_pages import FRAME
from .waiting import until


def nothing() -> None:
    pass


def in_line(turns: Turns, names: str, done: list[str]) -> list[threading.Thread]:
    """One thread for each name, which come one after the other; each notes when it has its turn."""

    def come(name: str) -> None:
        with turns.take(nothing):
            done.append(name)

    threads = []
    for name in names:
        threads.append(threading.Thread(target=come, args=(name,)))
        threads[-1].start()
        until(lambda: turns.waiting == len(threads))
    return threads


def test_who_comes_first_is_served_first():
    turns, done = Turns(1), []
    with turns.take(nothing) as has:
        assert has
        threads = in_line(turns, "abcde", done)
        assert done == []
    for thread in threads:
        thread.join()
    assert "".join(done) == "abcde"
    assert turns.waiting == 0


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_never_more_at_once(at_once):
    turns, lock, counts, now = Turns(at_once), threading.Lock(), [], [0]

    def come() -> None:
        for _ in range(50):
            with turns.take(nothing):
                with lock:
                    now[0] += 1
                    counts.append(now[0])
                with lock:
                    now[0] -= 1

    threads = [threading.Thread(target=come) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 500
    assert max(counts) <= at_once
    for _ in range(at_once):  # all turns are there again
        with turns.take(nothing, 0, 0) as has:
            assert has


def test_who_waits_is_told_and_goes_on_without_a_turn_in_the_end():
    turns, told = Turns(1), []
    with turns.take(nothing), turns.take(lambda: told.append("wait"), 0, 0) as has:
        assert not has
        assert told == ["wait"]
    with turns.take(lambda: told.append("wait")) as has:  # its turn was not given back twice
        assert has
        with turns.take(nothing, 0, 0) as another:
            assert not another
    assert told == ["wait"]


def test_what_breaks_passes_the_turn_on():
    turns = Turns(1)
    with pytest.raises(KeyError), turns.take(nothing):
        raise KeyError

    def gone() -> None:
        raise ConnectionError  # as Streamlit does in whatever a script says, when nobody is there any more

    with turns.take(nothing), pytest.raises(ConnectionError), turns.take(gone, 0):
        pass
    assert turns.waiting == 0
    with turns.take(nothing, 0, 0) as has:
        assert has


def test_a_turn_that_comes_while_one_breaks_is_passed_on():
    turns = Turns(1)
    first = turns.take(nothing)
    first.__enter__()

    def gone() -> None:
        first.__exit__(None, None, None)
        raise ConnectionError

    with pytest.raises(ConnectionError), turns.take(gone, 0):
        pass
    with turns.take(nothing, 0, 0) as has:
        assert has


def test_the_frame_takes_a_turn_and_gives_it_back(monkeypatch):
    """Whatever a page does in the end: finish, go to another page, or say what is wrong with an input."""
    taken = []

    class Counted(Turns):
        def take(self, *arguments):
            taken.append(self)
            return super().take(*arguments)

    turns = Counted()
    monkeypatch.setattr(cached, "turns", lambda: turns)
    app = AppTest.from_file(FRAME, default_timeout=60).run()
    assert not app.exception
    assert len(taken) == 1
    monkeypatch.setattr("pages._ui.account.gate", lambda: 1 / 0)
    assert app.run().exception
    assert len(taken) == 2
    assert turns._free == AT_ONCE


def test_who_waits_sees_why(monkeypatch):
    class Full:
        def take(self, say):
            say()
            raise CakeError("no further")

    monkeypatch.setattr(cached, "turns", Full)
    app = AppTest.from_file(FRAME, default_timeout=60).run()
    assert [i.value for i in app.info] == [
        "Many open pages here at this moment. Yours comes in turn, in a few seconds."
    ]
