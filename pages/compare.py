"""Compare: methods side by side on one teacher, and teachers with students, with several seeds, beside the controls."""

import streamlit as st

from cake_core import data
from cake_core.budget import BUDGETS
from cake_core.errors import CakeError
from cake_core.methods import METHODS
from cake_core.models import MODELS, has_batch_norm
from cake_core.pipeline import Experiment, default_teacher, resolve_teacher
from cake_core.reproduce import fig1_settings
from cake_core.teacher import card, shipped
from pages._ui import live, own_data, panels
from pages._ui.cached import runner
from pages._ui.lab import begin, begun
from pages._ui.page import open_page, remember

open_page(
    "Compare",
    "Which method gives most for the same samples, and who can copy whom? Several seeds, always beside the controls.",
)
CONTROLS = [m.name for m in METHODS.values() if m.control]
methods_tab, duel_tab, networks_tab, paper_tab = st.tabs(
    ["Methods", "Two at once", "Teachers and students", "The paper's tables"]
)


def choose_data(key: str) -> str:
    names = [d.name for d in own_data.sets() if d.has_examples]
    return st.selectbox("Data set", names, format_func=lambda n: data.info(n).title, key=key)


def choose_teacher(name: str) -> str:
    """A shipped teacher of the data, or none, and then one is trained."""
    known = [c.name for c in shipped().values() if c.data["name"] == name]
    first = Experiment.from_query({"data": name})
    usual = resolve_teacher(first) or ""
    titles = {n: card(n).network_title for n in known} | ({} if known else {"": "trained first"})
    names = sorted(titles, key=lambda n: n != usual)
    return st.selectbox("Teacher", names, format_func=titles.get, key=f"compare:teacher:{name}")


def duel(name: str, methods: list[str]) -> None:
    """Two distillations that go in lock-step, in the place of those that were shown before."""
    experiments = [Experiment.from_query({"data": name, "method": m}) for m in methods]
    for old in st.session_state.pop("duel:jobs", []):
        if (job := runner().find(old)) is not None:
            runner().forget(job)
    specs = [{"experiment": e.to_dict()} for e in experiments]
    jobs = [runner().submit("distill", spec, owner=st.session_state.owner) for spec in specs]
    runner().pair(*jobs)
    st.session_state["duel:jobs"] = [j.name for j in jobs]


with methods_tab:
    left, right = st.columns([1, 2.4], gap="large")
    with left:
        name = choose_data("compare:data")
        info = data.info(name)
        teacher = choose_teacher(name)
        usual = Experiment.from_query({"data": name})
        model = card(teacher).model if teacher else default_teacher(usual)
        fits = has_batch_norm(model)
        able = [m for m in METHODS if m not in CONTROLS and ("batchnorm" not in METHODS[m].access or fits)]
        methods = st.multiselect(
            "Methods",
            able,
            ["cake", "lake", "naive"],
            format_func=lambda m: METHODS[m].title,
            key=f"compare:methods:{fits}",
        )
        missing = [m.title for m in METHODS.values() if m.name not in (*able, *CONTROLS)]
        note = f" {', '.join(missing)} need a teacher with batch normalisation." if missing else ""
        st.caption(f"The controls, noise only and Brownian motion, are always there.{note}")
        fitting = [m.name for m in MODELS.values() if info.kind in m.kinds]
        start = ("mlp-norm" if info.kind == "points" else "resnet4-half") if fits else usual.student.model
        student = st.selectbox(
            "Student",
            fitting,
            fitting.index(start),
            format_func=lambda m: MODELS[m].title,
            key=f"compare:student:{name}:{fits}",
        )
        points = info.kind == "points"
        spot = "all start in one spot, as in the paper's Fig. 1"
        own = "each method's own defaults"
        setting = st.radio(
            "Setting",
            [spot, own] if points else [own],
            key=f"compare:setting:{points}",
            help="In one spot: prior spread 0.1, and the same step size, steps and gradient clip for all that have "
            "them. Own defaults: what each page begins with.",
        )
        seeds = st.slider("Seeds", 1, 10, 3 if points else 2, key=f"compare:seeds:{points}")
        budget = st.segmented_control(
            "The same number of",
            list(BUDGETS),
            default="samples",
            required=True,
            width="stretch",
            key="compare:budget",
            help="What all methods get the same of. Calls are samples that the teacher answers, and those that it "
            "gives a gradient for; seconds are those of making samples on this machine. A small trial tells what a "
            "method costs.",
        )
        amount = 0.0
        default = usual.settings
        if budget == "calls":
            few = 2 * default.batches * default.samples * getattr(default, "steps", 1)
            amount = st.number_input("Calls of the teacher", 100, 10**10, few, key=f"compare:calls:{name}")
        elif budget == "seconds":
            amount = st.number_input("Seconds for each run", 1, 3600, 2 if points else 30, key=f"compare:sec:{points}")
        if budget == "samples":
            batches = st.number_input("Mini-batches", 1, 10_000, default.batches, key=f"compare:batches:{name}")
        else:
            batches = default.batches
        samples = st.number_input("Samples per mini-batch", 1, 20_000, default.samples, key=f"compare:samples:{name}")
        if st.button("Compare", type="primary", icon=":material/bar_chart:", width="stretch"):
            try:
                chosen = [*methods, *CONTROLS]
                flat = {"data": name, "batches": str(batches), "samples": str(samples), "student": student}
                flat |= {"teacher": teacher} if teacher else {}
                spec = {"experiment": Experiment.from_query(flat).to_dict(), "methods": chosen, "seeds": seeds}
                spec |= {"budget": budget, "amount": float(amount)}
                if setting == spot:
                    shared = {"batches": batches, "samples": samples}
                    spec["settings"] = {m: fig1_settings(m, 0.1) | shared for m in chosen}
                begin("compare", "compare", spec)
            except CakeError as error:
                st.error(str(error))
    with right:
        if job := begun("compare", "Press **Compare**. On two moons it takes less than a minute."):
            panels.show_comparison(job, key="compare:results")
        else:
            panels.show_figure_one(open=True)

with duel_tab:
    st.markdown(
        "Two methods on the same teacher, from the same noise, step by step at the same pace: one clock for both."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds = [d.name for d in own_data.sets() if d.has_examples]
        name = st.selectbox("Data set", kinds, format_func=lambda n: data.info(n).title, key="duel:data")
        chosen = [
            st.selectbox(label, list(METHODS), list(METHODS).index(m), format_func=lambda n: METHODS[n].title, key=key)
            for label, m, key in (("Left", "cake", "duel:left"), ("Right", "naive", "duel:right"))
        ]
        show = st.button("Show both", type="primary", icon=":material/splitscreen_right:", key="duel:begin")
    if show:
        try:
            duel(name, chosen)
        except CakeError as error:
            st.error(str(error))
    jobs = [runner().find(j) for j in st.session_state.get("duel:jobs", [])]
    if jobs and all(jobs):
        for number, (column, job) in enumerate(zip(st.columns(2, gap="medium"), jobs, strict=True)):
            with column:
                title = METHODS[job.spec["experiment"]["method"]].title
                st.subheader(title, anchor=False)
                live.watch(job, key=f"duel:{number}", rate=30)
                remember(job)
                panels.show_outcome(job, key=f"duel:outcome:{number}")

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
    panels.show_figure_three(open=job is None)

with paper_tab:
    panels.show_tables()
