"""Panels of the page Tune: a study's figures, its trials, the final runs, and pairs of pictures to choose from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from cake_core import data, runs, studies, study_figures
from cake_core.config import Param, as_text
from cake_core.errors import CakeError
from cake_core.jobs import ACTIVE, Job
from cake_core.limits import check_sizes
from cake_core.methods import METHODS
from cake_core.studies import HUMAN, OBJECTIVES, TuneConfig

from . import controls, live
from .cached import runner
from .lab import begin, begun
from .owner import key as owner_key
from .owner import pass_for
from .page import page_path, show_experiment
from .panels import RESULTS, STILL
from .share import share_run
from .words import chart_of

__all__ = ["begin_study", "choose_earlier", "choose_range", "explain", "go_on", "show", "shown_study", "watched"]

SETUPS = {
    "tuned": "Tuned",
    "default": "As trials began",
    "noise": "Noise only (control)",
    "gain": "Gain over the start",
}
FIGURES = {
    "front": (
        "Front",
        "Each point is a trial. The orange ones are not beaten by any other in all objectives at once: the Pareto "
        "front.",
    ),
    "history": ("History", "Each point is a trial, in the order they were made; the line is the best so far."),
    "curves": (
        "Live curves",
        "The objective while a trial runs. Those that were behind the others early were given up (orange).",
    ),
    "importance": (
        "Importance",
        "How much of the differences between trials each setting explains (fANOVA, a forest of decision trees). "
        "With few trials this is a rough guess.",
    ),
    "parallel": (
        "Parallel coordinates",
        "Each line is a trial, through the values of its settings; blue ones are high on the left axis, orange low.",
    ),
    "slices": ("One by one", "The objective against each setting by itself; blue are late trials, orange early ones."),
    "contour": ("Contour", "The objective over pairs of settings, filled in between the trials (the dots)."),
}


# -- before anything was begun ---------------------------------------------------------------------------------------


def explain() -> None:
    """How a search goes, for who has not seen it, and what one has found."""
    st.markdown(
        "1. **Trials.** Each is a small run with other settings: samples are made, a student learns from them. The "
        "first are spread out, the later ones go where the good ones were (Optuna).\n"
        "2. **Judging.** By what you choose; the default asks whether student and teacher agree on inputs that were "
        "made without data, so that whoever has no data can tune. Trials that fall behind early are given up.\n"
        "3. **The truth.** The best of many trials is also the luckiest. It is run again with fresh seeds on the test "
        "examples, beside what the trials began with and a student of noise alone."
    )
    path, other = (RESULTS / f"tune_{name}_cake.json" for name in ("moons", "mnist"))
    if not (path.is_file() and other.is_file()):
        return
    lines, tuned, start = _measured(path)
    _, tuned_mnist, start_mnist = _measured(other)
    st.markdown(
        "**Measured earlier.** On two moons CAKE fails where all samples start in one spot. A search without data took "
        f"it from {start:.1f} to **{tuned:.1f} %**, mean of {lines[0]['seeds']} seeds on {lines[0]['n_test']:,} test "
        f"examples with its 95 % interval. On MNIST one found nothing better than the defaults: {tuned_mnist:.1f} for "
        f"{start_mnist:.1f} %."
    )
    chart_of(path, lambda: study_figures.finals(lines, "student_accuracy", SETUPS), key="tune:measured", config=STILL)
    st.caption("Made by `python -m cake_core tune`; benchmarks/README.md has the commands and says what they show.")


def _measured(path: Path) -> tuple[list[dict[str, Any]], float, float]:
    """The final runs of a stored study: their lines, and the accuracy of the tuned setting and the start in percent."""
    (final,) = json.loads(path.read_text())["finals"].values()
    accuracy = {r["setup"]: 100 * r["student_accuracy_mean"] for r in final["summary"]}
    return final["summary"], accuracy["tuned"], accuracy["default"]


# -- beginning -------------------------------------------------------------------------------------------------------


def choose_range(p: Param, value: Any, key: str) -> tuple[Any, ...]:
    """The widget for the values between which a setting is tried."""
    usual, label = studies.reach(p, value), p.label + (f" ({p.unit})" if p.unit else "")
    if p.kind in ("bool", "choice"):
        return tuple(st.multiselect(label, usual, usual, format_func=as_text, key=key, help=p.help))
    if p.scale == "log":
        stops = sorted({v for v in (*controls.ladder(p, value), *usual) if v > 0})
        return st.select_slider(label, stops, usual, format_func=as_text, key=key, help=p.help)
    number = int if p.kind == "int" else float
    step = p.step or (1 if number is int else (p.high - p.low) / 100)
    return st.slider(label, number(p.low), number(p.high), usual, step=number(step), key=key, help=p.help)


def begin_study(config: TuneConfig, **spec: int) -> None:
    """Begins a study. From now on the page shows it, and its address names it.

    Args:
        config: what it is.
        spec: trials, workers and finals, as the job takes them.

    Raises:
        CakeError: this session holds too many jobs, or trials might be larger than runs may be.
    """
    e = config.experiment
    largest = {k: max(v) for k, v in config.space.items() if k in ("batches", "samples", "steps")}
    check_sizes({"experiment": {"settings": e.settings.to_dict() | largest}}, runner().limits)
    with runs.owned_by(owner_key()):
        study = studies.begin(config)
    try:
        begin("tune", "tune", {"study": study, **spec})
    except CakeError:
        studies.drop(study)
        raise
    st.session_state["tune:study"] = study


def shown_study() -> str | None:
    """The study that the page shows: the session's, or the one in the address; None for none."""
    asked = st.query_params.get("study", "")
    study = st.session_state.get("tune:study") or asked
    if not study:
        return None
    try:
        studies.config_of(study)
    except CakeError as error:
        st.error(f"This study can't be shown. {error}", icon=":material/error:")
        st.session_state.pop("tune:study", None)
        return None
    st.session_state["tune:study"] = study
    if asked != study:
        st.query_params["study"] = study
    return study


def choose_earlier(study: str | None) -> None:
    """The studies of this session's owner, to go back to another one."""
    mine = {e.run: e for e in runs.entries(owner_key()) if e.kind == "tune" and e.run != study}
    if not mine:
        return

    def title(run: str) -> str:
        e = mine[run]
        name = data.info(e.data).title if e.data in data.DATASETS else "data of your own"
        return f"{METHODS[studies.config_of(run).experiment.method].title} on {name}, {made(e.created)}"

    def show_it() -> None:
        if chosen := st.session_state["tune:earlier"]:
            st.session_state["tune:study"] = chosen
            st.session_state["tune:earlier"] = None

    st.selectbox(
        "Your other studies" if study else "Your studies",
        list(mine),
        None,
        format_func=title,
        placeholder="Open one …",
        key="tune:earlier",
        on_change=show_it,
    )


def made(seconds: float) -> str:
    """A moment, for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _is_mine(study: str) -> bool:
    """Whether this session may change a study; those of the command line are everybody's who know their id."""
    return runs.belongs_to(study, "") or runs.belongs_to(study, owner_key())


def watched() -> Job | None:
    """The job that this session began last here, as it goes on; None where there is none any more."""
    known = runner().find(st.session_state.get("tune:job", "")) is not None
    return begun("tune", "") if known else None


def go_on(study: str, job: Job | None) -> None:
    """What the study is, and the button with which it goes on where it was stopped."""
    config, found = studies.config_of(study), studies.read(study)
    rows = found["rows"] if found else []
    ended = [r for r in rows if r["state"] not in ("running", "waiting", "interrupted")]
    wanted = ", ".join(OBJECTIVES[k].title for k in config.objectives)
    st.markdown(
        f"**{METHODS[config.experiment.method].title} on {data.info(config.experiment.data.name).title}**, "
        f"for: {wanted}. {judged(config)}"
    )
    if runs.belongs_to(study, owner_key()):
        share_run(study, "study")
    if not _is_mine(study):
        st.caption(
            "This study is somebody else's, who shares it: it can be looked at, not gone on with."
            + ("" if ended else " No trial has ended yet; reload the page in a while.")
        )
        return
    if job is not None and job.state in ACTIVE:
        return
    left = job.spec["trials"] - len(ended) if job is not None and "trials" in job.spec else 0
    lost = sum(r["state"] in ("running", "interrupted") for r in rows)
    human = HUMAN in config.objectives
    with st.container(horizontal=True, vertical_alignment="bottom"):
        few = left if left > 0 else 4 if human else 10
        more = st.number_input("More trials", 1, 1000, few, key=f"tune:more:{few}", width=140)
        label = "Make more of what I prefer" if human and ended else "Go on"
        if st.button(label, icon=":material/resume:", key="tune:go_on"):
            _begin("tune", {"study": study, "trials": len(ended) + more, "workers": st.session_state["tune:workers"]})
    st.caption(
        f"{len(ended)} trials are stored"
        + (f"; {lost} that did not come to an end are marked, and done again" if lost else "")
        + ". They are kept among your runs, also when the server was restarted."
    )


def judged(config: TuneConfig) -> str:
    """What trials are judged on, and what they never see."""
    uses = {OBJECTIVES[k].data for k in config.objectives}
    if HUMAN in config.objectives:
        return "Trials are judged by you. Neither real data nor a student take part."
    seen = "real labelled data" if "labels" in uses else "real inputs" if "inputs" in uses else ""
    if not seen:
        return "**Data-free**: no real data take part in the choice."
    return (
        f"**Not data-free**: trials are judged on {seen}, up to {config.validation:,} of the teacher's training "
        "examples. The test examples take no part."
    )


def _begin(kind: str, spec: Mapping[str, Any]) -> None:
    try:
        begin("tune", kind, spec)
        st.rerun()
    except CakeError as error:
        st.error(str(error), icon=":material/error:")


# -- what was found --------------------------------------------------------------------------------------------------


def show(study: str, job: Job | None) -> None:
    """Everything that a study has found so far."""
    config, found = studies.config_of(study), studies.read(study)
    rows = found["rows"] if found else []
    done = [r["number"] for r in rows if r["state"] == "finished"]
    if not done:
        return
    busy = job is not None and job.state in ACTIVE
    if HUMAN in config.objectives:
        if _is_mine(study):
            _choose(study, done)
        _rate(study, rows, done)
    figures_tab, trials_tab, final_tab = st.tabs(["Figures", "Trials", "On the test examples"])
    with figures_tab:
        _figures(study, busy)
    with trials_tab:
        _trials(study, config, rows, found["best"] if HUMAN not in config.objectives else _strongest(rows))
    with final_tab:
        _finals(study, config, found, done, busy)


def _figures(study: str, busy: bool) -> None:
    stored = studies.read(study, "figures") or {}
    names = [k for k in FIGURES if k in stored]
    if not names:
        st.caption("The figures are drawn when the trials are done." if busy else "Press **Go on** to have them drawn.")
        return
    name = st.segmented_control(
        "Figure", names, default=names[0], required=True, format_func=lambda k: FIGURES[k][0], key="tune:figure"
    )
    st.caption(FIGURES[name][1] + (" As it was when the study was last at rest." if busy else ""))
    for number, figure in enumerate(stored[name]):
        alt = f"{FIGURES[name][0]}. {FIGURES[name][1]} The tab Trials has the same in numbers."
        st.plotly_chart(go.Figure(figure), key=f"tune:figure:{name}:{number}", alt=alt, config=STILL)


def _value(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in OBJECTIVES and OBJECTIVES[name].share:
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if name == "calls" else f"{value:.4g}" if isinstance(value, float) else as_text(value)


def _trials(study: str, config: TuneConfig, rows: Sequence[Mapping[str, Any]], best: int | None) -> None:
    known = studies.tunable(config.experiment)
    others = [k for k in OBJECTIVES if k not in config.objectives and any(k in r["numbers"] for r in rows)]
    st.dataframe(
        [
            {
                "trial": r["number"] + 1,
                "state": r["state"],
                **{OBJECTIVES[k].title: _value(k, r["values"].get(k)) for k in config.objectives},
                **{known[k].label: _value("", r["params"].get(k)) for k in config.space},
                **{f"({OBJECTIVES[k].title})": _value(k, r["numbers"].get(k)) for k in others},
                "seconds": r["seconds"],
            }
            for r in rows
        ],
        hide_index=True,
    )
    if others:
        st.caption(
            "In brackets: what is also known of a trial. It steers nothing; where it is of real data, it is of the "
            f"{config.validation:,} validation examples, never of the test."
        )
    if failed := [r for r in rows if r["error"]]:
        st.caption(f"Trial {failed[-1]['number'] + 1} could not be run: {failed[-1]['error']}")
    done = [r["number"] for r in rows if r["state"] == "finished"]
    chosen = st.selectbox(
        "Look into trial",
        done,
        done.index(best) if best in done else 0,
        format_func=lambda n: f"{n + 1}" + (", the best" if n == best else ""),
        key="tune:trial",
    )
    row = next(r for r in rows if r["number"] == chosen)
    st.markdown(", ".join(f"{known[k].label} **{_value('', v)}**" for k, v in row["params"].items()))
    points = data.info(config.experiment.data.name).kind == "points"
    title = "Open it on Two moons" if points else "Open it on Images"
    with st.container(horizontal=True):
        if st.button(title, icon=":material/open_in_new:", key="tune:open", help="Its settings and its seed."):
            page = "two_moons" if points else "images"
            show_experiment(page, config.tried(row["params"]).to_query())
            st.switch_page(page_path(page))
        replay = st.toggle("Replay it here", key="tune:replay")
    if replay:
        live.replay(f"{study}/{chosen}", key=f"tune:replay:{study}:{chosen}", folder="studies", query=pass_for(study))
        if HUMAN not in config.objectives and data.info(config.experiment.data.name).has_examples:
            st.caption("In a trial the student's accuracy is of the validation examples.")
    st.download_button(
        "All trials as CSV",
        lambda: _csv(studies.table(studies.read(study))),
        "trials.csv",
        "text/csv",
        icon=":material/download:",
        key="tune:csv",
        on_click="ignore",
    )


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join([",".join(rows[0]), *(",".join(map(str, r.values())) for r in rows)]) + "\n"


def _finals(study: str, config: TuneConfig, found: Mapping[str, Any], done: Sequence[int], busy: bool) -> None:
    st.markdown(
        "A setting that was the best of many trials was also the luckiest. Here it is run again with **fresh seeds**, "
        "on the **test examples**, which no trial was judged on, beside what every trial began with and a student of "
        "pure noise."
    )
    finals = {int(k): v for k, v in found["finals"].items()}
    front = [n for n in found["pareto"] if n in done]
    options = list(dict.fromkeys([*finals, *([found["best"]] if found["best"] is not None else []), *front, *done]))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.selectbox("Trial", options, format_func=lambda n: str(n + 1), key="tune:final:trial", width=140)
        seeds = st.number_input("Seeds", 1, 20, 3, key="tune:final:seeds", width=140)
        if st.button(
            "Run it again", icon=":material/replay:", key="tune:final:begin", disabled=busy or not _is_mine(study)
        ):
            _begin("tune-final", {"study": study, "number": number, "seeds": seeds})
    if number not in finals:
        st.caption("This trial has not been run again yet.")
        return
    lines = finals[number]["summary"]
    value = "student_accuracy" if any("student_accuracy_mean" in r for r in lines) else "agreement"
    alt = "; ".join(f"{SETUPS[r['setup']]}: {_interval(r, value)} %" for r in lines)
    st.plotly_chart(study_figures.finals(lines, value, SETUPS), key="tune:final:bars", alt=alt, config=STILL)
    st.dataframe(
        [
            {
                "setting": SETUPS[r["setup"]],
                "seeds": r["seeds"],
                "accuracy, %": _interval(r, "student_accuracy"),
                "agreement, %": _interval(r, "agreement"),
                "near the boundary, %": _interval(r, "near_boundary"),
                **({"covered, %": _interval(r, "coverage")} if "coverage_mean" in lines[0] else {}),
            }
            for r in lines
        ],
        hide_index=True,
    )
    gain = next((r for r in lines if r["setup"] == "gain"), None)
    if gain is not None:
        st.markdown(_verdict(gain, value))
    st.caption(
        f"Mean and 95 % interval of the mean over the seeds (Student's t), on {lines[0]['n_test']:,} real test "
        "examples. Each seed is a new set of samples and a new student; the teacher stays the same."
    )


def _interval(row: Mapping[str, Any], name: str) -> str:
    mean, ends = row.get(f"{name}_mean"), row.get(f"{name}_interval")
    if mean is None:
        return ""
    sign = "+" if row["setup"] == "gain" else ""
    text = f"{100 * mean:{sign}.1f}"
    return text if ends is None else f"{text} ({100 * ends[0]:{sign}.1f} to {100 * ends[1]:{sign}.1f})"


def _verdict(gain: Mapping[str, Any], value: str) -> str:
    """What the final runs say, in a sentence."""
    mean, ends = 100 * gain[f"{value}_mean"], gain[f"{value}_interval"]
    what = "accuracy" if value == "student_accuracy" else "agreement"
    if ends is None:
        return f"Tuning changes the {what} by **{mean:+.1f} points** for this one seed, which says little."
    if ends[0] > 0:
        return f"Tuning is worth **{mean:+.1f} points** of {what}; the interval lies above 0."
    if ends[1] < 0:
        return (
            f"The tuned setting is **worse**, by {-mean:.1f} points of {what}: the objective has led the search astray."
        )
    return f"Tuning changes the {what} by {mean:+.1f} points, **which may be chance**: the interval holds 0."


# -- people judge ----------------------------------------------------------------------------------------------------


def _choose(study: str, done: Sequence[int]) -> None:
    """Two pictures, and which is the better one."""
    pairs = studies.preferences(study)
    pair = studies.next_pair(done, pairs)
    st.subheader("Which is better?", anchor=False)
    st.caption(
        f"Samples of two trials. {len(pairs)} pairs compared so far, {len(done)} trials. From your choices each trial "
        "gets a strength (the Bradley-Terry model: the stronger, the likelier it is preferred), and new trials are "
        "sampled where strong ones were denser. Nothing else counts: what looks better need not teach better."
    )
    if pair is None:
        st.info("You have compared all pairs. Make more trials from what you prefer.", icon=":material/done_all:")
        return
    for column, number, other, side in zip(
        st.columns(2, gap="large"), pair, pair[::-1], ("Left", "Right"), strict=True
    ):
        with column:
            _picture(study, number)
            st.button(
                f"{side} is better",
                key=f"tune:prefer:{side}",
                on_click=studies.prefer,
                args=(study, number, other),
                icon=":material/thumb_up:",
                width="stretch",
                shortcut=side.lower(),
            )


def _picture(study: str, number: int) -> None:
    stem = studies.folder(study) / str(number)
    if stem.with_suffix(".png").is_file():
        st.image(stem.with_suffix(".png"), width="stretch", alt=f"samples of trial {number + 1}")
        return
    seen = studies.picture(study, number)
    if seen is None:
        st.caption("This trial has left no picture.")
        return
    alt = f"Samples of trial {number + 1} and the teacher's decision boundary in the plane."
    st.plotly_chart(study_figures.samples(seen), key=f"tune:picture:{study}:{number}", alt=alt, config=STILL)


def _rate(study: str, rows: Sequence[dict[str, Any]], done: Sequence[int]) -> None:
    """Gives the rows the strengths as they are after the latest choice."""
    strength = studies.strengths(done, studies.preferences(study))
    for r in rows:
        if r["number"] in strength:
            r["values"][HUMAN] = strength[r["number"]]


def _strongest(rows: Sequence[Mapping[str, Any]]) -> int | None:
    rated = [r for r in rows if HUMAN in r["values"]]
    return max(rated, key=lambda r: r["values"][HUMAN])["number"] if rated else None
