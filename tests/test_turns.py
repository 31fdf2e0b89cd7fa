"""Pages are drawn in turn: who comes first is served first, and nothing that goes wrong costs the others a turn."""

from __future__ import annotations

import threading

import pytest
from streamlit.testing.v1 import AppTest

from cake_core.errors import CakeError
from pages._ui import cached
from pages._ui.turns import Turns

from .test_pages import FRAME
from .waiting import until


def nothing() -> None:
    pass


def in_line(turns: Turns, names: str, done: list[str]) -> list[threading.Thread]:
    """One thread for each name, which come one after the other; each notes when it has its turn."""

    def come(name: str) -> None:
        with turns.take(nothing):
            done.append(name)

    threads, before = [], turns.waiting
    for name in names:
        threads.append(threading.Thread(target=come, args=(name,)))
        threads[-1].start()
        until(lambda: turns.waiting == before + len(threads))
    return threads


def test_who_comes_first_is_served_first():
    turns, done = Turns(1000), []
    with turns.take(nothing):
        threads = in_line(turns, "abcde", done)
        assert done == []
    for thread in threads:
        thread.join()
    assert "".join(done) == "abcde"
    assert turns.waiting == 0


def test_one_at_a_time():
    turns, counts, now = Turns(1000), [], [0]

    def come() -> None:
        for _ in range(50):
            with turns.take(nothing):
                now[0] += 1
                counts.append(now[0])
                now[0] -= 1

    threads = [threading.Thread(target=come) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 500
    assert turns.waiting == 0


def test_who_waits_is_told_and_nobody_waits_for_one_that_hangs():
    turns, told = Turns(0.05), []
    with (
        turns.take(lambda: told.append("first"), 0),
        turns.take(lambda: told.append("second"), 0),  # comes though the first has not finished
        turns.take(lambda: told.append("third"), 1000),  # and that took no longer than a moment
    ):
        assert told == ["second"]
    turns.lasts = 1000
    done: list[str] = []
    with turns.take(nothing):  # the two that had lost their turn passed none on
        threads = in_line(turns, "ab", done)
        assert done == []
    for thread in threads:
        thread.join()


def test_what_breaks_passes_the_turn_on():
    turns = Turns(1000)
    with pytest.raises(KeyError), turns.take(nothing):
        raise KeyError

    def gone() -> None:
        raise ConnectionError  # as Streamlit does in whatever a script says, when nobody is there any more

    with turns.take(nothing), pytest.raises(ConnectionError), turns.take(gone, 0):
        pass
    assert turns.waiting == 0
    with turns.take(gone):
        pass


def test_a_turn_that_comes_while_one_breaks_is_passed_on():
    turns = Turns(1000)
    first = turns.take(nothing)
    first.__enter__()

    def gone() -> None:
        first.__exit__(None, None, None)
        raise ConnectionError

    with pytest.raises(ConnectionError), turns.take(gone, 0):
        pass
    with turns.take(gone):
        pass


def test_the_frame_takes_a_turn_and_gives_it_back(monkeypatch):
    """Whatever a page does in the end: finish, go to another page, or say what is wrong with an input."""
    taken = []

    class Counted(Turns):
        def take(self, *arguments):
            taken.append(self)
            return super().take(*arguments)

    turns = Counted(1000)
    monkeypatch.setattr(cached, "turns", lambda: turns)
    app = AppTest.from_file(FRAME, default_timeout=60).run()
    assert not app.exception
    assert len(taken) == 1
    monkeypatch.setattr("pages._ui.account.gate", lambda: 1 / 0)
    assert app.run().exception
    assert len(taken) == 2
    assert turns._whose is None


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
