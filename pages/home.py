"""Home: what this is about, in one screen and one minute."""

import streamlit as st

from pages._ui import live
from pages._ui.page import open_page, page_path

open_page(
    "Copy a classifier without its data",
    "A **teacher** has learned to tell two kinds of points apart. Its data are gone. All we can do is ask it. "
    "CAKE makes **random samples** and moves them, pair against pair, to the teacher's **decision boundary**, "
    "where its knowledge lies. A **student** that learns from these samples alone becomes the teacher's double.",
)
live.replay("home", key="home:replay")

play, learn, compare = st.columns(3, gap="medium")
with play, st.container(border=True, height="stretch"):
    st.subheader("Play", anchor=False)
    st.markdown("Watch points walk to the boundary, change what drives them while they walk, train the student.")
    st.page_link(page_path("two_moons"), label="Two moons", icon=":material/scatter_plot:")
    st.page_link(page_path("images"), label="Images", icon=":material/grid_view:")
with learn, st.container(border=True, height="stretch"):
    st.subheader("Learn", anchor=False)
    st.markdown("Who is copied, who copies, and what the copy sees: look inside teachers, students and features.")
    st.page_link(page_path("teacher"), label="Teacher", icon=":material/school:")
    st.page_link(page_path("student"), label="Student", icon=":material/backpack:")
    st.page_link(page_path("embeddings"), label="Embeddings", icon=":material/bubble_chart:")
with compare, st.container(border=True, height="stretch"):
    st.subheader("Compare", anchor=False)
    st.markdown("Methods against each other and against pure noise, with several seeds and honest error bars.")
    st.page_link(page_path("compare"), label="Compare", icon=":material/bar_chart:")

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
