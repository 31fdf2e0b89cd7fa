"""The screen that Two moons and Images share: controls beside it, presets above it, the live view, the results."""

from __future__ import annotations

from collections.abc import Mapping

from cake_core.pipeline import Experiment

from . import controls, live, panels
from .page import Screen, remember

__all__ = ["distillation_lab"]


def distillation_lab(name: str, default: str, presets: Mapping[str, Mapping[str, str]], *, rate: float = 30) -> None:
    """A distillation to watch and to steer.

    Args:
        name: of the page.
        default: the data set it begins with; sets of the same kind can be chosen.
        presets: by name, the keys of the URL that they set.
        rate: steps per second at speed 1.
    """
    screen = Screen(name, Experiment.from_query({"data": default}))
    kind = controls.experiment_controls(screen, default)
    controls.presets(screen, presets)
    screen.show_error()
    job = screen.job()
    live.watch(
        job,
        key=f"{name}:live",
        sliders=controls.sliders(screen.experiment.settings, kind),
        rate=rate,
        settings_changed=screen.settle,
    )
    screen.mirror()
    remember(job)
    panels.show_outcome(job, key=f"{name}:outcome")
