"""What a server is doing, in numbers: for those who run it, and for whatever watches it.

References: | OpenMetrics | https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from .jobs import REPLAY, JobRunner
from .replays import OWNER

__all__ = ["FIGURES", "figures", "openmetrics"]

# Name -> kind and sentence. Names are those of OpenMetrics, without the prefix "cake_".
FIGURES = {
    "jobs": ("gauge", "Jobs that are kept, by their state."),
    "viewers": ("gauge", "Live views that are connected."),
    "replayed": ("gauge", "Jobs that are played from what was computed once for all who ask for the same."),
    "queued": ("gauge", "Jobs that wait for their turn to run."),
    "running_limit": ("gauge", "Jobs that may run at the same time."),
    "processes": ("gauge", "Compute processes that are up."),
    "process_deaths": ("counter", "Compute processes that ended unexpectedly."),
    "jobs_failed": ("counter", "Jobs that ended with an error."),
    "jobs_done": ("counter", "Jobs that reached their end."),
    "frames": ("counter", "Frames that jobs have shown."),
    "memory_bytes": ("gauge", "Resident memory, of the server and of each compute process."),
}
STATES = ("ready", "running", "paused", "queued", "done", "failed", "stopped")


def figures(runner: JobRunner) -> dict[str, float | dict[str, float]]:
    """The numbers of a server now, by the names of `FIGURES`; those with parts as a mapping."""
    with runner.lock:
        jobs = list(runner.jobs.values())
        states = Counter(j.state for j in jobs)
        processes = runner.processes()
        return {
            "jobs": {state: float(states[state]) for state in STATES},
            "viewers": float(sum(len(j.subscribers) for j in jobs if j.browser != OWNER)),
            "replayed": float(sum(j.worker == REPLAY for j in jobs)),
            "queued": float(states["queued"]),
            "running_limit": float(runner.limits.max_running),
            "processes": float(len(processes)),
            "memory_bytes": {name: memory(pid) for name, pid in {"server": "self", **processes}.items()},
            **{name: float(count) for name, count in runner.counts.items()},
        }


def memory(pid: int | str) -> float:
    """Resident memory of a process in bytes; 0 where this can't be known (no Linux, or it has just ended)."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return 1024.0 * int(found[1]) if found else 0.0


def openmetrics(values: dict[str, Any]) -> str:
    """Numbers as OpenMetrics text.

    Args:
        values: as `figures` gives them.
    """
    labels = {"jobs": "state", "memory_bytes": "process"}
    lines = []
    for name, (kind, sentence) in FIGURES.items():
        lines += [f"# TYPE cake_{name} {kind}", f"# HELP cake_{name} {sentence}"]
        end = "_total" if kind == "counter" else ""
        parts = values[name] if isinstance(values[name], dict) else {"": values[name]}
        for part, value in parts.items():
            label = f'{{{labels[name]}="{part}"}}' if part else ""
            lines.append(f"cake_{name}{end}{label} {value:.0f}")
    return "\n".join([*lines, "# EOF", ""])
