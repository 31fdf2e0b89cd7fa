"""Attacks with few calls as jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from safetensors.torch import save_file

from . import admission, data, devices, few_call_figures, runs
from .few_call import FewCall, FewCallConfig, Round
from .frames import encode
from .pieces import Pieces
from .pipeline import Update
from .proxies import SOURCES as SOURCES_OF_PROXIES
from .stealing import TITLES, Sweep
from .tasks import Charts, Task

__all__ = ["TASKS", "Steal", "StealSweep"]


class _Attacking:
    """What one attack and many of them have in common as jobs: both are asked for the next step, and are as large as an
    attack with their settings is."""

    run: FewCall | Sweep
    threads: int

    def _begin(self, run: FewCall | Sweep) -> None:
        self.run = run
        if data.info(run.config.data.name).kind == "points":
            self.threads = 1

    def __next__(self) -> Update:
        return next(self.run)

    def need(self) -> admission.Need:
        return admission.attack(self.run.config)

    def less(self, room: float) -> str:
        return admission.smaller_attack(self.run.config, room)

    def close(self) -> None:
        self.run.close()


class Steal(_Attacking, Task):
    """Few calls: one attack, from the first proxy to the last number."""

    kind = "steal"

    def __init__(self, config: dict[str, Any]):
        settings = FewCallConfig.from_dict(config)
        self.pieces = Pieces.of(self.kind, settings.to_dict(), devices.choose(settings.device).type)
        self._begin(FewCall(settings, pieces=self.pieces))
        self._drawn, self._shown = 0.0, None
        self._charts: dict[str, go.Figure] = {}

    def close(self) -> None:
        super().close()
        self.pieces.end()

    def scene(self) -> bytes:
        return encode({"type": "scene", "kind": "figure"})

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        """The proxies as they are drawn, what is left of the budget, the cloud and the curves, when there is more."""
        run, now = self.run, time.monotonic()
        seen = (run.sketch, run.box and run.box.usage(), len(run.rounds))
        if seen == self._shown or (not last and now - self._drawn < SECONDS_BETWEEN_SKETCHES):
            return None
        before, self._drawn, self._shown = self._shown or (None, None, -1), now, seen
        if run.sketch is not before[0] and run.sketch.x is not None:
            self._charts["proxies"] = self._sketch()
        if run.box is not None:
            self._charts["meter"] = few_call_figures.meter(
                run.box.usage().per_class, run.config.budget, run.box.classes
            )
        if run.rounds and len(run.rounds) > before[2]:
            self._charts |= self._rounds()
        step = update.training
        order = ("proxies", "meter", "cloud", "rounds")
        figure = [json.loads(self._charts[k].to_json()) for k in order if k in self._charts]
        return self.message(update, step.update if step else 0, step.total if step else 0, {}, figure=figure)

    def _sketch(self) -> go.Figure:
        run, sketch = self.run, self.run.sketch
        noun, classes = run.config.proxies.source, run.dataset.info.classes
        if run.dataset.info.kind == "points":
            x = sketch.x.cpu().numpy()
            prompt = [k % len(classes) for k in range(len(x))]
            return few_call_figures.cloud(x, prompt, [], x[:0], classes, f"Proxies: {SOURCES_OF_PROXIES[noun]}")
        rows = min(MOSAIC_ROWS, len(sketch.x) // len(classes) or 1)
        tiles = run.dataset.pixels(sketch.x[: rows * len(classes)]).cpu().numpy()
        moment = f", step {sketch.step} of {sketch.total}" if sketch.share < 1 else f", {len(sketch.x):,} in all"
        return few_call_figures.mosaic(tiles, len(classes), f"Proxies: {SOURCES_OF_PROXIES[noun]}{moment}")

    def _rounds(self) -> dict[str, go.Figure]:
        run, latest = self.run, self.run.rounds[-1]
        plain = [_round(r) for r in run.rounds]
        title = f"Round {latest.number}: answers, and labels from neighbours"
        labels, asked = latest.labels.tolist(), latest.asked.tolist()
        cloud = few_call_figures.cloud(
            latest.position.numpy(), labels, asked, latest.centres.numpy(), run.box.classes, title
        )
        return {"cloud": cloud, "rounds": few_call_figures.rounds(plain)}

    def finish(self) -> dict[str, Any]:
        run = runs.create()
        attack = self.run
        result = {
            "config": attack.config.to_dict(),
            "outcome": attack.outcome.to_dict(),
            "rounds": [_round(r) for r in attack.rounds],
            "usage": attack.box.usage().to_dict(),
        }
        network = {k: v.cpu().contiguous() for k, v in attack.student.state_dict().items()}
        about = {"model": attack.config.student.model, "data": attack.config.data.name, "source": "few calls"}
        save_file(network, runs.find(run) / "student.safetensors", about)
        runs.write_json(runs.find(run) / "run.json", {"kind": self.kind, **result})
        return {"run": run, **result}


SECONDS_BETWEEN_SKETCHES = 0.1
MOSAIC_ROWS = 6


def _round(r: Round) -> dict[str, Any]:
    """The numbers of a round."""
    rates = {k: getattr(r, k) for k in ("knn_accuracy", "agreement", "accuracy")}
    return {"number": r.number, "calls": r.calls, **{k: rate and rate.value for k, rate in rates.items()}}


class StealSweep(_Attacking, Charts):
    """Few calls: variants of the attack, their baselines and controls, with several budgets and seeds."""

    kind = "steal-sweep"

    def __init__(self, config: dict[str, Any], variants: Sequence[str], budgets: Sequence[int], seeds: int):
        self._begin(Sweep(FewCallConfig.from_dict(config), variants, budgets, seeds))

    def count(self) -> tuple[int, int]:
        return len(self.run.rows), self.run.cells

    def charts(self) -> list[go.Figure]:
        return [few_call_figures.against_calls(self.run.summary(), k, TITLES) for k in ("agreement", "accuracy")]

    def finish(self) -> dict[str, Any]:
        result = {
            "config": self.run.config.to_dict(),
            "rows": self.run.rows,
            "summary": self.run.summary(),
            "refused": self.run.refused,
        }
        run = runs.create()
        runs.write_json(runs.find(run) / "run.json", {"kind": self.kind, **result})
        return {"run": run, **result}


TASKS = (Steal, StealSweep)
