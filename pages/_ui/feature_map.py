"""The map of feature space on a page, and what is selected in it: as images, in words and as a table."""

from __future__ import annotations

import csv
import io
from typing import Any

import plotly
import streamlit as st

from cake_core import figures
from cake_core.embedding import Embedding
from cake_core.jobs import Job

from . import live
from .embedding_view import embedding_view
from .words import chart

__all__ = ["COLOURS", "show_map"]

# What points can be coloured by: a word for the switch, and what it shows.
COLOURS = {
    "class": ("Class", "Real inputs have the colour of their true class, samples that of the network's answer."),
    "source": ("Source", "Grey: real test inputs, which no sample has ever seen. Blue: synthetic samples."),
    "confidence": ("Confidence", "The network's largest probability, from a blind guess to certainty."),
    "batch": ("Mini-batch", "Samples by the mini-batch they come from, real inputs in grey."),
    "step": ("Step", "Samples at all moments of their way, by the steps they had taken; real inputs in grey."),
}
MAPS = {
    "pca": "PCA keeps distances as well as a flat picture can{kept}. The same map holds for every sample and moment.",
    "umap": "UMAP keeps neighbourhoods: who is near whom. Distances between groups, and places of points that are "
    "unlike all real inputs, as noise is, say little.",
}


def show_map(job: Job, *, network: str, colour: str, trajectories: bool, key: str) -> None:
    """A finished embedding, and what is selected in it. The selection is kept by the samples' names, so that it goes
    on from one map of a run to the next.

    Args:
        job: the finished job.
        network: "teacher" or "student".
        colour: a key of `COLOURS`.
        trajectories: whether the ways of the samples are drawn.
        key: prefix of the widgets' keys.
    """
    found, run = Embedding.decode(job.scene), job.spec["run"]
    selections: dict[str, list[str]] = st.session_state.setdefault(f"{key}:selections", {})

    @st.fragment
    def picture() -> None:
        if live.reachable():
            _interactive(job, found, network, colour, trajectories, key, selections)
        else:
            selections[run] = _static(found, colour, key)
        kept = f" (here {100 * found.explained:.0f} % of the variance)" if found.explained else ""
        st.caption(
            f"{found.real:,} real test inputs (open circles) and {found.ended - found.real:,} synthetic samples "
            f"(filled diamonds), placed by what the {network}'s last layer is given. {COLOURS[colour][1]} "
            + MAPS[found.how].format(kept=kept)
        )
        _selection(found, selections.get(run, []), network, key)

    picture()


def _interactive(
    job: Job,
    found: Embedding,
    network: str,
    colour: str,
    trajectories: bool,
    key: str,
    selections: dict[str, list[str]],
) -> None:
    def selected() -> None:
        told = st.session_state[f"{key}:view"].get("selected")
        if told:
            selections[told["run"]] = told["names"]

    embedding_view(
        {
            "run": job.spec["run"],
            "scene": f"{live.prefix()}live/scenes/{job.name}",
            "plotly": f"{live.prefix()}live/{plotly.__version__}/plotly.min.js",
            "colour": colour,
            "colours": figures.CLASS_COLOURS,
            "trajectories": trajectories,
            "chosen": selections.get(job.spec["run"], []),
            "alt": f"Map by {found.how.upper()} of {found.real} real test inputs and {found.ended - found.real} "
            f"synthetic samples as the {network} sees them, coloured by {COLOURS[colour][0].lower()}.",
        },
        key=f"{key}:view",
        on_selected_change=selected,
    )


def _static(found: Embedding, colour: str, key: str) -> list[str]:
    """For servers without our routes: no images at the pointer and no trajectories, but the same points."""
    shown = chart(figures.embedding(found, colour), key=f"{key}:chart:{found.how}:{colour}", on_select="rerun")
    return [p["customdata"] for p in shown["selection"]["points"] if isinstance(p.get("customdata"), str)]


def _selection(found: Embedding, names: list[str], network: str, key: str) -> None:
    entries = found.table(names)
    if not entries:
        st.caption("Nothing is selected yet: what you select is listed here, with its images beside the map.")
        return
    shares = found.shares(names)
    classes = list(shares["classes"].items())
    words = ", ".join(f"**{name}** {100 * share:.0f} %" for name, share in classes[:6])
    rest = f", and {len(classes) - 6} more" if len(classes) > 6 else ""
    st.markdown(
        f"**{len(entries):,} selected**: {shares['real']:,} real, {shares['synthetic']:,} synthetic. "
        f"Classes: {words}{rest}."
    )
    share = {"format": "percent", "help": f"The {network}'s largest probability."}
    st.dataframe(
        entries,
        hide_index=True,
        height=min(420, 36 * (len(entries) + 1)),
        column_config={
            "number": st.column_config.NumberColumn(help="Place in its own set: the test data, or the samples."),
            "answer": st.column_config.TextColumn(help=f"The class that the {network} names."),
            "confidence": st.column_config.NumberColumn(**share),
            "mini-batch": st.column_config.NumberColumn(format="plain"),
            "step": st.column_config.NumberColumn(format="plain", help="Steps that the sample had taken."),
            "distance to boundary": st.column_config.NumberColumn(
                format="%.3f",
                help=f"Distance to the {network}'s decision boundary, to first order, where inputs have standard "
                "deviation 1 in each dimension.",
            ),
        },
    )
    st.download_button(
        "Download as CSV", _csv(entries), "selection.csv", "text/csv", icon=":material/download:", key=f"{key}:csv"
    )


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
