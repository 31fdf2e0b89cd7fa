"""Home: what this is about, in one screen and one minute."""

import streamlit as st

from pages._ui import live
from pages._ui.page import link, open_page

open_page(
    "Copy a classifier without its data",
    "A **teacher** has learned to tell two kinds of points apart. Its data are gone. All we can do is ask it. "
    "CAKE makes **random samples** and moves them, pair against pair, to the teacher's **decision boundary**, "
    "where its knowledge lies. A **student** that learns from these samples alone becomes the teacher's double.",
)
doors = [
    (
        "Play",
        "Watch points walk to the boundary, change what drives them while they walk, train the student.",
        ("two_moons", "images"),
    ),
    (
        "Learn",
        "Ten short lessons: predict, run, see why. Then look inside: who is copied, who copies, how both see samples.",
        ("lessons", "teacher", "student", "embeddings", "methods", "glossary"),
    ),
    (
        "Compare",
        "Methods against each other and against pure noise, with several seeds and honest error bars.",
        ("compare", "few_call", "detect", "tune", "runs"),
    ),
]
picture, beside = st.columns([8, 5], gap="large")
with picture:
    live.replay("home", key="home:replay")
for title, text, pages in doors:
    with beside.container(border=True):
        st.subheader(title, anchor=False)
        st.markdown(text)
        with st.container(horizontal=True):
            for name in pages:
                link(name)

st.subheader("What is going on", anchor=False)
steps = [
    ("Predict", "The teacher gives each sample its probabilities. Where they tip from one class to the other lies its "
     "decision boundary."),
    ("Pull apart", "One force pulls each sample into a class it was told, away from the boundary. Alone it sends "
     "samples to where the teacher is certain, and certainty teaches nothing."),
    ("Pull together", "A second force pulls samples of different classes toward each other. The only place where they "
     "can meet is the boundary between them."),
    ("Copy", "The student learns the teacher's answers for the samples. It never sees what the teacher learned from. "
     "We then test both on real data, beside a student of pure noise."),
]  # fmt: skip
with st.grid(4, min_column_width=220):
    for number, (title, text) in enumerate(steps, start=1):
        with st.container(border=True, height="stretch"):
            st.markdown(f"**{number}. {title}**")
            st.caption(text)
st.caption(
    "After Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting, AISTATS 2024), "
    "[arXiv 2306.02090](https://arxiv.org/abs/2306.02090)."
)
