"""Panels of the page Detect: the game's steps, an audit's findings, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from cake_core import figures, runs
from cake_core.audit import shown, verdict
from cake_core.detection import EPS, TITLES
from cake_core.evaluation import wilson
from cake_core.jobs import Job
from cake_core.lineup import KINDS, PROBES, letter
from cake_core.methods import METHODS

from .page import know_teacher
from .panels import RESULTS, STILL, enlarged, read_csv
from .words import chart, chart_of

__all__ = ["explain", "show_audit", "show_game", "show_measured"]

NOBODY = "None of them"
# What is shown of images, and of points.
EVIDENCE = (
    "Here are those on which the teachers differ most, with everybody's two likeliest answers in percent.",
    "Here they are, with everybody's decision boundary: where there were no data, each runs its own way.",
)
FEW = 6  # probes with all answers


def explain() -> None:
    """How the game goes, for who has not seen it."""
    st.markdown(
        "1. **The line-up.** Teachers learn the same data, and are about equally good at it.\n"
        "2. **The suspects.** Students copy one of them, with the data or without, or learn by themselves.\n"
        "3. **Probes.** From each suspect's weights inputs are made that it takes for two classes at once. Where "
        "nothing was learned, each network runs its own way: there a copy gives itself away.\n"
        "4. **Your guess.** You see what everybody answers to the probes, and say whom each suspect copied.\n"
        "5. **The score.** The teacher whose answers are most alike is named, unless none is more alike than it is to "
        "students that copied nobody."
    )
    st.latex(r"S_k=\operatorname{mean}_{n}\frac{1}{\mathrm{KL}\big(g(x_n)\,\|\,f_k(x_n)\big)+\epsilon}")
    st.caption(
        "x: the probes; g: the suspect; f: the teachers; the highest S is named. Shi and others (NeurIPS 2025), "
        "[arXiv 2510.02302](https://arxiv.org/abs/2510.02302)."
    )


def show_game(job: Job, *, key: str) -> None:
    """A finished line-up, step by step: who there is, what they answer, the guesses, and who was right."""
    if job.state != "done" or not job.result:
        return
    result = job.result
    teachers = _teachers(result)
    for name, title in zip(result["teachers"], teachers, strict=True):
        know_teacher(name, result["config"]["data"]["name"], f"{title} of the line-up")
    kinds = ", ".join(dict.fromkeys(result["models"]))
    _step(
        1,
        "The line-up",
        f"{len(teachers)} teachers ({kinds}). All learned the same data, and all are about equally good at it, as the "
        "chart above shows; so their accuracies do not tell them apart.",
    )
    count = len(result["truth"])
    _step(
        2,
        "The suspects",
        f"{count} students. Each copied one of these teachers, with data or without, or nobody. Probes were made from "
        "each suspect alone: inputs that it takes for two classes at once. " + EVIDENCE["boundaries" in result],
    )
    revealed = st.session_state.get(f"{key}:revealed") == job.name
    guesses: list[int | None] = []
    for number in range(count):
        with st.container(border=True):
            _suspect(result, number, teachers, key)
            if revealed:
                continue
            guess = st.segmented_control(
                f"Whom did {letter(number)} copy?",
                [*teachers, NOBODY],
                key=f"{key}:guess:{job.name}:{number}",
            )
            guesses.append(guess)
    if not revealed:
        _step(3, "Your guess", "Guess for every suspect, then see what the score says, and who is right.")
        missing = guesses.count(None)
        if missing:
            st.caption(f"{missing} of {count} still to guess.")
        if st.button("Reveal", type="primary", icon=":material/visibility:", disabled=missing > 0, key=f"{key}:reveal"):
            st.session_state[f"{key}:revealed"] = job.name
            st.session_state[f"{key}:guesses"] = guesses
            st.rerun()
        return
    _reveal(result, teachers, st.session_state[f"{key}:guesses"], key)


def _teachers(result: Mapping[str, Any]) -> list[str]:
    return [f"Teacher {k + 1}" for k in range(len(result["teachers"]))]


def _step(number: int, title: str, text: str) -> None:
    st.subheader(f"{number}. {title}", anchor=False)
    st.markdown(text)


def _suspect(result: Mapping[str, Any], number: int, teachers: Sequence[str], key: str) -> None:
    name = f"Suspect {letter(number)}"
    st.markdown(f"**{name}**, right on {100 * result['accuracies'][name]['value']:.1f} % of the test examples")
    seen = result["clues"][number]
    if "boundaries" not in result:
        show_answers(seen[:FEW], name, teachers, result["classes"])
        return
    of_teachers, own = result["boundaries"][: len(teachers)], result["boundaries"][len(teachers) + number]
    networks = {name: own} | dict(zip(teachers, of_teachers, strict=True))
    figure = figures.plane(networks, [clue["input"] for clue in seen], result["half_width"])
    chart(figure, key=f"{key}:plane:{number}", config=STILL)


def show_answers(
    seen: Sequence[Mapping[str, Any]], suspect: str, teachers: Sequence[str], classes: Sequence[str]
) -> None:
    """Probes, and what everybody answers: a picture of each where they are images, and a table."""
    if isinstance(seen[0]["input"][0], list):
        with st.grid(len(seen), min_column_width=64):
            for i, clue in enumerate(seen, start=1):
                st.image(enlarged(clue["input"]), caption=f"Probe {i}", alt=f"probe {i}", width="stretch")
    answers = [[clue["student"] for clue in seen], *([c["teachers"][k] for c in seen] for k in range(len(teachers)))]
    st.dataframe(
        [
            {"": who, **{f"Probe {i}": _said(p, classes) for i, p in enumerate(row, start=1)}}
            for who, row in zip([suspect, *teachers], answers, strict=True)
        ],
        hide_index=True,
        height="content",
    )


def _said(p: Sequence[float], classes: Sequence[str]) -> str:
    """The two likeliest classes with their probabilities in percent: "3 (54), 8 (40)"."""
    top = sorted(range(len(p)), key=lambda k: -p[k])[:2]
    return ", ".join(f"{classes[k]} ({100 * p[k]:.0f})" for k in top)


def _reveal(result: Mapping[str, Any], teachers: Sequence[str], guesses: Sequence[str], key: str) -> None:
    truth = [t["teacher"] for t in result["truth"]]
    mine = [None if g == NOBODY else list(teachers).index(g) for g in guesses]
    named, control = ([v["named"] for v in result[k]] for k in ("verdicts", "control"))
    _step(
        3,
        "Who was right?",
        f"The score compares the answers to {result['n']:,} probes of each suspect; every teacher answered "
        f"{result['calls']:,} of them. It names the teacher that is most alike, where that one is further ahead of "
        f"the second than for any of {result['config']['nulls']} students that copied nobody, trained to compare with: "
        "that is the dashed line. Otherwise it names none of them.",
    )
    with st.grid(4, min_column_width=170):
        for label, answers, help in (
            ("You", mine, "Your guesses."),
            ("The score", named, "Kullback-Leibler divergence on probes made from the suspect."),
            ("Noise as probes", control, "The control: the same score, but the probes are pure noise."),
        ):
            right = sum(a == t for a, t in zip(answers, truth, strict=True))
            low, high = wilson(right, len(truth))
            below = f"{100 * low:.0f} to {100 * high:.0f} %"
            quiet = {"delta_color": "off", "delta_arrow": "off", "border": True}
            st.metric(label, f"{right} of {len(truth)}", below, help=f"{help} Below: the 95 % interval.", **quiet)
        chance = len(truth) / (len(teachers) + 1)
        st.metric("A blind guess", f"{chance:.1f} of {len(truth)}", help="On average.", border=True)
    copies = [(v["best"], t) for v, t in zip(result["verdicts"], truth, strict=True) if t is not None]
    if copies:
        right = sum(best == t for best, t in copies)
        st.markdown(f"Had it to name somebody, it would be right for {right} of the {len(copies)} copies.")
    top = max(shown("kl", s) for v in result["verdicts"] for s in v["scores"])
    for number, v in enumerate(result["verdicts"]):
        with st.container(border=True):
            left, right = st.columns([2, 3], gap="medium")
            with left:
                origin = KINDS.get(result["truth"][number]["kind"], result["truth"][number]["kind"])
                st.markdown(
                    f"**Suspect {letter(number)}: {_name(truth[number], teachers)}**  \n{origin}.\n\n"
                    f"{_mark(mine[number] == truth[number])} You said {_name(mine[number], teachers)}.  \n"
                    f"{_mark(v['named'] == truth[number])} The score says {_name(v['named'], teachers)}"
                    + ("." if v["named"] is not None else f"; most like {teachers[v['best']]}.")
                )
                _download(result, number, key)
            with right:
                limit = shown("kl", v["needed"]) if v["needed"] is not None else None
                bars = [shown("kl", s) for s in v["scores"]]
                figure = figures.likeness(teachers, bars, limit, v["named"], truth[number], top)
                chart(figure, key=f"{key}:bars:{number}", config=STILL)
    st.caption(
        f"Orange: who is named. Ringed: whom it really copied. Likeness is the mean over probes of 1 / (divergence + "
        f"{EPS}). A few suspects say little about how good the score is; the tab **How well does it work?** has many."
    )


def _name(teacher: int | None, teachers: Sequence[str]) -> str:
    return "none of them" if teacher is None else teachers[teacher]


def _mark(right: bool) -> str:
    return ":green[:material/check:]" if right else ":red[:material/close:]"


def _download(result: Mapping[str, Any], number: int, key: str) -> None:
    file = f"suspect-{letter(number)}.safetensors"
    st.download_button(
        "Weights",
        (runs.find(result["run"]) / file).read_bytes,
        file,
        "application/octet-stream",
        icon=":material/download:",
        key=f"{key}:weights:{number}",
        help="As safetensors: for the tab Check a suspect, where these teachers can be candidates.",
        on_click="ignore",
    )


def show_audit(job: Job, *, key: str) -> None:
    """What was found about a suspect of somebody's own, its limits, and the report."""
    if job.state != "done" or not job.result:
        return
    found = job.result
    names = [c["name"] for c in found["candidates"]]
    source = found["config"]["probes"]["maker"]
    v = found["verdicts"][source]["kl"]
    show = st.info if v["named"] is None or v["needed"] is None else st.success
    show(verdict(v, names), icon=":material/fingerprint:")
    limit = shown("kl", v["needed"]) if v["needed"] is not None else None
    chart(
        figures.likeness(names, [shown("kl", s) for s in v["scores"]], limit, v["named"]),
        key=f"{key}:bars",
        config=STILL,
    )
    st.dataframe(
        [
            {
                "score": title,
                **{n: f"{shown(score, s):.3f}" for n, s in zip(names, row["scores"], strict=True)},
                "to be named": f"{shown(score, row['needed']):.3f}" if row["needed"] is not None else "",
                "says": names[row["named"]] if row["named"] is not None else "none of them",
            }
            for probes, group in found["verdicts"].items()
            for score, row in group.items()
            for title in [TITLES[score] + ("" if probes == source else ", noise as probes (control)")]
        ],
        hide_index=True,
        height="content",
    )
    st.caption(f"Each candidate answered {found['calls']:,} probes, and as many of the control.")
    show_answers(found["clues"][:FEW], "The suspect", names, found["classes"])
    st.markdown("**What this can't say**\n\n" + "\n".join(f"- {sentence}" for sentence in found["limits"]))
    st.download_button(
        "Download the report",
        found["report"],
        "report.md",
        "text/markdown",
        icon=":material/download:",
        key=f"{key}:report",
        on_click="ignore",
    )


def show_measured() -> None:
    """How often the true teacher is found, as it was measured, beside the paper's figures."""
    path = RESULTS / "detect.csv"
    if not path.is_file():
        st.info("Nothing has been measured yet: `python -m cake_core detect --out benchmarks/results` does it.")
        return
    rows = [r for r in read_csv(path) if r["by"] == "raw"]
    st.markdown(
        f"MNIST, {rows[0]['teachers']} teachers of one architecture that differ in their initial weights alone, "
        f"{rows[0]['accuracy_n']} copies, {rows[0]['false_alarms_n']} students that copied none of them. Whiskers and "
        "brackets are 95 % intervals over the students."
    )
    scores = list(dict.fromkeys(r["score"] for r in rows))
    score = st.segmented_control(
        "Score", scores, default=scores[0], required=True, format_func=TITLES.get, key="detect:measured:score"
    )
    rows = [r for r in rows if r["score"] == score]
    found = {r["probes"]: PROBES[r["probes"]] for r in rows}
    chart_of(path, lambda: figures.detectability(rows, found), key=f"detect:measured:{score}", config=STILL)
    kinds = [k for k in KINDS if f"accuracy_{k}" in rows[0]]
    best = [r for r in rows if r["probes"] == rows[0]["probes"]][-1]
    told = ", ".join(f"**{100 * float(best[f'accuracy_{k}']):.0f} %** of {_kind(k)}" for k in kinds)
    st.markdown(
        f"**How detectable is a copy made without data?** With {best['n']} probes ({found[best['probes']].lower()}) "
        f"the true teacher is named for {told}.{_of_few_calls(best)}"
    )
    st.dataframe(
        [
            {
                "probes": found[r["probes"]],
                "N": r["n"],
                "true teacher named, %": _interval(r, "accuracy"),
                "AUC": f"{float(r['auc']):.2f}",
                "the paper prints": f"{100 * float(r['published_accuracy']):.0f} / {float(r['published_auc']):.2f}"
                if r["published_accuracy"]
                else "",
                **{f"of {_kind(k)}, %": f"{100 * float(r[f'accuracy_{k}']):.0f}" for k in kinds},
                "with 'none': found, %": _interval(r, "found"),
                "false alarms, %": _interval(r, "false_alarms"),
            }
            for r in rows
        ],
        hide_index=True,
        height="content",
    )
    st.caption(
        "The paper (Shi and others, NeurIPS 2025) prints accuracy and AUC for CIFAR-10 with larger networks; its "
        "figures are from notes. Made by `python -m cake_core detect`; benchmarks/README.md has the whole command and "
        "says what holds."
    )


def _of_few_calls(row: Mapping[str, str]) -> str:
    """A sentence about students of few calls, which were measured apart, with the same probes and score."""
    same = ("probes", "n", "score", "by")
    for other in read_csv(RESULTS / "detect_few_calls.csv"):
        if all(other[k] == row[k] for k in same):
            share, blind = 100 * float(other["accuracy_aspkd"]), 100 / int(row["teachers"])
            return (
                f" Of those copied with few calls it is **{share:.0f} %** ({other['accuracy_n']} students), where a "
                f"blind guess is right for {blind:.0f} %."
            )
    return ""


KINDS_IN_WORDS = {"kd": "those distilled with data", "aspkd": "those copied with few calls"}


def _kind(name: str) -> str:
    """A kind of students, in a sentence."""
    return KINDS_IN_WORDS.get(name) or f"those copied by {METHODS[name].title}"


def _interval(row: Mapping[str, str], name: str) -> str:
    """ "75 (55 to 88)" in percent."""
    value, low, high = (100 * float(row[k]) for k in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.0f} ({low:.0f} to {high:.0f})"
