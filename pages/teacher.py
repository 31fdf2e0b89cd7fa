"""Teacher: the shipped ones, what they get wrong, those trained here, and those of one's own."""

import streamlit as st

from cake_core import data, models
from cake_core import teacher as teachers
from cake_core.config import as_text
from cake_core.jobs import Job
from pages._ui import controls, live, own_data, own_teacher, panels
from pages._ui.cached import runner
from pages._ui.lab import begin, begun
from pages._ui.page import PAGES, job_for, know_teacher, open_page, page_path, use_teacher

open_page(
    "Teacher",
    "A teacher is the classifier that gets copied. Look at those that are shipped, train one, or bring your own.",
)

IN_FRONT = ":material/touch_app:"


def offer(job: Job, key: str) -> None:
    """A button that has a page copy the teacher of a finished job."""
    card, name = job.result["card"], f"run:{job.result['run']}"
    know_teacher(name, card["data"]["name"], job.result["title"])
    target = "two_moons" if "surface" in job.result else "images"
    st.markdown(f"Copy it: it can be chosen as teacher on the page {PAGES[target][0]}.")
    if st.button("Use this teacher", icon=":material/arrow_forward:", key=key):
        use_teacher(target, card["data"], name)
        st.switch_page(page_path(target))


shipped, training, bringing = st.tabs(["Shipped teachers", "Train a teacher", "Bring your own"])

with shipped:
    panels.teacher_cards(teachers.shipped())
    names = list(teachers.shipped())
    chosen = st.selectbox("Look inside", names, index=names.index("digits/lenet5"), key="teacher:inspect")
    info = data.info(teachers.shipped()[chosen].data["name"])
    if not info.on_disk():
        st.warning(
            f"To look inside, {info.title} has to be downloaded first (once, some megabytes). Pick it on the tab "
            "Train a teacher, or on the page Images, and it will be.",
            icon=":material/download:",
        )
    else:
        job = job_for("inspect", {"teacher": chosen})
        if live.wait_for(job):
            panels.show_teacher(job, key=f"teacher:seen:{chosen}")

with training:
    left, right = st.columns([1, 2], gap="large")
    with left:
        name = st.selectbox(
            "Data set",
            [d.name for d in own_data.sets() if d.has_examples],
            format_func=lambda n: data.info(n).title,
            key="teacher:data",
        )
        info = data.info(name)
        fitting = [m for m in models.MODELS.values() if info.kind in m.kinds]
        model = st.selectbox("Architecture", [m.name for m in fitting], format_func=lambda m: models.MODELS[m].title)
        st.caption(models.MODELS[model].help)
        values = controls.configure(teachers.recipe(name, model), info.kind, key=f"teacher:recipe:{name}:{model}")
        config = data.DataConfig(name=name)
        if info.drawn:
            config = config.replace(**controls.configure(config, "points", key="teacher:points", skip=("name",)))
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="teacher:seed")
        if st.button("Train", type="primary", icon=":material/school:", width="stretch"):
            spec = {
                "data_config": config.to_dict(),
                "model": model,
                "settings": {k: as_text(v) for k, v in values.items()},
                "seed": int(seed),
                "device": "auto",
            }
            begin("teacher", "teacher", spec)
    with right:
        job = begun("teacher", "Choose data and an architecture, then press **Train**.")
        if job is not None and job.state == "done":
            panels.show_teacher(job, key="teacher:trained")
            offer(job, "teacher:use")

with bringing:
    left, right = st.columns([1, 2], gap="large")
    with left:
        if spec := own_teacher.form():
            begin("teacher:import", "import", spec)
    with right:
        job = runner().find(st.session_state.get("teacher:import:job", ""))
        if job is None:
            st.info("Choose a file; it is checked before it is used, and nothing in it is run.", icon=IN_FRONT)
        elif live.wait_for(job):
            panels.show_teacher(job, key="teacher:imported")
            offer(job, "teacher:use_imported")
