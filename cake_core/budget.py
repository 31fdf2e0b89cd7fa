"""One budget for methods of very different kinds: as many samples, as many calls of the teacher, or as many seconds."""

from __future__ import annotations

import time
from typing import Literal

from .errors import CakeError
from .methods import find
from .pipeline import Distillation, Experiment
from .teacher import Teacher

__all__ = ["BUDGETS", "Budget", "fit"]

Budget = Literal["samples", "calls", "seconds"]
BUDGETS: dict[Budget, str] = {
    "samples": "samples",
    "calls": "calls of the teacher, forward and gradient",
    "seconds": "seconds of making samples",
}
PILOT_STEPS = (2, 12)  # of a generator, whose cost grows with its steps
MOST_SAMPLES = 40_000  # that a cheap method is given; more would not fit into memory


def fit(experiment: Experiment, teacher: Teacher, kind: Budget, amount: float) -> Experiment:
    """An experiment whose making of samples costs about an amount, judged by a small pilot.

    A method whose mini-batches are made one by one gets more or fewer of them; one that trains a generator gets more or
    fewer steps. At the budget "samples" nothing is changed, but for methods that deliver several samples of each one
    that they begin.

    Args:
        experiment: with the method's other settings.
        teacher: whom the pilot asks.
        kind: what the budget is counted in.
        amount: how much of it, for one seed.

    Raises:
        CakeError: the amount is not enough for a single mini-batch or step.
    """
    if kind not in BUDGETS:
        raise CakeError(f"There is no budget in {kind}. Choose one of: {', '.join(BUDGETS)}.")
    method, settings = find(experiment.method), experiment.settings
    delivered = method(settings).delivered
    if kind == "samples":
        return experiment.replace(settings=settings.replace(batches=max(1, settings.batches // delivered)))
    if method.whole:
        few, many = (_cost(experiment.replace(settings=settings.replace(steps=n)), teacher, kind) for n in PILOT_STEPS)
        each = max((many - few) / (PILOT_STEPS[1] - PILOT_STEPS[0]), 1e-9)
        number = (amount - (few - each * PILOT_STEPS[0])) / each
        name, least, most = "steps", 1, settings.param("steps").high
    else:
        number = amount / max(_cost(experiment.replace(settings=settings.replace(batches=1)), teacher, kind), 1e-9)
        name, least, most = "batches", 1, max(1, MOST_SAMPLES // (settings.samples * delivered))
    if number < least:
        raise CakeError(
            f"{method.title} needs more than {amount:,.0f} {BUDGETS[kind]} for its smallest run. Give it more."
        )
    return experiment.replace(settings=settings.replace(**{name: int(min(number, most))}))


def _cost(experiment: Experiment, teacher: Teacher, kind: Budget) -> float:
    """What the samples of an experiment cost."""
    run = Distillation(experiment, teacher=teacher, every=10**9)
    start = None
    for update in run:
        if start is None and update.stage == "synthesis":
            start = time.perf_counter()
        if run.samples is not None:
            break
    run.close()
    if kind == "seconds":
        return time.perf_counter() - start
    return run.oracle.forward_calls + run.oracle.gradient_calls
