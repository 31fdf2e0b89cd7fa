"""Who may see what: a thing belongs to its owner, or to nobody; everybody else needs the pass that a shared link holds.

One process runs the pages of many people: they say for whom they ask (`asked_by`). The command line and the compute
processes ask for themselves, and see everything; what a compute process is told to read has been checked by the page.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Reader", "asked_by", "fits", "may_see", "new_pass", "reader"]


@dataclass(frozen=True)
class Reader:
    """Somebody for whom a page asks.

    Attributes:
        key: by which what belongs to them is found (see `runs.key_of`); empty for somebody who owns nothing.
        passes: those that they have come with.
    """

    key: str = ""
    passes: frozenset[str] = frozenset()


def _nobody() -> Reader | None:
    return None


_who: Callable[[], Reader | None] = _nobody


def asked_by(who: Callable[[], Reader | None]) -> None:
    """From now on `who` tells for whom this thread asks; None for the program itself."""
    global _who
    _who = who


def reader() -> Reader | None:
    """For whom this thread asks; None for the program itself, which sees everything."""
    return _who()


def may_see(owner: str, shared: str, somebody: Reader | None) -> bool:
    """Whether somebody may see a thing.

    Args:
        owner: key of its owner; empty where it belongs to nobody, and then whoever knows its name may see it.
        shared: the pass that opens it to others; empty where it is not shared.
        somebody: who wants to; None for the program itself.
    """
    if somebody is None or not owner or secrets.compare_digest(owner.encode(), somebody.key.encode()):
        return True
    return fits(shared, somebody.passes)


def fits(shared: str, passes: Iterable[str]) -> bool:
    """Whether one of the passes is that of a thing; no pass is that of a thing that is not shared."""
    return bool(shared) and any(secrets.compare_digest(shared.encode(), p.encode()) for p in passes)


def new_pass() -> str:
    """A pass that can't be guessed: 192 random bits."""
    return secrets.token_urlsafe(24)
