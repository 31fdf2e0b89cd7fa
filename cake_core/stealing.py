"""Attacks side by side: variants of the method, their baselines and CAKE, for several budgets and seeds.

Each attack is stored as soon as it is done, so that a sweep goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import data, runs
from . import teacher as teachers
from .comparison import summarise
from .errors import CakeError
from .few_call import VARIANTS, FewCall, FewCallConfig
from .pipeline import Distillation, Experiment, Update, resolve_teacher
from .proxies import model_for

__all__ = ["BUDGETS", "CAKE", "TITLES", "Sweep", "changed", "within"]

Row = dict[str, Any]

BUDGETS = (4, 8, 16, 32, 64, 128)  # calls per class, where nothing else is said
CAKE = "cake"
TITLES = {name: title for name, (title, _) in VARIANTS.items()} | {CAKE: "CAKE (needs gradients)"}
VALUES = ("accuracy", "agreement", "before", "knn_accuracy", "kept", "calls", "seconds")


def changed(config: FewCallConfig, /, **changes: Any) -> FewCallConfig:
    """A copy with some settings changed; those of a part are written with a dot, as "proxies.source"."""
    values = config.to_dict()
    for key, value in changes.items():
        part, dot, name = key.partition(".")
        if dot:
            values[part] = {**values[part], name: value}
        else:
            values[part] = value
    return FewCallConfig.from_dict(values)


def within(config: FewCallConfig) -> Experiment:
    """CAKE with as many calls of the teacher in all as an attack has, answers and gradients counted alike.

    A sample costs a call and a gradient in each step, and a call at the end; so few calls leave room for few samples
    and short ways. There are two samples of each class, or one where even ten steps would be too many for two.

    Raises:
        CakeError: not even one step is possible.
    """
    info = data.info(config.data.name)
    classes, calls = len(info.classes), config.budget * len(info.classes)
    each = 2 if calls >= 2 * classes * (2 * 10 + 1) else 1
    usual = Experiment.from_dict({"data": config.data.to_dict(), "method": CAKE}).settings
    steps = min(usual.steps, (calls // (each * classes) - 1) // 2)
    if steps < 1:
        raise CakeError(f"CAKE needs at least 3 calls per class, and there are {config.budget}. Give it more.")
    batches = calls // (each * classes * (2 * steps + 1))
    settings = {"batches": batches, "samples": each * classes, "steps": steps}
    return Experiment.from_dict({**config.experiment.to_dict(), "method": CAKE, "settings": settings})


def free_of_charge(variant: str) -> bool:
    """Whether a variant asks the teacher nothing."""
    return variant != CAKE and not VARIANTS[variant][1].get("asked", True)


class Sweep(Iterator[Update]):
    """Runs every variant with every budget and seed on one teacher.

    All students have the same architecture and make the same number of updates, whatever they learn from.

    Args:
        config: what all share; its seed is where seeds begin.
        variants: keys of `TITLES`.
        budgets: calls per class.
        seeds: how many.
        folder: where attacks are stored (None: among the runs).

    Attributes:
        rows: one for each finished attack: variant, budget (0 for those that ask nothing), seed and the numbers.
        refused: why a variant could not run, by its name; the others go on.
    """

    def __init__(
        self,
        config: FewCallConfig,
        variants: Sequence[str] = tuple(TITLES),
        budgets: Sequence[int] = BUDGETS,
        seeds: int = 1,
        folder: Path | None = None,
    ):
        if unknown := [v for v in variants if v not in TITLES]:
            raise CakeError(f"There is no variant '{unknown[0]}'. Choose some of: {', '.join(TITLES)}.")
        if not variants or not budgets:
            raise CakeError("A sweep needs at least one variant and one budget. Choose some.")
        config = config.with_budget(max(budgets))  # the same proxies for all budgets
        self.folder = folder or runs.folder() / "few-call"
        self.config = config
        self.rows: list[Row] = []
        self.refused: dict[str, str] = {}
        self._card = resolve_teacher(config.experiment)
        self._cells: list[tuple[str, int, FewCallConfig | Experiment]] = []
        # Built now, so that what makes no sense is refused before anything is computed. Proxies of a seed are drawn
        # once and kept, whatever is asked about them.
        for number in range(seeds):
            for place, budget in enumerate(budgets):
                for variant in variants:
                    if free_of_charge(variant):
                        if place:
                            continue  # it is the same whatever the budget
                        self._cells.append((variant, 0, self._cell(config, variant, 1, number)))
                        continue
                    try:
                        self._cells.append((variant, budget, self._cell(config, variant, budget, number)))
                    except CakeError as error:
                        self.refused[f"{variant}, {budget}"] = str(error)
        if not self._cells:
            raise CakeError(next(iter(self.refused.values())))
        self._updates = self._loop()

    @property
    def cells(self) -> int:
        """How many attacks there are."""
        return len(self._cells)

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels the sweep; finished attacks stay."""
        self._updates.close()

    @staticmethod
    def _cell(config: FewCallConfig, variant: str, budget: int, number: int) -> FewCallConfig | Experiment:
        own = {} if variant == CAKE else VARIANTS[variant][1]
        cell = changed(config, budget=budget, seed=config.seed + number, **own)
        return within(cell) if variant == CAKE else cell

    def _loop(self) -> Iterator[Update]:
        self.folder.mkdir(parents=True, exist_ok=True)
        for done, (variant, budget, cell) in enumerate(self._cells):
            path = self._place(cell)
            row = runs.read_json(path)
            if not row:
                title = f"{TITLES[variant]}, {budget} calls per class, seed {cell.seed}"
                try:
                    row = yield from self._run(cell, title, done)
                except CakeError as error:
                    self.refused[variant] = str(error)
                    continue
                row = {"variant": variant, "budget": budget, **row}
                runs.write_json(path, row)
            self.rows.append(row)
            yield Update("evaluation", (done + 1) / self.cells, "Done")
        if not self.rows:
            raise CakeError(next(iter(self.refused.values())))

    def _run(self, cell: FewCallConfig | Experiment, title: str, done: int) -> Iterator[Update]:
        """One attack; returns its numbers."""
        cakes = isinstance(cell, Experiment)
        attack = Distillation(cell, every=sys.maxsize) if cakes else FewCall(cell)
        for update in attack:
            yield Update(update.stage, (done + update.progress) / self.cells, title, training=update.training)
        if not cakes:
            return attack.outcome.to_dict()
        outcome = attack.outcome.to_dict()
        kept = ("seed", "teacher_accuracy", "teacher_accuracy_interval", "agreement", "agreement_interval", "n_test")
        return {
            **{k: outcome[k] for k in kept},
            "accuracy": outcome["student_accuracy"],
            "accuracy_interval": outcome["student_accuracy_interval"],
            "calls": outcome["forward_calls"] + outcome["gradient_calls"],
            "seconds": sum(outcome["seconds"].values()),
            "proxies": f"{outcome['samples']} samples, {cell.settings.steps} steps",
        }

    def _place(self, cell: FewCallConfig | Experiment) -> Path:
        """Where an attack is stored: by all that it depends on, the weights of its networks included."""
        parts = [cell.digest(), teachers.card(self._card).sha256[:12] if self._card else "trained"]
        if isinstance(cell, FewCallConfig) and cell.proxies.source == "diffusion":
            parts.append(model_for(data.info(cell.data.name)).sha256[:12])
        return self.folder / f"{'-'.join(parts)}.json"

    def summary(self) -> list[Row]:
        """Mean and standard deviation over seeds of each variant and budget, with the variants' titles."""
        return [{**r, "title": TITLES[r["variant"]]} for r in summarise(self.rows, ["variant", "budget"], VALUES)]
