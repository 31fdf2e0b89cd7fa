"""What one server allows: one object, each part of which is an environment variable."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any

from .errors import CakeError

__all__ = ["Limits", "check_sizes", "variable"]


def _limit(default: Any, low: float = 0, high: float = math.inf) -> Any:
    """One limit: what holds where nobody says anything, and the smallest and largest value that make sense."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Limits:
    """What one server allows. Each can be set by an environment variable, CAKE_ and the name in capitals.

    Attributes:
        max_running: jobs that compute at the same time, each in its turn; more wait in a queue.
        max_running_per_owner: of these, jobs of one browser; its others wait while the places go to somebody else.
        max_jobs_per_owner: jobs that one session may hold; the oldest that does not run makes way for a new one.
        weights: shares of the computing time other than 1, as "tune=0.5 3f9a0c1e=4": by a job's kind, or by an owner as
            the log names it. The time goes to browsers alike, whatever they run, and within one to its jobs alike.
        idle_minutes: a paused job that nobody has looked at for so long is ended.
        unwatched_seconds: a running job that nobody has watched for so long gives its place to one that waits, and
            waits itself.
        ring_bytes: frames kept of each job, for those who come later.
        max_shared_mb: megabytes of frames of public experiments that several people have asked for: they are computed
            once, and played to the others. 0 computes everything for everybody.
        max_samples: synthetic samples of one run.
        max_steps: steps of a mini-batch of one run.
        max_sets_per_owner: data sets that one session may bring.
        max_upload_mb: megabytes of a file of data.
        max_teacher_mb: megabytes of a teacher's file; never more than 300.
        max_uploads_gb: gigabytes of all that was brought and is kept.
        max_runs_gb: gigabytes of all finished runs; the oldest without a star make way for new ones.
        max_owner_gb: gigabytes of the runs, studies, teachers and data of one browser.
        max_film_pictures: pictures of a film; longer runs are thinned out to so many.
        max_export_mb: megabytes of a file that is made of a run to be taken away.
        memory_gb: gigabytes that the runs may take together, on a CPU; 0 for what the machine has free.
        memory_share: share of the free memory, of the machine or of a GPU, that runs may count on.
        threads: on how many the CPU computes with images; 0 for all cores.
    """

    max_running: int = _limit(8, 1, 1000)
    max_running_per_owner: int = _limit(4, 1, 1000)
    max_jobs_per_owner: int = _limit(6, 1, 1000)
    weights: str = _limit("")
    idle_minutes: float = _limit(30.0)
    unwatched_seconds: float = _limit(15.0)
    ring_bytes: int = _limit(6_000_000, 100_000, 10**9)
    max_shared_mb: int = _limit(64, 0, 100_000)
    max_samples: int = _limit(5_000_000, 1)
    max_steps: int = _limit(20_000, 1)
    max_sets_per_owner: int = _limit(5)
    max_upload_mb: int = _limit(20, 1, 300)
    max_teacher_mb: int = _limit(300, 1, 300)
    max_uploads_gb: float = _limit(10.0)
    max_runs_gb: float = _limit(10.0)
    max_owner_gb: float = _limit(5.0)
    max_film_pictures: int = _limit(180, 2, 180)
    max_export_mb: int = _limit(500, 1)
    memory_gb: float = _limit(0.0)
    memory_share: float = _limit(0.8, 0.05, 1)
    threads: int = _limit(0, 0, 4096)

    @classmethod
    def from_environment(cls) -> Limits:
        """The limits that the environment sets, and the defaults for the rest.

        Raises:
            CakeError: a variable holds no value that makes sense; it says which one, and what would.
        """
        given = {f: os.environ.get(variable(f.name), "").strip() for f in fields(cls)}
        return cls(**{f.name: _read_limit(f, text) for f, text in given.items() if text})

    def weight(self, kind: str, owner: str) -> float:
        """The share of the computing time that a job gets, 1 as a rule.

        Args:
            kind: of the job.
            owner: as the log names its owner.
        """
        known = dict(_weights(self.weights))
        return known.get(kind, 1.0) * known.get(owner, 1.0)


def variable(name: str) -> str:
    """The environment variable of a limit."""
    return f"CAKE_{name.upper()}"


def _read_limit(limit: Field[Any], text: str) -> Any:
    if isinstance(limit.default, str):
        _weights(text)
        return text
    whole, (low, high) = isinstance(limit.default, int), (limit.metadata.get(k, v) for k, v in OPEN.items())
    try:
        number = float(text)
        if not low <= number <= high or (whole and number != int(number)):
            raise ValueError
    except (ValueError, OverflowError):
        reach = f"from {low:,.10g} to {high:,.10g}" if high < math.inf else f"of at least {low:,.10g}"
        raise CakeError(
            f"The environment variable {variable(limit.name)} is '{text[:60]}', which is not a "
            f"{'whole ' if whole else ''}number {reach}. Set it to one, or leave it out for {limit.default:,.10g}."
        ) from None
    return type(limit.default)(number)


OPEN = {"low": 0, "high": math.inf}


def check_sizes(spec: Mapping[str, Any], limits: Limits) -> None:
    """Refuses a job whose runs are larger than a server allows.

    Args:
        spec: what it is submitted with; what it does not say is not looked at.
        limits: what is allowed.

    Raises:
        CakeError: saying which limit, and what to lower.
    """
    common = dict((spec.get("experiment") or {}).get("settings") or {})
    for settings in ({}, *(spec.get("settings") or {}).values()):
        if not isinstance(settings, Mapping):  # of something else
            continue
        all_settings = common | dict(settings)
        samples = all_settings.get("batches", 1) * all_settings.get("samples", 1)
        if samples > limits.max_samples:
            raise CakeError(
                f"This run would make {samples:,} samples, and this server allows {limits.max_samples:,} "
                f"({variable('max_samples')}). Choose fewer mini-batches, or fewer samples in each."
            )
        if (steps := all_settings.get("steps", 0)) > limits.max_steps:
            raise CakeError(
                f"Each mini-batch of this run would take {steps:,} steps, and this server allows {limits.max_steps:,} "
                f"({variable('max_steps')}). Choose fewer steps."
            )


@cache
def _weights(text: str) -> tuple[tuple[str, float], ...]:
    """The weights that a text names.

    Raises:
        CakeError: it is no list of names and numbers above 0.
    """
    found = []
    for part in text.replace(",", " ").split():
        match = re.fullmatch(r"([\w-]+)=([0-9]*\.?[0-9]+)", part)
        if match is None or not 0.01 <= float(match[2]) <= 100:
            raise CakeError(
                f"The environment variable {variable('weights')} holds '{part[:60]}'. Write names and numbers from "
                "0.01 to 100, as in 'tune=0.5 3f9a0c1e=4'."
            )
        found.append((match[1], float(match[2])))
    return tuple(found)
