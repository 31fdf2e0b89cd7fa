"""Runs: everything that this browser or person has made. Find it, note it, compare it, share it, take it away."""

import streamlit as st

from cake_core import runs
from cake_core.errors import CakeError
from pages._ui import run_panels
from pages._ui.owner import key
from pages._ui.page import link, open_page

open_page(
    "Runs",
    "Everything that you have made is kept: find it, note why it matters, put two to four beside each other, and take "
    "it away.",
)


def say_empty() -> None:
    """Says where runs come from."""
    st.info(
        "There are no runs of yours yet. Make some on **Two moons** or **Images**: each is kept here when it has "
        "finished.",
        icon=":material/lightbulb:",
    )
    with st.container(horizontal=True):
        link("two_moons")
        link("images")


if error := st.session_state.pop("runs:error", ""):
    st.error(error, icon=":material/error:")
run_panels.offer_undo()

mine, chosen = runs.entries(key()), []
visits = not mine and bool(st.query_params.get("run", ""))  # somebody's run is what they have come for
if mine:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input("Filter", key="runs:filter", placeholder="cake digits …", icon=":material/search:")
        kinds = ["all", *sorted({e.kind for e in mine})]
        kind = st.selectbox(
            "What",
            kinds,
            format_func=lambda k: "Everything" if k == "all" else run_panels.KINDS.get(k, k),
            key=f"runs:kind:{len(kinds)}",
        )
        sort = st.selectbox(
            "Order", list(run_panels.SORTS), format_func=lambda s: run_panels.SORTS[s][0], key="runs:sort"
        )
        starred = st.toggle("With a star only", key="runs:starred")
    found = run_panels.fitting(mine, words, kind, starred, sort)
    if found:
        chosen = run_panels.chosen_in_table(found)
    else:
        st.info("No run fits. Take a word out of the filter.", icon=":material/search_off:")
elif not visits:
    say_empty()
if not visits:
    run_panels.show_disk(mine)

if not chosen and st.session_state.get("runs:ticked"):
    st.query_params.pop("run", None)  # it showed what was ticked
st.session_state["runs:ticked"] = bool(chosen)
if chosen:
    st.query_params["run"] = ",".join(chosen[: run_panels.MOST])
    if len(chosen) > 1:
        run_panels.delete_button(chosen)
elif given := st.query_params.get("run", ""):
    chosen = given.split(",")[: run_panels.MOST]
else:
    with st.expander("Open a run by its id", icon=":material/link:"):
        wanted = st.text_input(
            "Id", key="runs:id", help="Of a run of the command line, or one of yours. Others' open by their link."
        )
        chosen = [wanted.strip()] if wanted.strip() else []
if len(chosen) > run_panels.MOST:
    st.caption(f"The first {run_panels.MOST} of the {len(chosen)} that are ticked are shown.")
try:
    shown = [runs.entry(run) for run in chosen[: run_panels.MOST]]
except CakeError as error:
    st.error(str(error), icon=":material/error:")
    shown = []
    if visits:
        say_empty()
if len(shown) == 1:
    run_panels.show_run(shown[0])
elif len(shown) > 1 and all(e.kind == "distill" for e in shown):
    run_panels.show_comparison(shown)
elif shown:
    st.info("Only distillations can be put beside each other. Tick others, or one alone.", icon=":material/info:")
elif mine:
    st.caption("Tick a run to see it, or two to four distillations to compare them.")
