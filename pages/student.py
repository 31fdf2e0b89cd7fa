"""Student: any architecture on the samples of a run, beside noise, beside distillation with data, beside the labels."""

import streamlit as st

from cake_core import data, models
from cake_core import teacher as teachers
from cake_core.comparison import CONTROL, SOURCES
from cake_core.student import KDConfig, StudentConfig
from pages._ui import controls, live, panels
from pages._ui.cached import parameter_counts
from pages._ui.lab import begin, begun
from pages._ui.page import open_page
from pages._ui.sources import choose_run

open_page(
    "Student",
    "Who can learn from the same samples? Train any architecture on them, beside three others of the same kind: one of "
    "pure noise (the control), one distilled with the teacher's own data, and one that learns the real labels without "
    "a teacher.",
)

WHAT = {
    "samples": "The synthetic samples chosen above, with the teacher's answers.",
    "noise": "As many samples of noise, with the teacher's answers. Whatever a method claims must be more than "
    "this gives, so this student is always there.",
    "kd": "The real training data, with their labels and the teacher's softened answers: what one would do with data.",
    "labels": "The real training data and their labels, without a teacher.",
}
QUICK = 1500  # updates with which the page answers in about a minute on a laptop

chosen = choose_run("student")
if chosen is None:
    st.stop()
run, experiment = chosen
info, card = data.info(experiment.data.name), teachers.card(f"run:{run}")
left, right = st.columns([1, 2.4], gap="large")
with left:
    counting = parameter_counts(info.name)
    counts = counting.result["parameters"] if live.wait_for(counting) else {}
    fitting = [m.name for m in models.MODELS.values() if info.kind in m.kinds]
    fitting.sort(key=lambda m: counts.get(m, 0))
    model = st.selectbox(
        "Architecture",
        fitting,
        fitting.index(experiment.student.model),
        format_func=lambda m: panels.architecture(m, counts.get(m)),
        key=f"student:model:{info.name}:{bool(counts)}",  # other words in the list make another list
        help="From the smallest to the largest. It need not be of the teacher's type or size.",
    )
    st.caption(models.MODELS[model].help)
    if counts:
        panels.show_sizes(counts[model], card)
    st.markdown("Students learn from")
    sources = [
        k
        for k, title in SOURCES.items()
        if st.checkbox(title, True, key=f"student:from:{k}", help=WHAT[k], disabled=k == CONTROL)
    ]
    st.caption("All get the same number of updates and, for each seed, the same initial weights.")
    wanted = {"temperature": experiment.student.temperature}
    wanted["batch_statistics"] = experiment.student.batch_statistics and models.has_batch_norm(model)
    start = StudentConfig.for_data(info, model=model, **wanted)
    start = start.replace(updates=min(QUICK, start.updates))
    key = f"student:{info.name}"
    values = controls.configure(start, info.kind, key=key, only=("updates",))
    seeds = st.slider(
        "Seeds", 1, 5, 2, key="student:seeds", help="How many students of each kind, with different initial weights."
    )
    with st.expander("Training", icon=":material/tune:"):
        values |= controls.configure(
            start, info.kind, key=key, only=("targets", "temperature", "batch_size", "optimizer")
        )
        values |= controls.configure(start, info.kind, key=f"{key}:{model}", only=("learning_rate",))
    kd = KDConfig()
    if "kd" in sources:
        with st.expander("Distillation with data", icon=":material/thermostat:"):
            st.latex(r"(1-a)\,\mathrm{CE}(y, p_S) + a\,t^2\,\mathrm{KL}(p_T^t \,\|\, p_S^t)")
            st.caption("The factor t² keeps the teacher's share as strong at any t. Hinton, Vinyals and Dean (2015).")
            kd = kd.replace(**controls.configure(kd, info.kind, key="student:kd"))
    students = len(sources) * seeds
    st.caption(f"{students} students, {students * values['updates']:,} updates in all.")
    if st.button("Train", type="primary", icon=":material/backpack:", width="stretch"):
        config = start.replace(**values)
        spec = {"run": run, "student": config.to_dict(), "seeds": seeds, "sources": sources, "kd": kd.to_dict()}
        begin("student", "students", spec)
with right:
    if job := begun("student", "Press **Train**: students of up to four kinds learn side by side."):
        panels.show_students(job, key="student:results")
