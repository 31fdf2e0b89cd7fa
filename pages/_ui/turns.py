"""Pages are drawn in turn, so that a hall that opens one link at once does not stop everything else.

Python runs one thread at a time. Where a hundred pages are drawn at once, each gets a hundredth, none is whole before
all are, and the thread that passes frames on waits a hundred times as long for its share: live views stand still, and
connections break for want of an answer. In turn the first is whole at once, and the last no later than it was.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["AT_ONCE", "Turns"]

AT_ONCE = 2
SAID_AFTER = 1.0  # seconds
PATIENCE = 20.0  # seconds after which a page is drawn without a turn: those before it hang, or are far too slow


class Turns:
    """A queue, first come, first served.

    Args:
        at_once: how many are drawn at the same time.
    """

    def __init__(self, at_once: int = AT_ONCE):
        self._lock = threading.Lock()
        self._free = at_once
        self._queue: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @contextmanager
    def take(
        self, say: Callable[[], object], said_after: float = SAID_AFTER, patience: float = PATIENCE
    ) -> Iterator[bool]:
        """Waits for a turn, which ends with the block.

        Args:
            say: is called where it takes longer than a moment.
            said_after: seconds of that moment.
            patience: seconds after that, until the block runs without a turn.

        Yields:
            Whether it is this one's turn.
        """
        has = self._wait(say, said_after, patience)
        try:
            yield has
        finally:
            if has:
                self._pass_on()

    def _wait(self, say: Callable[[], object], said_after: float, patience: float) -> bool:
        mine = threading.Event()
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            self._queue.append(mine)
        try:
            if not mine.wait(said_after):
                say()
                mine.wait(patience)
        except BaseException:  # Streamlit ends a script that way, where somebody has clicked meanwhile or gone
            if not self._gave_up(mine):
                self._pass_on()
            raise
        return not self._gave_up(mine)

    def _gave_up(self, mine: threading.Event) -> bool:
        """Leaves the queue; False where the turn has come."""
        with self._lock:
            if mine.is_set():
                return False
            self._queue.remove(mine)
            return True

    def _pass_on(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1
