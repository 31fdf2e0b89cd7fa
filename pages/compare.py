"""Compare: methods side by side on one teacher, and teachers with students, with several seeds, beside the controls."""

import streamlit as st

from cake_core import data
from cake_core.errors import CakeError
from cake_core.methods import METHODS
from cake_core.models import MODELS
from cake_core.pipeline import Experiment
from cake_core.reproduce import fig1_settings
from cake_core.teacher import shipped
from pages._ui import own_data, panels
from pages._ui.lab import begin, begun
from pages._ui.page import open_page

open_page(
    "Compare",
    "Which method gives most for the same samples, and who can copy whom? Several seeds, always beside the controls.",
)
CONTROLS = [m.name for m in METHODS.values() if m.control]
methods_tab, networks_tab = st.tabs(["Methods", "Teachers and students"])


def choose_data(key: str) -> str:
    names = [d.name for d in own_data.sets() if d.has_examples]
    return st.selectbox("Data set", names, format_func=lambda n: data.info(n).title, key=key)


with methods_tab:
    left, right = st.columns([1, 2.4], gap="large")
    with left:
        name = choose_data("compare:data")
        methods = st.pills(
            "Methods",
            [m for m in METHODS if m not in CONTROLS],
            selection_mode="multi",
            default=["cake", "lake", "naive"],
            format_func=lambda m: METHODS[m].title,
            key="compare:methods",
        )
        st.caption("The controls, noise only and Brownian motion, are always there.")
        points = data.info(name).kind == "points"
        default = Experiment.from_query({"data": name}).settings
        spot = "all start in one spot, as in the paper's Fig. 1"
        choices = [spot, "each method's own defaults"] if points else ["each method's own defaults"]
        setting = st.radio(
            "Setting",
            choices,
            key=f"compare:setting:{points}",
            help="In one spot: prior spread 0.1, and the same step size, steps and gradient clip for all. "
            "Own defaults: what each page begins with.",
        )
        seeds = st.slider("Seeds", 1, 10, 3 if points else 2, key=f"compare:seeds:{points}")
        batches = st.number_input("Mini-batches", 1, 10_000, default.batches, key=f"compare:batches:{name}")
        samples = st.number_input("Samples per mini-batch", 1, 20_000, default.samples, key=f"compare:samples:{name}")
        if st.button("Compare", type="primary", icon=":material/bar_chart:", width="stretch"):
            try:
                chosen = [*methods, *CONTROLS]
                flat = {"data": name, "batches": str(batches), "samples": str(samples)}
                spec = {"experiment": Experiment.from_query(flat).to_dict(), "methods": chosen, "seeds": seeds}
                if setting == spot:
                    budget = {"batches": batches, "samples": samples}
                    spec["settings"] = {m: fig1_settings(m, 0.1) | budget for m in chosen}
                begin("compare", "compare", spec)
            except CakeError as error:
                st.error(str(error))
    with right:
        if job := begun("compare", "Press **Compare**. On two moons it takes less than a minute."):
            panels.show_comparison(job, key="compare:results")

with networks_tab:
    left, right = st.columns([1, 2.4], gap="large")
    with left:
        name = choose_data("grid:data")
        info = data.info(name)
        fitting = [m.name for m in MODELS.values() if info.kind in m.kinds]
        known = {c.name: c.network_title for c in shipped().values() if c.data["name"] == name}
        known |= {m: f"{MODELS[m].title}, trained first" for m in fitting if f"{name}/{m}" not in known}
        teachers = st.multiselect(
            "Teachers", list(known), list(known)[:1], format_func=known.get, key=f"grid:teachers:{name}"
        )
        students = st.multiselect(
            "Students", fitting, fitting[:2], format_func=lambda m: MODELS[m].title, key=f"grid:students:{name}"
        )
        default = Experiment.from_query({"data": name})
        seeds = st.slider("Seeds", 1, 10, 2, key=f"grid:seeds:{name}")
        batches = st.number_input(
            "Mini-batches of samples", 1, 10_000, default.settings.batches, key=f"grid:batches:{name}"
        )
        updates = st.number_input(
            "Updates of each student", 1, 1_000_000, default.student.updates, key=f"grid:updates:{name}"
        )
        st.caption(
            f"{len(teachers) * len(students) * seeds} students, {len(teachers) * len(students)} more of noise alone. "
            "What was computed before is not computed again."
        )
        if st.button("Compare", type="primary", icon=":material/grid_view:", width="stretch", key="grid:begin"):
            try:
                flat = {"data": name, "batches": str(batches)}
                spec = {
                    "experiment": Experiment.from_query(flat).to_dict(),
                    "teachers": teachers,
                    "students": students,
                    "seeds": seeds,
                    "student": {"updates": updates},
                }
                begin("grid", "grid", spec)
            except CakeError as error:
                st.error(str(error))
    with right:
        if job := begun("grid", "Choose teachers and students, then press **Compare**."):
            panels.show_grid(job, key="grid:results")
    panels.show_figure_three()
