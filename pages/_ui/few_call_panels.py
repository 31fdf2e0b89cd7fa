"""What the page Few calls shows of finished attacks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from cake_core import aspkd, few_call_figures, runs
from cake_core.jobs import Job
from cake_core.methods.notes import deviations
from cake_core.stealing import TITLES

from .panels import RESULTS, STILL, read_csv
from .words import chart_of

__all__ = ["explain", "show_measured", "show_stolen", "show_sweep"]


def explain() -> None:
    """How the attack goes, for who has not seen it."""
    st.markdown(
        "1. **Questions.** Nobody has the teacher's data, but everybody knows the names of its classes. A generative "
        "model draws *proxies*: images made for each class. Here a small diffusion model stands in for a "
        "text-to-image model; it was trained on another public set.\n"
        "2. **Choice.** The student looks at all proxies. Those near the centre of their class, as it sees them, are "
        "asked about first.\n"
        "3. **Answers.** Each answer costs one call. The student learns from them and looks again: that is a round.\n"
        "4. **Pseudo-labels.** When the budget is spent, every other proxy gets the label of its neighbours that were "
        "asked about, and is learned too."
    )
    st.latex(
        r"m_c=\operatorname{mean}_{q_i=c} h_i,\qquad p_i\propto e^{-\|h_i-m_c\|_2/(s\,d_c)},"
        r"\qquad \hat y_i=\frac{\sum_{j\in N_k(i)} w_j y_j}{\sum_{j\in N_k(i)} w_j}"
    )
    st.caption(
        "h: what the student's last convolution makes of a proxy; m: centres of the classes; p: chance of being asked, "
        "with d the median distance; ŷ: the label of a proxy that was not asked about, from its k nearest that were."
    )
    with st.expander("What differs from the paper", icon=":material/difference:"):
        st.markdown("\n".join(f"{k}. {d}" for k, d in enumerate(deviations(inspect.getdoc(aspkd)), start=1)))
    st.caption(
        "Hondru and Ionescu (2025), Artificial Intelligence Review 58(8), [arXiv 2310.00096]"
        "(https://arxiv.org/abs/2310.00096). On CIFAR-10, AlexNet to its half, the code's logs have an agreement of "
        "39.6 % with 32 calls per class, 44.6 % with pseudo-labels, and 43.9 and 48.4 % with 128."
    )


def show_stolen(job: Job, *, key: str) -> None:
    """The numbers of one attack, and what it cost."""
    if job.state != "done" or not job.result:
        return
    result, o = job.result, job.result["outcome"]
    st.subheader("What was stolen?", anchor=False)
    tiles = st.columns(4)
    _rate(tiles[0], "Agreement with the teacher", o, "agreement", "The student names the same class as the teacher.")
    _rate(tiles[1], "Accuracy", o, "accuracy", "The student is right.")
    _rate(tiles[2], "The teacher's accuracy", o, "teacher_accuracy", "The teacher is right.")
    tiles[3].metric("Calls", f"{o['calls']:,}", help="Questions that the teacher counted.")
    tiles[3].caption(f"{result['config']['budget']:,} for each class were allowed")
    st.caption(f"On all {o['n_test']:,} real test examples, which nobody trained on. In small print: 95 % intervals.")
    lines = []
    if o["before"] is not None:
        lines.append(f"- Before pseudo-labels the student agreed on **{100 * o['before']:.1f} %**.")
    if o["knn_accuracy"] is not None:
        kept = f", of the {o['kept']:,} that were learned {100 * o['kept_accuracy']:.1f} %" if o["kept"] else ""
        lines.append(f"- Of the pseudo-labels {100 * o['knn_accuracy']:.1f} % are what the teacher would say{kept}.")
    if o["prompt_accuracy"] is not None:
        lines.append(
            f"- The teacher takes {100 * o['prompt_accuracy']:.1f} % of the proxies for the class that they were made "
            "for. Where this is high, the questions alone say much: look at *prompts alone* in the next tab."
        )
    lines.append(f"- Questions: {o['proxies']}.")
    st.markdown("\n".join(lines))
    weights = runs.find(result["run"]) / "student.safetensors"
    if weights.is_file():
        model = result["config"]["student"]["model"]
        st.download_button(
            "The student's weights",
            weights.read_bytes(),
            f"{model}-few-calls-seed{o['seed']}.safetensors",
            icon=":material/download:",
            key=f"{key}:weights",
        )


def _rate(place: Any, label: str, o: Mapping[str, Any], name: str, help: str) -> None:
    if o[name] is None:
        place.metric(label, "unknown", help=help)
        return
    low, high = o[f"{name}_interval"]
    place.metric(label, f"{100 * o[name]:.1f} %", help=help)
    place.caption(f"{100 * low:.1f} to {100 * high:.1f} %")


def show_sweep(job: Job, *, key: str) -> None:
    """Agreement and accuracy against calls, in numbers too."""
    if job.state != "done" or not job.result:
        return
    result = job.result
    for sentence in dict.fromkeys(result["refused"].values()):
        st.warning(sentence, icon=":material/info:")
    _table(result["summary"], result["rows"][0]["n_test"])


def _table(summary: Sequence[Mapping[str, Any]], n_test: int | None) -> None:
    def percent(r: Mapping[str, Any], name: str) -> str:
        mean = r[f"{name}_mean"]
        return "" if mean in (None, "") else f"{100 * float(mean):.1f} ± {100 * float(r[f'{name}_std']):.1f}"

    st.dataframe(
        [
            {
                "way": TITLES[r["variant"]],
                "calls per class": int(r["budget"]),
                "calls in all": float(r["calls_mean"]),
                "agreement with teacher, %": percent(r, "agreement"),
                "accuracy, %": percent(r, "accuracy"),
                "before pseudo-labels, %": percent(r, "before"),
                "pseudo-labels right, %": percent(r, "knn_accuracy"),
                "seeds": int(r["seeds"]),
            }
            for r in summary
        ],
        hide_index=True,
        height="content",
        column_config={"calls in all": st.column_config.NumberColumn(format="%,d")},
    )
    if n_test:
        st.caption(f"On all {n_test:,} real test examples; ± is one standard deviation over seeds.")


def show_measured() -> None:
    """The sweep on MNIST that is stored with the program."""
    numbers = {"budget": int, "agreement_mean": float, "agreement_std": float}
    path = RESULTS / "few_call_mnist.csv"
    plain = [{**r, **{k: kind(r[k]) for k, kind in numbers.items()}} for r in read_csv(path)]
    chart_of(
        path,
        lambda: few_call_figures.against_calls(plain, "agreement", TITLES),
        key="few_call:measured",
        config=STILL,
    )
    st.caption(
        "LeNet-5 on MNIST copied to half of it, judged on the 10,000 real test images; bars are one standard deviation "
        f"over {plain[0]['seeds']} seeds. The questions come from a diffusion model of USPS digits. It knows its "
        "classes so well that prompts alone are strong here: a student that asks nothing does better than one that "
        "may ask about few, and does not believe what the questions were made for."
    )
    _table(plain, None)
