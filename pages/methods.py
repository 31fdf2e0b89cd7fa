"""Methods: what each one does, what it needs of the teacher, where it deviates from its paper, and how it fails."""

import streamlit as st

from cake_core import data
from cake_core.methods import METHODS, Method
from cake_core.methods.notes import notes
from cake_core.oracle import ACCESS
from cake_core.paper import METHOD, published
from pages._ui.page import open_page, page_path, show_experiment

open_page(
    "Methods",
    "Every way to copy a classifier that the CAKE paper compares with, under one roof: what it does, what it needs of "
    "the teacher, and what it is known to fail at.",
)
NEEDS = {
    "labels": ("Labels", "It asks for the class alone."),
    "logits": ("Logits", "It sees the teacher's answer as numbers for all classes."),
    "gradient": ("Gradient", "It follows the teacher's gradient back to the input."),
    "features": ("Inside", "It reads hidden activations, so it must hold the network."),
    "weights": ("Weights", "It reads the weights of the last layer."),
    "batchnorm": ("BatchNorm", "It needs batch normalisation in the teacher, and reads or sets its statistics."),
    "data": ("Data", "It needs the teacher's training data: a reference, no data-free method."),
}

INSIDE = ("features", "weights", "batchnorm", "data")  # more than an interface would give


def label(method: type[Method], key: str) -> str:
    """What a key of a URL is called: a setting's label, in small letters."""
    return method.Config.param(key).label.lower() if key in method.Config.model_fields else key


def overview() -> None:
    rows = []
    for method in METHODS.values():
        needs = {title: "●" if key in method.access else "" for key, (title, _) in NEEDS.items()}
        loop = "●" if method.student_in_loop else ""
        rows.append({"Method": method.title, "Kind": method.family, **needs, "Student in the loop": loop})
    st.dataframe(
        rows,
        hide_index=True,
        height="content",
        column_config={
            "Method": st.column_config.TextColumn(pinned=True),
            **{title: st.column_config.TextColumn(help=text, width="small") for title, text in NEEDS.values()},
        },
    )
    st.caption(
        "● marks what a method declares that it needs. It is handed a teacher that can do this and nothing else."
    )


def show(method: type[Method]) -> None:
    known = notes(method)
    st.subheader(method.title, anchor=False)
    st.markdown(method.summary)
    with st.container(horizontal=True, gap="small"):
        for key in ACCESS:
            if key in method.access:
                st.badge(NEEDS[key][0], color="orange" if key in INSIDE else "blue")
    st.latex(method.equation)
    st.markdown(known.algorithm)
    if known.deviations:
        with st.expander("Where it deviates from its paper", icon=":material/alt_route:"):
            st.markdown("\n".join(f"{n}. {text}" for n, text in enumerate(known.deviations, start=1)))
    printed = [r for r in published() if METHOD.get(r["method"]) == method.name and r["student_acc"]]
    if printed:
        with st.expander("What the CAKE paper prints for it", icon=":material/menu_book:"):
            st.dataframe(
                [
                    {
                        "Table": r["source_table"],
                        "Data": r["dataset"],
                        "Teacher": r["teacher"],
                        "Teacher %": float(r["teacher_acc"]) if r["teacher_acc"] else None,
                        "Student": r["student"],
                        "Student %": float(r["student_acc"]),
                        "±": float(r["student_std"]) if r["student_std"] else None,
                    }
                    for r in printed
                ],
                hide_index=True,
            )
    st.caption(f"{method.reference}. " + " · ".join(f"[{title}]({url})" for title, url in known.sources))
    doors = (("two_moons", "moons", "Watch it on two moons"), ("images", "digits", "Watch it on images"))
    with st.container(horizontal=True):
        for page, default, title in doors:
            if st.button(title, key=f"methods:{method.name}:{page}", icon=":material/play_arrow:"):
                show_experiment(page, {"data": default, "method": method.name})
                st.switch_page(page_path(page))
    for number, failure in enumerate(method.failures):
        with st.container(border=True):
            st.markdown(f":material/warning: **How it fails: {failure.title[0].lower()}{failure.title[1:]}**")
            st.markdown(failure.text)
            changed = ", ".join(f"{label(method, k)} {v}" for k, v in failure.query.items() if k != "data")
            kind = data.info(failure.query["data"]).kind
            if st.button("Show me", key=f"methods:{method.name}:fail:{number}", icon=":material/visibility:"):
                page = "two_moons" if kind == "points" else "images"
                show_experiment(page, {"method": method.name, **failure.query})
                st.switch_page(page_path(page))
            st.caption(f"{data.info(failure.query['data']).title}, {changed}; everything else as the page begins.")


left, right = st.columns([1, 2.4], gap="large")
with left:
    asked = st.query_params.get("method", "cake")
    names = list(METHODS)
    chosen = st.radio(
        "Method",
        names,
        names.index(asked) if asked in names else names.index("cake"),
        format_func=lambda n: METHODS[n].title,
        captions=[m.family for m in METHODS.values()],
        key="methods:chosen",
    )
with right:
    show(METHODS[chosen])
st.divider()
st.subheader("What they need of the teacher", anchor=False)
overview()
