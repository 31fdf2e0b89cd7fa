"""Tune: a search for better settings, judged without the test data, and what it found run again beside its controls."""

import streamlit as st

from cake_core import data, studies
from cake_core.errors import CakeError
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment
from cake_core.studies import FREE, HUMAN, OBJECTIVES, TuneConfig
from pages._ui import controls, own_data, tuning_panels
from pages._ui.page import open_page

open_page(
    "Tune",
    "Which settings copy best? Many small runs, each chosen by what the ones before have shown. Trials are never "
    "judged on the test examples; what they find is run again on these, beside the defaults and noise.",
)
SPOT = "0.1"  # prior spread on points; from 1 on there is nothing to gain
HINT = "Choose what to tune and what for, then press **Tune**. On two moons a trial takes about a second."


def base_experiment() -> Experiment:
    """Data, method and the settings that every trial begins with."""
    sets = [d.name for d in own_data.sets()]
    name = st.selectbox("Data set", sets, format_func=lambda n: data.info(n).title, key="tune:data")
    names = list(METHODS)
    method = st.selectbox(
        "Method", names, names.index("cake"), format_func=lambda n: METHODS[n].title, key="tune:method"
    )
    key, kind = f"tune:{name}:{method}", data.info(name).kind
    usual = Experiment.from_query({"data": name, "method": method, **({"sigma": SPOT} if kind == "points" else {})})
    with st.expander("What every trial begins with", icon=":material/timeline:"):
        made = controls.configure(usual.settings, kind, key=key, only=("batches", "samples", "steps", "sigma"))
        learned = controls.configure(usual.student, kind, key=f"{key}:student", only=("updates",))
        st.caption("Smaller runs make more trials in the same time. What is best for small ones need not be for large.")
        if kind == "points":
            st.caption("The prior spread is small, as in the paper's Fig. 1: with a large one noise alone is enough.")
    settings = usual.settings.replace(**made)
    return usual.replace(settings=settings, student=usual.student.replace(**learned))


def search_space(experiment: Experiment) -> dict:
    """What is tuned, and between which values."""
    known, key = studies.tunable(experiment), f"tune:{experiment.data.name}:{experiment.method}"
    chosen = st.multiselect(
        "What to tune",
        list(known),
        list(studies.usual(experiment)),
        format_func=lambda n: ("Student: " if "." in n else "") + known[n].label,
        key=f"{key}:what",
        help="Every setting that the method and its student declare.",
    )
    with st.expander("Between which values", icon=":material/straighten:"):
        return {
            n: tuning_panels.choose_range(known[n], studies.begun(experiment, n), f"{key}:range:{n}") for n in chosen
        }


def objectives(experiment: Experiment) -> tuple[str, ...]:
    """What trials are judged by, with a sentence on the real data that it uses."""
    info = data.info(experiment.data.name)
    fitting = [k for k, o in OBJECTIVES.items() if o.suits in ("", info.kind) and (info.has_examples or not o.data)]
    chosen = st.multiselect(
        "What for",
        fitting,
        [FREE],
        format_func=lambda k: OBJECTIVES[k].title,
        key=f"tune:objectives:{info.name}",
        help="With several, there is no best trial but a front of those that no other beats in all of them.",
    )
    for k in chosen:
        st.caption(f"**{OBJECTIVES[k].title}.** {OBJECTIVES[k].help} {studies.USES[OBJECTIVES[k].data]}")
    return tuple(chosen)


left, right = st.columns([1, 2.4], gap="large")
with left:
    experiment = base_experiment()
    space = search_space(experiment)
    wanted = objectives(experiment)
    human = HUMAN in wanted
    trials = st.slider("Trials", 2, 300, 6 if human else 30, key=f"tune:trials:{human}")
    with st.expander("Search", icon=":material/tune:"):
        search = controls.configure(TuneConfig(space=studies.usual(Experiment())), "", key="tune:search")
        workers = st.slider("Workers", 1, 4, 1, key="tune:workers", help="Processes that try settings side by side.")
        finals = st.slider(
            "Seeds of the final runs",
            0,
            10,
            0 if human else 3,
            key=f"tune:finals:{human}",
            help="With how many fresh seeds the best setting is run again on the test examples, beside the defaults "
            "and the noise control. 0 leaves this for later.",
        )
    if st.button("Tune", type="primary", icon=":material/tune:", width="stretch"):
        try:
            values = {"experiment": experiment, "space": space, "objectives": wanted, **search}
            tuning_panels.begin_study(TuneConfig.from_dict(values), trials=trials, workers=workers, finals=finals)
        except CakeError as error:
            st.error(str(error), icon=":material/error:")
with right:
    study = tuning_panels.shown_study()
    tuning_panels.choose_earlier(study)
    if study is None:
        st.info(HINT, icon=":material/touch_app:")
        tuning_panels.explain()
    else:
        job = tuning_panels.watched()
        tuning_panels.go_on(study, job)
        tuning_panels.show(study, job)
