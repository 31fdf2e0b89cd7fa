"""Panels: each takes a core object and shows it. They compute nothing."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cake_core import data, figures, models, runs
from cake_core.comparison import SOURCES
from cake_core.imports import PRESETS
from cake_core.jobs import Job
from cake_core.methods import METHODS
from cake_core.pipeline import noise_in_words
from cake_core.reproduce import FIGURES
from cake_core.teacher import TeacherCard

from .words import chart, chart_of, help_with

__all__ = [
    "OUTCOME",
    "RESULTS",
    "STILL",
    "architecture",
    "enlarged",
    "read_csv",
    "show_comparison",
    "show_figure_one",
    "show_figure_three",
    "show_grid",
    "show_outcome",
    "show_result",
    "show_sizes",
    "show_students",
    "show_tables",
    "show_teacher",
    "teacher_cards",
]

OUTCOME = "How well does it copy?"  # above what came of a run
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
STILL = {"displayModeBar": False}


# -- Two moons and Images --------------------------------------------------------------------------------------


def show_outcome(job: Job, *, key: str) -> None:
    """How well the student of a finished distillation copies its teacher, beside the noise-only control."""
    if job.state == "done" and job.result:
        show_result(job.result, key=key)


def show_result(result: Mapping[str, Any], *, key: str) -> None:
    """The same for results that a run has stored."""
    outcome, control = result["outcome"], result["control"]
    plane, real = outcome["plane_agreement"] is not None, outcome["judged_on"] == "test"
    st.subheader(OUTCOME, anchor=False)
    with st.grid(5 if plane else 3, min_column_width=180):
        if real:
            _rate("Student's accuracy", outcome, "student_accuracy", "On real test data that it has never seen.")
            _rate("Agrees with teacher", outcome, "agreement", "Share of the real test data on which both agree.")
        else:
            help = "Accuracies are measured on real examples, and this data set has none here."
            st.metric("Student's accuracy", "unknown", "no test data here", **_quiet(help))
            help = "Share of fresh synthetic samples, which the student did not learn from, on which both agree."
            _rate("Agrees with teacher", outcome, "agreement", help)
        _rate("Near the boundary", outcome, "near_boundary", "Share of samples within 0.1, to first order.")
        if plane:
            _rate("Agreement over plane", outcome, "plane_agreement", "Share of the plane in view.")
            cover = f"{100 * outcome['coverage']:.0f} %"
            help = "Share of the boundary's length in view that has a sample within 0.1."
            st.metric("Boundary covered", cover, "no sampling error", **_quiet(help_with(help, "coverage")))
    left, right = st.columns([3, 2], gap="large")
    chart(figures.copies(outcome, control), place=left, key=f"{key}:bars", config=STILL)
    judged = (
        f"**{outcome['n_test']:,} real test examples**"
        if real
        else f"**{outcome['n_judged']:,} fresh synthetic samples** of the same kind, made with another seed, for there "
        "are no test data here; on real inputs it may agree less"
    )
    right.markdown(
        f"Judged on {judged}; whiskers are 95\u00a0% intervals. "
        f"It took {outcome['samples']:,} synthetic samples, {outcome['forward_calls']:,} answers of the teacher "
        f"and {outcome['gradient_calls']:,} gradients."
    )
    by_batch = outcome.get("by_batch_accuracy")
    if by_batch is not None and by_batch > outcome["student_accuracy_interval"][1]:
        low, high = outcome["by_batch_accuracy_interval"]
        right.markdown(
            "**It knows more than it shows.** Its batch normalisation goes by the synthetic samples, whose brightness "
            "and contrast are not those of real inputs. With the statistics of the test examples themselves the same "
            f"student is right on **{100 * by_batch:.1f}\u00a0%** ({100 * low:.1f} to {100 * high:.1f})."
        )
    if control is not None:
        value = "student_accuracy" if real else "agreement"
        gain = 100 * (outcome[value] - control[value])
        right.markdown(
            f"**The control** is a student of as many samples of {noise_in_words(result['experiment'])}, labelled by "
            f"the same teacher. Moving the samples is worth **{gain:+.1f} points** against it. One run is one seed: "
            "the page Compare has several."
        )
        if plane and abs(gain) < 1 and control[value] > 0.95:
            right.caption(
                "There is little to gain where the noise alone covers the plane, as with a prior spread of 1. "
                "Start all samples in one spot (presets 4 and 5) and see the difference."
            )


def _rate(label: str, values: Mapping[str, Any], name: str, help: str) -> None:
    low, high = values[f"{name}_interval"]
    below = f"{100 * low:.1f} to {100 * high:.1f} %"
    help = help_with(f"{help} Below: the 95 % interval.", name)
    st.metric(label, f"{100 * values[name]:.1f} %", below, **_quiet(help))


def _quiet(help: str) -> dict[str, Any]:
    return {"delta_color": "off", "delta_arrow": "off", "help": help, "border": True}


def show_figure_one(*, open: bool = False) -> None:
    """The paper's Fig. 1 in numbers: methods that all start in one spot, or all over the plane; folded, or `open`."""
    table, curve = RESULTS / "fig1.csv", RESULTS / "fig1_samples.csv"
    if not (table.is_file() and curve.is_file()):
        return
    title = "Which method needs how many samples? (the paper's Fig. 1 in numbers)"
    with st.expander(title, expanded=open, icon=":material/query_stats:"):
        rows = read_csv(table)
        st.markdown(
            "Two moons, the same step size, steps, samples and student for every method; mean and standard deviation "
            f"over {rows[0]['seeds']} seeds. With a prior of **σ = 0.1** all samples start in one spot, far from most "
            "of the boundary; with **σ = 1** the noise alone covers the plane, and there is nothing left to gain."
        )
        titles = {name: _title(name) for name in METHODS}
        chart_of(curve, lambda: figures.agreement_by_samples(read_csv(curve), titles), key="fig1:curve", config=STILL)
        st.dataframe(
            [
                {
                    "method": METHODS[r["method"]].title,
                    "σ": float(r["sigma"]),
                    "agreement, %": f"{100 * float(r['agreement_mean']):.1f} ± {100 * float(r['agreement_std']):.1f}",
                    "over the plane, %": f"{100 * float(r['plane_agreement_mean']):.1f}",
                    "boundary covered, %": f"{100 * float(r['coverage_mean']):.0f}",
                }
                for r in rows
            ],
            hide_index=True,
            height="content",
        )
        st.caption("Made by `python -m cake_core reproduce fig1 --seeds 5 --out benchmarks/results`.")


def _title(method: str) -> str:
    return METHODS[method].title + (" (control)" if METHODS[method].control else "")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


# -- Teacher --------------------------------------------------------------------------------------


def teacher_cards(cards: Mapping[str, TeacherCard]) -> None:
    """One card for each shipped teacher."""
    with st.grid(4, min_column_width=230):
        for card in cards.values():
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{card.title}**")
                a = card.accuracy
                below = f"{100 * a.low:.1f} to {100 * a.high:.1f} %, n = {a.n:,}"
                st.metric("Test accuracy", f"{100 * a.value:.1f} %", below, delta_color="off", delta_arrow="off")
                r = card.recipe
                st.caption(
                    f"`{card.name}` · {card.parameters:,} parameters · {r['updates']:,} updates of "
                    f"{r['batch_size']} with {r['optimizer'].upper() if r['optimizer'] == 'sgd' else 'Adam'}, "
                    f"learning rate {r['learning_rate']:g}, seed {card.seed}"
                )


def show_teacher(job: Job, *, key: str) -> None:
    """What a teacher gets right and wrong."""
    if job.state != "done" or not job.result:
        return
    seen, classes = job.result, job.result["classes"]
    card, a = seen["card"], seen["card"]["accuracy"]
    head = f"**{seen['title']}**, {card['parameters']:,} parameters: "
    if a is None:
        st.markdown(head + "**no test data here**, so its accuracy is not known.")
    else:
        st.markdown(
            f"{head}**{100 * a['value']:.1f} %** of {a['n']:,} test examples right "
            f"(95 % interval {100 * a['low']:.1f} to {100 * a['high']:.1f} %)."
        )
    if card["origin"] == "imported":
        _show_import(seen)
    if seen.get("other_data"):
        st.caption("It learned from other examples of this data set than those that are here: the checksums differ.")
    left, right = st.columns(2, gap="large")
    if seen["confusion"] is not None:
        chart(figures.confusion(seen["confusion"], classes), place=left, key=f"{key}:confusion", config=STILL)
    with right:
        if "surface" in seen:
            chart(figures.surface(seen["surface"], classes), key=f"{key}:surface", config=STILL)
        elif seen["mistakes"]:
            st.markdown("Its most confident mistakes")
            with st.grid(4, min_column_width=84):
                for m in seen["mistakes"]:
                    text = f"{m['label']} read as {m['answer']} ({100 * m['confidence']:.0f} %)"
                    with st.container():
                        st.image(enlarged(m["pixels"]), alt=text, width="stretch")
                        st.caption(text)


def _show_import(seen: Mapping[str, Any]) -> None:
    """Where an imported teacher comes from, what makes one doubt it, and what it says about one example."""
    card = seen["card"]
    wanted = card["normalisation"]
    how = PRESETS[wanted["preset"]][0]
    if wanted["preset"] == "custom":
        mean, std = (", ".join(f"{v:g}" for v in wanted[k]) for k in ("mean", "std"))
        how = f"Mean {mean}, deviation {std}"
    st.caption(
        f"Imported from `{card['file']}` ({'ONNX' if card['format'] == 'onnx' else card['format']}), SHA-256 "
        f"`{card['sha256'][:12]}…`. Normalisation of its inputs: {how[0].lower() + how[1:]}."
    )
    if seen["doubt"]:
        st.warning(seen["doubt"], icon=":material/help:")
    if not (tried := seen["tried"]):
        return
    (top, share), *others = tried["answers"]
    picture = isinstance(tried["raw"][0], list)
    if picture:
        what = "your picture" + (f" ({tried['changed']} pixels)" if tried["changed"] else "")
    else:
        what = "the point " + ", ".join(f"{v:g}" for v in tried["raw"])
    also = ", ".join(f"{name} ({100 * p:.1f} %)" for name, p in others[:2] if p >= 0.0005)
    left, right = st.columns([1, 5], vertical_alignment="center")
    if picture:
        left.image(enlarged(tried["raw"]), alt=f"the picture, as the teacher gets it; it says {top}", width=96)
    (right if picture else st).markdown(
        f"It takes {what} for **{top}** ({100 * share:.1f} %)"
        + (f", else {also}." if also else ".")
        + " If that is wrong, look at the normalisation and the order of the classes."
    )


def enlarged(pixels: list[Any]) -> np.ndarray:
    """A small image (C, H, W), each pixel a block, so that it is not blurred when it is shown larger."""
    image = np.array(pixels, np.uint8).transpose(1, 2, 0)
    block = max(1, 96 // image.shape[0])
    image = image.repeat(block, axis=0).repeat(block, axis=1)
    return image[..., 0] if image.shape[2] == 1 else image


# -- Student, Compare --------------------------------------------------------------------------------------


def architecture(name: str, parameters: int | None) -> str:
    """An architecture in a list: its title, its size where it is known, and whether it is for a GPU."""
    info = models.MODELS[name]
    return info.title + (f", {parameters:,}" if parameters else "") + (" (for a GPU)" if info.for_a_gpu else "")


def show_sizes(parameters: int, teacher: TeacherCard) -> None:
    """The student's parameters beside the teacher's."""
    if not teacher.parameters:  # an ONNX file can keep its weights where they are not counted
        st.markdown(f"The student has **{parameters:,}** parameters; those of its teacher are not known.")
        return
    ratio = parameters / teacher.parameters
    share = f"{100 * ratio:.1f} %" if ratio < 10 else f"{ratio:.0f} times as many"
    st.markdown(
        f"The student has **{parameters:,}** parameters, its teacher ({teacher.title}) {teacher.parameters:,}: "
        f"**{share}**."
    )


def show_students(job: Job, *, key: str) -> None:
    """Students by what they learned from, their teacher, and where the two differ."""
    if job.state != "done" or not job.result:
        return
    result = job.result
    _students_in_numbers(result, key)
    sources = list(result["confusion"])
    st.subheader("Where do student and teacher differ?", anchor=False)
    source = st.segmented_control(
        "The student that learned from",
        sources,
        default=sources[0],
        required=True,
        format_func=SOURCES.get,
        key=f"{key}:source:{len(sources)}",
    )
    left, right = st.columns(2, gap="large")
    with left:
        matrix = result["confusion"][source]
        same, n = sum(row[k] for k, row in enumerate(matrix)), sum(map(sum, matrix))
        figure = figures.confusion(matrix, result["classes"], "the teacher's answer", "the student's answer")
        chart(figure, key=f"{key}:confusion:{source}", config=STILL)
        seeds = result["summary"][0]["seeds"]
        st.caption(
            f"The diagonal, where both say the same, holds {same:,} of {n:,} answers: **{100 * same / n:.1f} %**, the "
            f"agreement" + (f" over {seeds} seeds." if seeds > 1 else ".")
        )
    with right:
        _student_differences(result, source, key)
    _student_downloads(result, source, key)


def _students_in_numbers(result: Mapping[str, Any], key: str) -> None:
    summary, teacher = result["summary"], result["teacher_accuracy"]
    st.subheader("How well did they learn?", anchor=False)
    chart(figures.students(summary, teacher, SOURCES), key=f"{key}:bars", config=STILL)
    single, plane = summary[0]["seeds"] == 1, summary[0]["plane_agreement_mean"] is not None
    st.dataframe(
        [
            {
                "learned from": SOURCES[r["source"]],
                "accuracy, %": _spread(r, "accuracy"),
                "agreement with teacher, %": _spread(r, "agreement"),
                **({"agreement over the plane, %": _spread(r, "plane_agreement")} if plane else {}),
                "calibration error": _spread(r, "calibration_error", percent=False),
            }
            for r in summary
        ],
        hide_index=True,
    )
    many = (
        "In brackets: the 95 % interval."
        if single
        else f"± is one standard deviation over {summary[0]['seeds']} seeds."
    )
    st.caption(
        f"On all {teacher['n']:,} real test examples, which no student has seen. {many} The teacher gets "
        f"{100 * teacher['value']:.1f} % ({100 * teacher['low']:.1f} to {100 * teacher['high']:.1f} %). Calibration "
        "error is how far confidence and accuracy lie apart; 0 is best."
    )


def _student_differences(result: Mapping[str, Any], source: str, key: str) -> None:
    seen, seed = result["differences"][source], result["rows"][0]["seed"]
    if "images" not in seen:
        chart(figures.difference(seen, result["classes"]), key=f"{key}:plane:{source}", config=STILL)
        mine = next(r for r in result["rows"] if r["source"] == source)
        st.caption(
            f"The plane in view: they agree on {100 * mine['plane_agreement']:.1f} % of it (student of seed {seed})."
        )
    elif not seen["images"]:
        st.success(f"The student of seed {seed} and the teacher agree on every test image.")
    else:
        st.markdown(f"Real test images that they read differently, the surest first (student of seed {seed})")
        with st.grid(4, min_column_width=112):
            for m in seen["images"]:
                text = (
                    f"Teacher: {m['teacher']} ({100 * m['teacher_confidence']:.0f} %), student: {m['student']} "
                    f"({100 * m['student_confidence']:.0f} %), true: {m['label']}"
                )
                with st.container():
                    st.image(enlarged(m["pixels"]), alt=text, width="stretch")
                    st.caption(text.replace(", ", "  \n"))


def _student_downloads(result: Mapping[str, Any], source: str, key: str) -> None:
    folder, model, seed = runs.find(result["run"]), result["student"]["model"], result["rows"][0]["seed"]
    with st.container(horizontal=True):
        st.download_button(
            "This student's weights",
            (folder / f"{source}.safetensors").read_bytes,
            f"{model}-{source}-seed{seed}.safetensors",
            "application/octet-stream",
            icon=":material/download:",
            key=f"{key}:weights:{source}",
            help=f"As safetensors, of seed {seed}.",
            on_click="ignore",
        )
        for name, label in (("rows", "All students as CSV"), ("curves", "The curves as CSV")):
            st.download_button(
                label,
                lambda name=name: _csv(runs.read(result["run"])[name]),
                f"{model}-{name}.csv",
                "text/csv",
                icon=":material/download:",
                key=f"{key}:{name}",
                on_click="ignore",
            )


def show_comparison(job: Job, *, key: str) -> None:
    """The table of a finished comparison; its chart stands in the live view."""
    if job.state != "done" or not job.result:
        return
    summary, teacher = job.result["summary"], job.result["teacher_accuracy"]
    for name, sentence in job.result["refused"].items():
        st.warning(f"{METHODS[name].title} could not run. {sentence}", icon=":material/block:")
    paper = job.result["paper"]
    st.dataframe(
        [
            {
                "method": _title(r["method"]),
                "accuracy": _spread(r, "student_accuracy"),
                "agreement": _spread(r, "agreement"),
                "on the plane": _spread(r, "plane_agreement"),
                "near": _spread(r, "near_boundary"),
                "covered": _spread(r, "coverage"),
                "samples": f"{r['samples_mean']:,.0f}",
                "calls": f"{r['forward_calls_mean']:,.0f}",
                "gradients": f"{r['gradient_calls_mean']:,.0f}",
                "seconds": f"{r['seconds_mean']:.1f}",
                **({"the paper prints": _printed(paper.get(r["method"]))} if paper else {}),
            }
            for r in summary
        ],
        hide_index=True,
    )
    if paper:
        st.caption(
            "The paper's figures are accuracies in percent at its own, far larger budgets; where they are of other "
            "data "
            "or networks than these, those are named."
        )
    low, high = teacher["interval"]
    st.caption(
        f"In percent, mean ± standard deviation over {summary[0]['seeds']} seeds, each on {teacher['n']:,} real test "
        "examples. Agreement is with the teacher, there and over the plane in view; near is the share of samples "
        "within 0.1 of the boundary, covered the share of the boundary that has a sample within 0.1. "
        f"The teacher gets {100 * teacher['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f} %). "
        "Seconds are those of the machine this runs on, with whatever else it does."
    )
    st.download_button(
        "Download all runs as CSV",
        _csv(job.result["rows"]),
        "comparison.csv",
        "text/csv",
        icon=":material/download:",
        key=f"{key}:csv",
    )


def _printed(row: Mapping[str, Any] | None) -> str:
    """What the paper prints for a method, with its pair where that is another one."""
    if row is None:
        return ""
    figure = row["student_acc"] + (f" ± {row['student_std']}" if row["student_std"] else "")
    return figure if row["same"] else f"{figure} ({row['dataset']}, {row['teacher']} to {row['student']})"


def show_grid(job: Job, *, key: str) -> None:
    """The table of a finished grid of teachers and students; its chart stands in the live view."""
    if job.state != "done" or not job.result:
        return
    titles = job.result["titles"]
    noise = {(r["teacher"], r["student"]): r for r in job.result["summary"] if r["method"] == "noise"}
    rows = [r for r in job.result["summary"] if r["method"] != "noise"]
    st.dataframe(
        [
            {
                "teacher": titles[r["teacher"]],
                "student": titles[r["student"]],
                "teacher's accuracy, %": f"{100 * r['teacher_accuracy_mean']:.1f}",
                "student's accuracy, %": _spread(r, "student_accuracy"),
                "agreement, %": _spread(r, "agreement"),
                "on noise alone, %": _spread(noise[r["teacher"], r["student"]], "student_accuracy"),
                "seconds": f"{r['seconds_student_mean']:.0f}",
            }
            for r in rows
        ],
        hide_index=True,
    )
    st.caption(
        f"Mean ± standard deviation over {rows[0]['seeds']} seeds, on {rows[0]['n_test']:,} real test examples; "
        f"{rows[0]['samples']:,} synthetic samples for each teacher and seed. The noise-only control has one seed."
    )
    st.download_button(
        "Download all runs as CSV",
        _csv(job.result["rows"]),
        "grid.csv",
        "text/csv",
        icon=":material/download:",
        key=f"{key}:csv",
    )


def show_figure_three(*, open: bool = False) -> None:
    """The paper's Fig. 3 in numbers: who can copy whom; folded, or `open`."""
    path = RESULTS / "fig3_quick.csv"
    if not path.is_file():
        return
    title = "Who can copy whom? (the paper's Fig. 3 in numbers)"
    with st.expander(title, expanded=open, icon=":material/query_stats:"):
        rows = read_csv(path)
        titles = {r[k]: models.MODELS[r[k].split("/")[-1]].title for r in rows for k in ("teacher", "student")}
        pairs = [r for r in rows if r["method"] != "noise"]
        st.markdown(
            "MNIST, four types of network with about 100,000 parameters each: every teacher with every student, "
            f"{int(pairs[0]['samples']):,} synthetic samples, mean and standard deviation over {_seeds(pairs)} on "
            f"{int(pairs[0]['n_test']):,} test images. The grey line is a student of noise alone."
        )
        chart_of(path, lambda: figures.grid(rows, titles), key="fig3:bars", config=STILL)
        st.caption(
            "The paper prints no numbers for this figure. It says: MLP teachers teach all types well, ResNet teachers "
            "teach others poorly, equal types work well, a ViT student does well only under a ViT teacher, and ResNet "
            "is the safest student. Here the budget is far smaller, too small for ViT students: benchmarks/README.md "
            "says what holds. Made by `python -m cake_core reproduce fig3 --scale quick`."
        )


TABLES = {
    "table3": "All methods (Table 3)",
    "table1": "What each part of the loss gives (Table 1)",
    "table2": "A selection, on two data sets (Table 2)",
}


def show_tables() -> None:
    """The paper's tables as they were reproduced here, beside its own figures."""
    found = {name: path for name in TABLES if (path := RESULTS / f"{name}_quick.csv").is_file()}
    if not found:
        st.info("No table has been reproduced yet: `python -m cake_core reproduce table3 --scale quick` makes one.")
        return
    name = st.segmented_control(
        "Table", list(found), default=next(iter(found)), format_func=TABLES.get, required=True, key="tables:which"
    )
    rows, table = read_csv(found[name]), FIGURES[name]
    st.markdown(
        f"Mean and standard deviation over {_seeds(rows)}, on {int(rows[0]['n_test']):,} real test images. The paper "
        f"shows: {table.statement}."
    )
    lines = _lines(rows)
    labels = [f"{line}<br>{models.MODELS[r['student']].title}" for line, r in zip(lines, rows, strict=True)]
    chart_of(found[name], lambda: figures.beside_paper(rows, labels), key=f"tables:{name}", config=STILL)
    noise = {(r["data"], r["student"]): float(r["student_accuracy_mean"]) for r in rows if r["method"] == "noise"}
    st.dataframe([_table_line(r, noise) for r in rows], hide_index=True, height="content")
    behind = {
        line: float(r["paper_student"]) - 100 * float(r["student_accuracy_mean"])
        for line, r in zip(lines, rows, strict=True)
        if r["paper_student"] and r["same_pair"] == "True"
    }
    short = [f"{k} by {v:.1f} points" for k, v in sorted(behind.items(), key=lambda item: -item[1]) if v > 0]
    if short:
        st.markdown(
            f"**Where we fall short** of the paper's figure for the same data and networks: {', '.join(short)}."
        )
    st.caption(
        f"Reductions: {table.reductions}. Made on {rows[0]['device']}, {rows[0]['date']}, by "
        f"`python -m cake_core reproduce {name} --scale quick`. benchmarks/README.md says what it shows."
    )


def _lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What the lines of a reproduced table are called: by their data, too, where there are several data sets."""
    if len({r["data"] for r in rows}) == 1:
        return [r["label"] for r in rows]
    return [f"{r['label']}, {data.info(r['data']).title}" for r in rows]


def _table_line(r: Mapping[str, str], noise: Mapping[tuple[str, str], float]) -> dict[str, str]:
    """One line of a reproduced table, in words."""
    mean, std, samples = float(r["student_accuracy_mean"]), float(r["student_accuracy_std"]), int(r["samples"])
    above = 100 * (mean - noise[r["data"], r["student"]]) if (r["data"], r["student"]) in noise else None
    return {
        "line": r["label"],
        "data": data.info(r["data"]).title,
        "student": models.MODELS[r["student"]].title,
        "teacher's accuracy, %": f"{100 * float(r['teacher_accuracy_mean']):.1f}",
        "student's accuracy, %": f"{100 * mean:.1f} ± {100 * std:.1f}",
        "above noise": f"{above:+.1f}" if above is not None and r["method"] != "noise" else "",
        "the paper": r["paper_student"] + (f" ± {r['paper_std']}" if r["paper_std"] else ""),
        "for": "the same" if r["same_pair"] == "True" else r["paper_pair"],
        "calls per sample": f"{float(r['forward_calls_mean']) / samples:,.0f}",
        "gradients per sample": f"{float(r['gradient_calls_mean']) / samples:,.0f}",
        "seconds": f"{float(r['seconds_samples_mean']):.0f}",
    }


def _seeds(rows: list[dict[str, str]]) -> str:
    """ "3 seeds", or "1 to 2 seeds" where rows have different numbers of them."""
    numbers = sorted({int(r["seeds"]) for r in rows})
    return f"{numbers[0]} to {numbers[-1]} seeds" if len(numbers) > 1 else f"{numbers[0]} seeds"


def _spread(row: Mapping[str, Any], name: str, percent: bool = True) -> str:
    """ "91.2 ± 1.3" in percent; of a single seed the interval, where it is known: "91.2 (88.4 to 93.3)"."""
    mean, deviation, interval = (row.get(f"{name}_{k}") for k in ("mean", "std", "interval"))
    if mean is None:
        return ""

    def text(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.3f}"

    if row["seeds"] > 1:
        return f"{text(mean)} ± {text(deviation)}"
    return text(mean) + (f" ({text(interval[0])} to {text(interval[1])})" if interval else "")


def _csv(rows: list[dict[str, Any]]) -> str:
    """Plain values; an interval becomes two columns."""
    plain = []
    for row in rows:
        line: dict[str, Any] = {}
        for name, value in row.items():
            if name.endswith("_interval"):
                stem = name.removesuffix("_interval")
                line |= dict(zip((f"{stem}_low", f"{stem}_high"), value or (None, None), strict=True))
            elif not isinstance(value, list | dict):
                line[name] = value
        plain.append(line)
    lines = [",".join(plain[0])] + [",".join("" if v is None else str(v) for v in row.values()) for row in plain]
    return "\n".join(lines) + "\n"
