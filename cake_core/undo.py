"""Undo and redo of anything that is replaced as a whole, such as a frozen `Config`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["MOST", "Undo"]

T = TypeVar("T")
MOST = 100  # states kept


@dataclass
class Undo(Generic[T]):
    """What was before, and what was taken back.

    Attributes:
        past: earlier states, the latest last.
        future: states that were taken back, the next one last.
    """

    past: list[T] = field(default_factory=list)
    future: list[T] = field(default_factory=list)

    def did(self, before: T) -> None:
        """Something was changed; what was taken back is forgotten."""
        self.past = [*self.past, before][-MOST:]
        self.future = []

    def undo(self, now: T, usable: Callable[[T], bool] = lambda state: True) -> T | None:
        """The state before `now`, the latest one that can still be used; None where there is none."""
        return self._move(self.past, self.future, now, usable)

    def redo(self, now: T, usable: Callable[[T], bool] = lambda state: True) -> T | None:
        """The state that was taken back last, if it can still be used; None where there is none."""
        return self._move(self.future, self.past, now, usable)

    @staticmethod
    def _move(source: list[T], target: list[T], now: T, usable: Callable[[T], bool]) -> T | None:
        while source:
            if usable(state := source.pop()):
                target.append(now)
                return state
        return None
