"""Student: any architecture on the samples of a run, beside noise and beside the teacher's own data."""

import streamlit as st

from cake_core import data, models
from cake_core.student import StudentConfig
from pages._ui import controls, panels
from pages._ui.lab import begin, begun
from pages._ui.page import open_page
from pages._ui.sources import choose_run

open_page(
    "Student",
    "Who can learn from the same samples? Train any architecture on them, beside a student of pure noise (the control) "
    "and one that was given the teacher's own data (ordinary distillation, the line to reach).",
)

chosen = choose_run("student")
if chosen is None:
    st.stop()
run, experiment = chosen
info = data.info(experiment.data.name)
left, right = st.columns([1, 2.4], gap="large")
with left:
    fitting = [m.name for m in models.MODELS.values() if info.kind in m.kinds]
    start = fitting.index(experiment.student.model)
    model = st.selectbox(
        "Architecture", fitting, start, format_func=lambda m: models.MODELS[m].title, key="student:model"
    )
    st.caption(models.MODELS[model].help)
    values = controls.configure(
        StudentConfig.for_data(info), info.kind, key=f"student:{info.kind}", skip=("model", "weight_decay", "shift")
    )
    seeds = st.slider(
        "Seeds",
        1,
        5,
        3 if info.kind == "points" else 2,
        key=f"student:seeds:{info.kind}",
        help="How many students of each kind, with different initial weights.",
    )
    if st.button("Train", type="primary", icon=":material/backpack:", width="stretch"):
        config = StudentConfig.for_data(info, **values, model=model)
        spec = {"run": run, "student": config.to_dict(), "seeds": seeds}
        begin("student", "students", spec)
with right:
    if job := begun("student", "Press **Train**: students of three kinds learn side by side."):
        panels.show_students(job, key="student:results")
