"""Embeddings: where synthetic samples lie among real ones, as a network sees them, and how they came there."""

import streamlit as st

from cake_core import runs
from cake_core.history import History
from pages._ui import live
from pages._ui.feature_map import COLOURS, show_map
from pages._ui.page import job_for, open_page
from pages._ui.sources import choose_run

open_page(
    "Embeddings",
    "Each point is an input, placed by the features that the network's last layer gets. The map is made from real "
    "inputs alone; the synthetic samples, and the way they came, are then put into it.",
)

chosen = choose_run("embeddings")
if chosen is None:
    st.stop()
run, experiment = chosen
kept = History.path(runs.find(run)).is_file()
with st.container(horizontal=True, vertical_alignment="bottom"):
    network = st.segmented_control(
        "Seen by", ["teacher", "student"], default="teacher", required=True, key="embeddings:network"
    )
    how = st.segmented_control(
        "Map",
        ["pca", "umap"],
        default="pca",
        required=True,
        format_func=str.upper,
        key="embeddings:how",
        help="PCA is at once there and keeps distances; UMAP takes seconds and keeps neighbourhoods. Both are the same "
        "each time for the same seed.",
    )
    dimensions = st.segmented_control(
        "Dimensions", [2, 3], default=2, required=True, format_func=lambda d: f"{d}-D", key="embeddings:dimensions"
    )
    colour = st.segmented_control(
        "Colour",
        list(COLOURS),
        default="class",
        required=True,
        format_func=lambda name: COLOURS[name][0],
        key="embeddings:colour",
    )
    trajectories = st.toggle(
        "Trajectories",
        key="embeddings:trajectories",
        disabled=not kept,
        help="Lines from where samples started to where they ended, in the same map; the slider above the picture "
        "moves through the steps.",
    )
if not kept:
    st.caption("This run was stored without a history of its samples, so there are no trajectories and no steps.")
elif not getattr(experiment.settings, "steps", 0):
    st.caption("These samples are noise that stays where it is: there are no trajectories to see.")
spec = {"run": run, "network": network, "dimensions": dimensions}
# UMAP begins at once in a process of its own, so that it is ready, or nearly, when somebody asks for it.
jobs = {name: job_for("embedding", {**spec, "how": name}) for name in ("pca", "umap")}
if live.wait_for(jobs[how]):
    show_map(jobs[how], network=network, colour=colour, trajectories=trajectories, key="embeddings")
