"""Few calls: a teacher that only answers, a budget of questions, and what a student learns from the answers."""

import streamlit as st

from cake_core import data
from cake_core.errors import CakeError
from cake_core.few_call import FewCallConfig
from cake_core.links import Link
from cake_core.models import MODELS
from cake_core.pipeline import resolve_teacher
from cake_core.proxies import SOURCES, sources_for
from cake_core.stealing import BUDGETS, TITLES, Sweep
from cake_core.teacher import card, shipped
from pages._ui import controls, few_call_panels
from pages._ui.lab import begin, begun
from pages._ui.page import began_with, computed_on, mirror, open_page

open_page(
    "Few calls",
    "The teacher is a **black box**: it answers questions, shows neither weights nor gradients, and after so many "
    "answers it says no more. Which questions should a thief ask, and how good does the copy get?",
)

POWERS = [1, 2, 4, 8, 16, 32, 64, 128]
QUALITIES = {0.0: "as it is", 0.7: "70 %", 0.9: "90 %", 0.95: "95 %"}


def teacher_of(name: str, usual: str) -> str:
    """One of the shipped teachers of the data; none where there are none, and then one is trained first."""
    known = [c.name for c in shipped().values() if c.data["name"] == name]
    titles = {n: card(n).network_title for n in known} or {"": "trained first"}
    options = sorted(titles, key=lambda n: n != usual)
    return st.selectbox("Teacher", options, format_func=titles.get, key=f"few_call:teacher:{name}")


def chosen(start: FewCallConfig) -> dict:
    """The settings that the widgets have now, as a `FewCallConfig` takes them."""
    fitting = [d for d in data.DATASETS.values() if d.has_examples and sources_for(d)[0] != "noise"]
    names = sorted((d.name for d in fitting), key=lambda n: n != start.data.name)
    name = st.selectbox("Data of the teacher", names, format_func=lambda n: data.info(n).title, key="few_call:data")
    info = data.info(name)
    usual = start if name == start.data.name else FewCallConfig.from_dict({"data": {"name": name}})
    values: dict = {
        "data": usual.data.to_dict(),
        "teacher": teacher_of(name, usual.teacher or resolve_teacher(usual.experiment) or ""),
    }
    values["quality"] = st.segmented_control(
        "Its accuracy",
        sorted({*QUALITIES, usual.quality}),
        default=usual.quality,
        required=True,
        format_func=lambda q: QUALITIES.get(q, f"{100 * q:g} %"),
        width="stretch",
        key="few_call:quality",
        help="How good the teacher is. Other than as it is, one of the same architecture is trained until so many of "
        "the test images are right, and no longer: is a worse teacher harder to copy?",
    )
    values["budget"] = st.select_slider(
        "Calls per class $n$",
        sorted({*POWERS, usual.budget}),
        usual.budget,
        key="few_call:budget",
        help=usual.param("budget").help,
    )
    sources = sources_for(info)
    source = st.selectbox(
        "Questions (proxies)",
        sources,
        sources.index(usual.proxies.source),
        format_func=lambda k: SOURCES[k][0].upper() + SOURCES[k][1:],
        key=f"few_call:source:{info.name}",
        help=usual.proxies.param("source").help,
    )
    values |= controls.configure(usual, info.kind, key="few_call", only=("active", "pseudo"))
    with st.expander("The questions", icon=":material/draw:"):
        # Where a pipeline lies is for the server's owner to say, not for its visitors.
        skip = ("source", "pipeline") if source == "text" else ("source", "pipeline", "prompt")
        only = () if source in ("diffusion", "text") else ("per_class",)
        made = controls.configure(usual.proxies, info.kind, key=f"few_call:{name}", only=only, skip=skip)
        values["proxies"] = {"source": source, **made}
        st.caption("There are at least as many as calls, whatever is chosen here.")
    with st.expander("Choice and pseudo-labels", icon=":material/hub:"):
        values |= controls.configure(
            usual,
            info.kind,
            key="few_call",
            only=("answers", "rounds", "spread", "neighbours", "distance", "pseudo_labels", "weighting", "gate"),
        )
    with st.expander("Student", icon=":material/backpack:"):
        models = [m.name for m in MODELS.values() if info.kind in m.kinds]
        model = st.selectbox(
            "Architecture",
            models,
            models.index(usual.student.model),
            format_func=lambda m: MODELS[m].title,
            key=f"few_call:model:{name}",
        )
        learned = controls.configure(usual.student, info.kind, key=f"few_call:{name}", only=("updates",))
        values["student"] = {"model": model, **learned}
        skip = () if name != "digits" else ("warm_start",)
        values |= controls.configure(usual, info.kind, key="few_call", only=("warm_start", "seed"), skip=skip)
    return values | {"device": start.device}


def attack(values: dict, budget: int) -> FewCallConfig:
    """The settings, with as many proxies as there are calls."""
    return FewCallConfig.from_dict(values | {"budget": 1}).with_budget(budget)


left, right = st.columns([1, 2.4], gap="large")
with left:
    values = chosen(began_with("few_call:start", FewCallConfig)[0])
    mirror(Link(attack(values, values["budget"]).to_query(), computed_on(values["device"])))
    if st.button("Steal", type="primary", icon=":material/key:", width="stretch"):
        try:
            begin("few_call", "steal", {"config": attack(values, values["budget"]).to_dict()})
        except CakeError as error:
            st.error(str(error), icon=":material/error:")
with right:
    attack_tab, sweep_tab, measured_tab = st.tabs(["One attack", "Against the number of calls", "Measured on MNIST"])
with attack_tab:
    if job := begun("few_call", "Press **Steal**: questions are drawn, some of them asked, and a student learns."):
        few_call_panels.show_stolen(job, key="few_call:results")
    else:
        few_call_panels.explain()
with sweep_tab:
    st.markdown("The same teacher, the same student, as many updates: what does each part of the method give?")
    variants = st.multiselect(
        "Ways",
        list(TITLES),
        ["aspkd", "no-pseudo", "random", "prompts", "noise"],
        format_func=TITLES.get,
        key="few_call:variants",
        help="The controls say how much is due to the questions alone: prompts alone learns which class each was made "
        "for and asks nothing; noise asks about noise.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        budgets = st.multiselect("Calls per class", POWERS, list(BUDGETS[:4]), key="few_call:budgets")
        seeds = st.slider("Seeds", 1, 10, 2, key="few_call:seeds", width=180)
        compare = st.button("Compare", icon=":material/bar_chart:", key="few_call:compare")
    if compare:
        try:
            config = attack(values, 1)
            Sweep(config, variants, budgets, seeds)  # refused here where nothing of it can run
            spec = {"config": config.to_dict(), "variants": variants, "budgets": sorted(budgets), "seeds": seeds}
            begin("few_call_sweep", "steal-sweep", spec)
        except CakeError as error:
            st.error(str(error), icon=":material/error:")
    if job := begun("few_call_sweep", "Choose ways and budgets, then press **Compare**."):
        few_call_panels.show_sweep(job, key="few_call_sweep:results")
with measured_tab:
    few_call_panels.show_measured()
