"""Pages are drawn in turn, so that a hall that opens one link at once does not stop everything else.

Python runs one thread at a time. Where a hundred pages are drawn at once, each gets a hundredth, none is whole before
all are, and the thread that passes frames on waits a hundred times as long for its share: live views stand still, and
connections break for want of an answer. In turn the first is whole at once, and the last no later than it was.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Turns"]

LASTS = 1.0  # seconds; a page takes some hundredths, unless it waits for something
SAID_AFTER = 1.0  # seconds


class Turns:
    """A queue, first come, first served, one at a time.

    Args:
        lasts: seconds after which the next one comes though the one before has not finished: that one waits for a file
            or an answer, and nobody else need wait for it.
    """

    def __init__(self, lasts: float = LASTS):
        self.lasts = lasts
        self._lock = threading.Lock()
        self._queue: deque[threading.Event] = deque()
        self._whose: threading.Event | None = None
        self._until = 0.0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @contextmanager
    def take(self, say: Callable[[], object], said_after: float = SAID_AFTER) -> Iterator[None]:
        """Waits for a turn, which ends with the block.

        Args:
            say: is called where it takes longer than a moment.
            said_after: seconds of that moment.
        """
        mine = threading.Event()
        with self._lock:
            self._queue.append(mine)
            self._pass_on()
        try:  # Streamlit ends a script by what it raises in `say`, or in the block
            self._wait(mine, time.monotonic() + said_after)
            if not mine.is_set():
                say()
                self._wait(mine)
            yield
        finally:
            with self._lock:
                if mine in self._queue:
                    self._queue.remove(mine)
                if self._whose is mine:
                    self._whose = None
                self._pass_on()

    def _wait(self, mine: threading.Event, until: float = float("inf")) -> None:
        """Until it is one's turn, or until then."""
        while not mine.is_set() and (now := time.monotonic()) < until:
            mine.wait(max(0.001, min(until, self._until) - now))
            with self._lock:
                self._pass_on()

    def _pass_on(self) -> None:
        """Lets the next one come, where there is one and nobody has the turn (any more)."""
        now = time.monotonic()
        if self._queue and (self._whose is None or now >= self._until):
            self._whose, self._until = self._queue.popleft(), now + self.lasts
            self._whose.set()
