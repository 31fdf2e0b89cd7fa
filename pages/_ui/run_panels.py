"""Panels of the page Runs: the list, one run, several beside each other. They compute nothing."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from cake_core import data, export, run_figures, runs
from cake_core.alt_text import alt_text
from cake_core.config import as_text
from cake_core.errors import CakeError
from cake_core.journal import resumable
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment
from cake_core.runs import Entry

from . import account, live, panels, routes
from .lockstep import lockstep
from .owner import key as owner_key
from .owner import pass_for, while_seen
from .page import continue_run, finished_runs, job_for, page_path, show_experiment
from .share import share_run

__all__ = [
    "KINDS",
    "MOST",
    "SORTS",
    "chosen_in_table",
    "delete_button",
    "fitting",
    "method_on",
    "offer_undo",
    "show_comparison",
    "show_disk",
    "show_run",
]

KINDS = {
    "distill": "Distillation",
    "students": "Students",
    "compare": "Comparison",
    "grid": "Teachers and students",
    "steal": "Few calls",
    "steal-sweep": "Few calls, compared",
    "teacher": "Teacher",
    "import": "Imported teacher",
    "lineup": "Line-up",
    "audit": "Check of a suspect",
    "tune": "Study",
}
SORTS = {
    "latest": ("Latest first", lambda e: -e.created),
    "oldest": ("Oldest first", lambda e: e.created),
    "accuracy": ("Accuracy", lambda e: -(e.accuracy if e.accuracy is not None else -1)),
    "agreement": ("Agreement", lambda e: -(e.agreement if e.agreement is not None else -1)),
    "samples": ("Fewest samples", lambda e: e.samples if e.samples is not None else 1e12),
    "size": ("Largest on disk", lambda e: -e.bytes),
}
MOST = 4  # runs beside each other


# -- the list ---------------------------------------------------------------------------------------------------------


def title_of(e: Entry) -> str:
    """A run in a few words."""
    if e.kind != "distill":
        return " on ".join(filter(None, (KINDS.get(e.kind, e.kind), _data(e.data))))
    return f"{method_on({'method': e.method, 'data': {'name': e.data}})}, seed {e.seed}"


def method_on(experiment: Mapping[str, Any]) -> str:
    """What is done to which data, as pages call both.

    Args:
        experiment: as `Experiment.to_dict` gives it.
    """
    method = experiment.get("method", "")
    title = METHODS[method].title if method in METHODS else method
    return " on ".join(filter(None, (title, _data((experiment.get("data") or {}).get("name", "")))))


def _data(name: str) -> str:
    try:
        return data.info(name).title if name else ""
    except CakeError:  # somebody's own: removed, or not to be seen
        return "data that are not here"


def fitting(found: Sequence[Entry], words: str, kind: str, starred: bool, sort: str) -> list[Entry]:
    """The runs that a filter leaves, in order: all words have to be in the title, the note, the settings or the id."""
    wanted = words.lower().split()
    left = [
        e
        for e in found
        if (kind == "all" or e.kind == kind)
        and (e.star or not starred)
        and all(w in f"{title_of(e)} {e.note} {e.method} {e.data} {e.student} {e.run}".lower() for w in wanted)
    ]
    return sorted(left, key=SORTS[sort][1])


def chosen_in_table(found: Sequence[Entry]) -> list[str]:
    """Shows runs as a table; returns the ids of those that are ticked."""
    rows = [
        {
            "★": "★" if e.star else "",
            "shared": "yes" if e.shared else "",
            "run": title_of(e) + ("" if e.finished else " (not finished)"),
            "made": time.strftime("%Y-%m-%d %H:%M", time.localtime(e.created)),
            "accuracy, %": _percent(e.accuracy),
            "agreement, %": _percent(e.agreement),
            "noise only, %": _percent(e.control),
            "samples": e.samples,
            "note": e.note,
            "MB": e.bytes / 1e6,
        }
        for e in found
    ]
    number = st.column_config.NumberColumn
    event = st.dataframe(
        rows,
        hide_index=True,
        height=min(420, 36 * (len(rows) + 1)),
        key=f"runs:table:{hash(tuple(e.run for e in found))}",
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="",
        column_config={
            "★": st.column_config.TextColumn(width=32),
            "run": st.column_config.TextColumn(width=280),
            "accuracy, %": number(format="%.1f", help="Of the student, on real test data."),
            "agreement, %": number(format="%.1f", help="Share of the test data on which student and teacher agree."),
            "noise only, %": number(format="%.1f", help="The same for the control: a student of pure noise."),
            "samples": number(format="localized", help="Synthetic samples that the student learned from."),
            "shared": st.column_config.TextColumn(width=60, help="Whether others can open it by its link."),
            "note": st.column_config.TextColumn(width="medium"),
            "MB": number(format="%.1f", help="What the run takes on the server's disk."),
        },
    )
    return [found[row].run for row in event["selection"]["rows"] if row < len(found)]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def show_disk(mine: Sequence[Entry]) -> None:
    """How much the runs take, and what happens when it is too much."""
    known = "your account" if account.login_is_on() else "a cookie of this browser"
    total, limit = sum(e.bytes for e in runs.entries()), runs.limit()
    st.caption(
        f"{len(mine):,} {'run' if len(mine) == 1 else 'runs'} of yours, {sum(e.bytes for e in mine) / 1e6:,.1f} MB. "
        f"All runs on this server take {total / 1e6:,.1f} MB of {limit / 1e9:.3g} GB; when that is full, the oldest "
        f"runs without a star make way for new ones. Yours are known by {known}; nobody else sees them, but those to "
        "whom you give the link of one that you share."
    )


def offer_undo() -> None:
    """Says what was deleted last, and brings it back."""
    gone: list[str] = st.session_state.get("runs:deleted", [])
    if not gone:
        return

    def undo() -> None:
        for run in gone:
            try:
                runs.undelete(run, owner_key())
            except CakeError as error:
                st.session_state["runs:error"] = str(error)
        st.session_state["runs:deleted"] = []

    with st.container(horizontal=True, vertical_alignment="center"):
        words = "1 run was deleted." if len(gone) == 1 else f"{len(gone)} runs were deleted."
        st.info(f"{words} It can be undone for an hour.", icon=":material/delete:")
        st.button("Undo", icon=":material/undo:", on_click=undo, key="runs:undo")


def delete_button(chosen: Sequence[str]) -> None:
    """Puts runs away."""

    def delete() -> None:
        done = []
        for run in chosen:
            try:
                runs.delete(run, owner_key())
                done.append(run)
            except CakeError as error:
                st.session_state["runs:error"] = str(error)
        st.session_state["runs:deleted"] = done
        st.query_params.pop("run", None)

    words = "Delete" if len(chosen) == 1 else f"Delete these {len(chosen)}"
    st.button(words, icon=":material/delete:", on_click=delete, key="runs:delete")


# -- one run ----------------------------------------------------------------------------------------------------------


def show_run(e: Entry) -> None:
    """One run: what it was, what came of it, and where to go on with it."""
    mine = e.owner == owner_key()
    st.subheader(title_of(e), anchor=False)
    _marks(e, mine)
    config, happened = runs.begun(e.run), runs.events(e.run)
    if not e.finished:
        _unfinished(e, happened, mine)
    if told := runs.read_json(runs.find(e.run) / "tracker.json"):
        _tracker(told, e.run)
    if e.kind == "distill":
        _doors(e)
        result = runs.read(e.run) if e.finished else None
        if result is not None:
            panels.show_result(result, key=f"runs:{e.run}")
        st.subheader("How it went", anchor=False)
        show_pictures([e])
        show_curves([e])
        if e.finished:
            show_exports(e)
    elif e.kind == "tune":
        if st.button("Open it on Tune", icon=":material/tune:", key=f"runs:tune:{e.run}"):
            st.session_state["tune:study"] = e.run
            st.switch_page(page_path("tune"))
    elif e.finished:
        st.info("Its results are shown by the page that made it, while that page is open.", icon=":material/info:")
    with st.expander("Settings and surroundings", icon=":material/tune:"):
        _settings(e, config, happened)


def show_exports(e: Entry) -> None:
    """What can be taken away: small things at once, large ones when they have been made."""
    st.subheader("Take it away", anchor=False)
    try:
        stored = export.Stored(e.run)
        st.caption(f"{stored.title}: a program among these gives the same samples again, without a browser.")
    except CakeError as error:  # its data have been removed
        st.caption(f"Nothing can be made of it any more. {error}")
        return
    quick = {n: f for n, f in export.FORMATS.items() if f.quick and (n != "losses" or stored.curves)}
    with st.container(horizontal=True):
        for name, kind in quick.items():
            st.download_button(
                kind.title,
                while_seen(e.run, lambda kind=kind: kind.make(stored)),
                f"{e.run}-{kind.file}",
                kind.media,
                help=kind.help,
                key=f"runs:{e.run}:{name}",
                on_click="ignore",
                icon=":material/download:",
            )
    slow = {n: f.title for n, f in export.FORMATS.items() if not f.quick} | {"zip": "All in one zip"}
    what = st.pills("Made when you choose it", list(slow), format_func=slow.get, key=f"runs:{e.run}:what")
    if what is None:
        return
    job = job_for("export", {"run": e.run, "what": what})
    path = runs.made(e.run) / job.result["file"] if job.result else None
    if path is not None and not path.is_file():  # it was made more than an hour ago
        job.runner.forget(job)
        job = job_for("export", {"run": e.run, "what": what})
    if live.wait_for(job):
        path = runs.made(e.run) / job.result["file"]
        st.download_button(
            f"{slow[what]}, {job.result['bytes'] / 1e6:.1f} MB",
            while_seen(e.run, path.read_bytes),
            path.name if what == "zip" else f"{e.run}-{path.name}",
            "application/zip" if what == "zip" else export.FORMATS[what].media,
            key=f"runs:{e.run}:{what}:file",
            on_click="ignore",
            type="primary",
            icon=":material/download:",
        )


def _marks(e: Entry, mine: bool) -> None:
    def note() -> None:
        try:
            runs.mark(e.run, owner_key(), note=st.session_state[f"runs:note:{e.run}"])
        except CakeError as error:
            st.session_state["runs:error"] = str(error)

    def star() -> None:
        runs.mark(e.run, owner_key(), star=not e.star)

    if not mine:
        st.caption(
            "It belongs to somebody else, who shares it, or to the command line: it can be looked at and taken away."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words, icon = ("Remove the star", ":material/star:") if e.star else ("Give a star", ":material/star_border:")
        st.button(words, icon=icon, on_click=star, key=f"runs:star:{e.run}", help="Runs with a star never make way.")
        st.text_input("Note", e.note, max_chars=runs.NOTE_LENGTH, key=f"runs:note:{e.run}", on_change=note)
        if e.kind != "tune":  # a study is shared where it is shown
            share_run(e.run, "run")
        delete_button([e.run])


def _unfinished(e: Entry, happened: Sequence[dict[str, Any]], mine: bool) -> None:
    """Why a run has no results, and the button with which it goes on where that makes sense."""
    ends = [h for h in happened if h["event"] in ("failed", "interrupted", "continued")]
    if runs.going_on(e.run):
        st.info("This run still goes on. What it has kept so far is shown.", icon=":material/hourglass_top:")
        return
    if ends and ends[-1]["event"] == "failed":
        st.error(f"This run ended with an error: {ends[-1].get('message', '')}", icon=":material/error:")
        return
    st.warning(
        "This run was broken off before it had results. What it had kept by then is shown, and it can go on from there "
        "with the very same samples.",
        icon=":material/hourglass_empty:",
    )
    experiment = resumable(e.run)
    if mine and experiment is not None and st.button("Continue", icon=":material/resume:", key=f"runs:go_on:{e.run}"):
        try:
            continue_run(e.run, experiment)
        except CakeError as error:
            st.error(str(error), icon=":material/error:")


def _tracker(told: dict[str, Any], run: str) -> None:
    """What came of telling an experiment tracker."""
    if told["ok"] is False:
        st.warning(
            f"The tracker {told['tracker']} could not be told of this run, which is complete all the same. "
            f"{told['message']} Once it is mended, `python -m cake_core track {run}` tries again.",
            icon=":material/cloud_off:",
        )
    else:
        st.caption(f":material/cloud_done: Tracker {told['tracker']}: {told['message']}")


def _doors(e: Entry) -> None:
    """Where one can go on with a distillation."""
    try:
        said = [runs.read(e.run).get(k) for k in ("begun", "experiment")] if e.finished else []
        stored = next((s for s in (*said, runs.begun(e.run).get("experiment")) if isinstance(s, dict)), None)
        if stored is None:
            raise CakeError("Its settings are damaged.")
        experiment = Experiment.from_dict(stored)
        kind = data.info(experiment.data.name).kind
    except CakeError as error:  # its data have been removed, or a file is damaged
        st.caption(f"It can't be made again here. {error}")
        return
    screen = "two_moons" if kind == "points" else "images"
    with st.container(horizontal=True):
        if st.button("Make it again", icon=":material/replay:", key=f"runs:again:{e.run}"):
            show_experiment(screen, experiment.to_query())
            st.switch_page(page_path(screen))
        for page, words in (("student", "More students"), ("embeddings", "Its map")):
            if e.finished and st.button(words, icon=":material/arrow_forward:", key=f"runs:{page}:{e.run}"):
                finished_runs()[e.run] = experiment
                st.session_state[f"{page}:run"] = e.run
                st.switch_page(page_path(page))


def _settings(e: Entry, config: dict[str, Any], happened: Sequence[dict[str, Any]]) -> None:
    left, right = st.columns(2, gap="large")
    experiment = config.get("experiment") or (runs.read(e.run).get("experiment") if e.finished else None)
    with left:
        if experiment:
            rows = runs.differences([experiment, {}])
            st.dataframe(
                [{"setting": name, "value": _text(value)} for name, (value, _) in rows], hide_index=True, height=300
            )
    with right:
        st.markdown(f"**Id** `{e.run}`")
        if config:
            about = config["code"] | config["environment"]
            st.markdown("  \n".join(f"**{k}** {v}" for k, v in about.items() if v))
        else:
            st.caption("It was stored by an older version, which did not note the code and the machine.")
        lines = []
        for h in happened:
            more = ", ".join(_text(v) for k, v in h.items() if k not in ("time", "event", "snapshots"))
            words = h["event"] if h["event"] != "stage" else "began with"
            lines.append(f"{time.strftime('%H:%M:%S', time.localtime(h['time']))} {words} {more}")
        st.caption("  \n".join(lines))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} = {_text(v)}" for k, v in value.items())
    return "" if value is None else as_text(value)


# -- several ----------------------------------------------------------------------------------------------------------


def show_comparison(found: Sequence[Entry]) -> None:
    """Two to four runs beside each other: numbers, settings, pictures in lock-step, curves one over the other."""
    st.subheader(f"{len(found)} runs beside each other", anchor=False)
    names = _names(found)
    st.dataframe(
        [
            {
                "run": names[e.run],
                "accuracy, %": _percent(e.accuracy),
                "agreement, %": _percent(e.agreement),
                "noise only, %": _percent(e.control),
                "samples": e.samples,
            }
            for e in found
        ],
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.1f")
            for name in ("accuracy, %", "agreement, %", "noise only, %")
        },
    )
    st.markdown("**Settings in which they differ**")
    rows = runs.differences([runs.begun(e.run).get("experiment") or runs.read(e.run)["experiment"] for e in found])
    if rows:
        titles = list(names.values())
        st.dataframe(
            [{"setting": name, **dict(zip(titles, map(_text, values), strict=True))} for name, values in rows],
            hide_index=True,
        )
    else:
        st.caption("None: the same settings and the same seed. Their samples are the same.")
    st.markdown("**In lock-step**")
    show_pictures(found)
    show_curves(found)


def _names(found: Sequence[Entry]) -> dict[str, str]:
    """A title for each run, all different."""
    titles = [title_of(e) for e in found]
    return {
        e.run: t if titles.count(t) == 1 else f"{'ABCD'[n]}: {t}"
        for n, (e, t) in enumerate(zip(found, titles, strict=True))
    }


def show_pictures(found: Sequence[Entry]) -> None:
    """What the runs showed while they went on, side by side under one slider."""
    ids = [e.run for e in found if (runs.find(e.run) / "frames.bin").is_file()]
    if not ids:
        st.caption("No pictures were kept: it was stored by an older version, or has only just begun.")
        return
    job = job_for("pictures", {"runs": ids})
    if not live.wait_for(job):
        return
    made, names = job.result["pictures"], _names(found)
    panes = [
        {"title": names[e.run], "steps": made.get(e.run, {}).get("steps", []), "src": _address(e.run)} for e in found
    ]
    lockstep({"panes": panes}, key="runs:lockstep", served=routes.are_mounted())
    if all(data.info(e.data).kind == "points" for e in found if e.data in data.DATASETS):
        st.caption("Left: the samples over the teacher's regions. Right: the student's regions, once it has learned.")


def _address(run: str) -> str:
    if live.reachable():
        return f"{live.prefix()}live/runs/{run}/strip.webp{pass_for(run)}"
    path = runs.made(run) / "strip.webp"
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else ""


def show_curves(found: Sequence[Entry]) -> None:
    """The losses, one chart each, with one line for each run."""
    names = _names(found)
    curves = {names[e.run]: runs.metrics(e.run).get("curves", {}) for e in found}
    charts = run_figures.curves({title: c for title, c in curves.items() if c})
    if not charts:
        st.caption("No losses were kept of it.")
        return
    with st.grid(min(3, len(charts)), min_column_width=260):
        for number, chart in enumerate(charts):
            st.plotly_chart(chart, key=f"runs:curve:{number}:{len(found)}", alt=alt_text(chart), config=panels.STILL)
    if len(found) > 1:
        colours = zip(names.values(), run_figures.CLASS_COLOURS, run_figures.DASHES, strict=False)
        st.markdown(
            " &nbsp; ".join(f"<span style='color:{c}'>━</span> {title} ({dash})" for title, c, dash in colours),
            unsafe_allow_html=True,
        )
