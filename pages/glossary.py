"""Glossary: every word of this field that the app uses, in one sentence, with its equation and its place in print."""

import streamlit as st

from cake_core.glossary import GLOSSARY
from pages._ui.page import open_page
from pages._ui.words import show_term

open_page(
    "Glossary",
    "The words that stand on these pages, each in one sentence. *Where* names the place in the paper "
    "([arXiv 2306.02090](https://arxiv.org/abs/2306.02090)) unless it names another.",
)
wanted = st.text_input("Find a word", key="glossary:find", placeholder="boundary, noise, calls …").strip().lower()
shown = [
    term
    for term in sorted(GLOSSARY.values(), key=lambda t: t.title.lower())
    if wanted in f"{term.title} {term.sentence}".lower()
]
if not shown:
    st.info(f"There is no word with '{wanted}' here.", icon=":material/search_off:")
with st.grid(3, min_column_width=300):
    for term in shown:
        with st.container(border=True, height="stretch"):
            st.markdown(f"**{term.title}**")
            show_term(term)
