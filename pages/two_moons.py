"""Two moons, the flagship: points walk to a teacher's decision boundary while one watches."""

import streamlit as st

from cake_core.errors import CakeError
from cake_core.pipeline import Experiment
from pages._ui import controls, live, panels
from pages._ui.page import Screen, open_page

open_page(
    "Two moons",
    "Press **Play**: random points walk to the boundary between the teacher's classes. "
    "A student then learns from them alone, without ever seeing the teacher's data.",
)

PRESETS = {
    "CAKE": {},
    "Naive": {"method": "naive"},
    "LAKE": {"method": "lake"},
    "One spot, CAKE": {"sigma": "0.1", "step_size": "0.5", "decades": "0"},
    "One spot, LAKE": {"method": "lake", "sigma": "0.1"},
    "Noise only": {"method": "noise"},
}

screen = Screen("two_moons", Experiment.from_query({"data": "moons"}))


def choose(name: str) -> None:
    """A preset changes the method and its settings, not the data."""
    e = screen.experiment
    kept = {k: v for k, v in e.to_query().items() if k == "data" or k.startswith("data.")}
    screen.restart({**kept, **PRESETS[name]})


controls.experiment_controls(screen, "points")
controls.presets(PRESETS, choose, key="two_moons:preset")
screen.show_error()

try:
    job = screen.job()
except CakeError as error:
    st.error(str(error))
    st.stop()
live.watch(
    job,
    key="two_moons:live",
    sliders=controls.sliders(screen.experiment.settings),
    settings_changed=lambda s: screen.change({k: f"{v:.10g}" for k, v in s.items()}),
)
screen.mirror()
panels.show_outcome(job, key="two_moons:outcome")
