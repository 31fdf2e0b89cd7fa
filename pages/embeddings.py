"""Embeddings: where synthetic samples lie among real ones, as a network sees them."""

import streamlit as st

from pages._ui import live, panels
from pages._ui.page import job_for, open_page
from pages._ui.sources import choose_run

open_page(
    "Embeddings",
    "Each point is an input, placed by the features that the network's last layer gets. The map is made from real "
    "inputs alone; the synthetic samples are then put into it.",
)

chosen = choose_run("embeddings")
if chosen is None:
    st.stop()
run, _ = chosen
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
        "Colour", ["class", "source", "confidence", "batch"], default="class", required=True, key="embeddings:colour"
    )
spec = {"run": run, "network": network, "dimensions": dimensions}
# UMAP begins at once in a process of its own, so that it is ready, or nearly, when somebody asks for it.
jobs = {name: job_for("embedding", {**spec, "how": name}) for name in ("pca", "umap")}
if live.wait_for(jobs[how]):
    panels.show_embedding(jobs[how], colour, key=f"embeddings:{run}:{network}:{how}:{dimensions}")
