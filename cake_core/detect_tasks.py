"""Line-ups and audits as jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from safetensors.torch import save_file

from . import admission, audit, devices, evaluation, figures, inbox, runs
from .errors import disk_is_full, noticing_a_full_disk
from .lineup import LineUp, LineUpConfig, hidden, letter, verdicts
from .pieces import Pieces
from .pipeline import Update
from .tasks import Charts, Task

__all__ = ["TASKS", "Audit", "HideStudents"]


class OfALineUp(Task):
    """What both have in common: a line-up is run, and counted."""

    run: LineUp

    def __next__(self) -> Update:
        return next(self.run)

    def need(self) -> admission.Need:
        return admission.line_up(self.run)

    def less(self, room: float) -> str:
        return admission.SMALLER_NETWORKS


class HideStudents(OfALineUp, Charts):
    """Detect, the game: a line-up of teachers, and suspects that copied one of them or nobody."""

    kind = "lineup"

    def __init__(self, config: dict[str, Any], kinds: Sequence[str], suspects: int):
        settings = LineUpConfig.from_dict(config)
        spec = {"config": settings.to_dict(), "kinds": list(kinds), "suspects": suspects}
        self.pieces = Pieces.of(self.kind, spec, devices.choose(settings.device).type)
        self.run = LineUp(settings, hidden(settings, kinds, suspects), pieces=self.pieces)
        if settings.info.kind == "points":
            self.threads = 1

    def close(self) -> None:
        self.run.close()
        self.pieces.end()

    def count(self) -> tuple[int, int]:
        run = self.run
        return len(run.teachers) + len(run.students), run.config.teachers + len(run.suspects)

    def charts(self) -> list[go.Figure]:
        return [figures.lineup(self._accuracies())]

    def _accuracies(self) -> dict[str, dict[str, float]]:
        """What is known about those who are trained already; not who copied whom."""
        named = [(t.card.name, t) for t in self.run.teachers]
        named += [(f"Suspect {letter(i)}", t) for i, t in enumerate(self.run.students)]
        return {name: t.card.accuracy.to_dict() for name, t in named}

    def finish(self) -> dict[str, Any]:
        run, n = self.run, self.run.counts[-1]
        source, control = run.probes
        result = {
            "config": run.config.to_dict(),
            "accuracies": self._accuracies(),
            "models": [t.card.network_title for t in run.teachers],
            "classes": run.dataset.info.classes,
            "truth": [{"kind": s.kind, "teacher": s.truth} for s in run.suspects],
            "clues": run.clues,
            "n": n,
            "calls": run.calls,
            "verdicts": verdicts(run.rows, n, "kl", source),
            "control": verdicts(run.rows, n, "kl", control),
        }
        if run.config.info.kind == "points":
            width = run.dataset.half_width
            lines = [evaluation.boundary_line(t.network, width, 80) for t in (*run.teachers, *run.students)]
            result |= {"half_width": width, "boundaries": [line.tolist() for line in lines]}
        # Kept as runs of their own, so that they can be candidates, and be copied, elsewhere.
        names = [runs.create() for _ in run.teachers]
        for name, teacher in zip(names, run.teachers, strict=True):
            teacher.save(runs.find(name), "teacher")
        folder = runs.create()
        for number, student in enumerate(run.students):
            weights = {k: v.cpu().contiguous() for k, v in student.network.state_dict().items()}
            save_file(weights, runs.find(folder) / f"suspect-{letter(number)}.safetensors")
        result["teachers"] = [f"run:{name}" for name in names]
        runs.write_json(runs.find(folder) / "run.json", {"kind": self.kind, **result})
        return {"run": folder, **result}


class Audit(OfALineUp):
    """Detect, the tool: whom of some teachers the weights of somebody's own were copied from."""

    kind = "audit"

    def __init__(self, upload: str, name: str, model: str, candidates: dict[str, str], config: dict[str, Any]):
        self._upload, self._names = upload, list(candidates.values())
        try:
            settings = LineUpConfig.from_dict(config)
            spec = {"upload": upload, "model": model, "candidates": candidates, "config": settings.to_dict()}
            self.pieces = Pieces.of(self.kind, spec, devices.choose(settings.device).type)
            suspect = self._kept(self.pieces.file("suspect"))
            self.run = audit.audit(suspect, name, model, list(candidates), settings, self.pieces)
        except BaseException as error:
            if not disk_is_full(error):  # then it is tried again
                self.close()
            raise

    def _kept(self, place: Path) -> Path:
        """The suspect's file, in a place where it stays until the job ends: what was sent is given up earlier."""
        if not place.is_file():
            sent = inbox.find(self._upload)
            with noticing_a_full_disk():
                place.parent.mkdir(parents=True, exist_ok=True)
            runs.copy(sent, place)
        inbox.drop(self._upload)
        return place

    def close(self) -> None:
        if hasattr(self, "run"):
            self.run.close()
        self.pieces.end()
        inbox.drop(self._upload)

    def finish(self) -> dict[str, Any]:
        found = audit.findings(self.run, self._names)
        result = {"classes": self.run.dataset.info.classes, "report": audit.report(found), **found}
        run = runs.create()
        runs.write_json(runs.find(run) / "run.json", {"kind": self.kind, **result})
        return {"run": run, **result}


TASKS = (HideStudents, Audit)
