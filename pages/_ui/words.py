"""Words where they stand: a term's sentence, its equation, and where it is in print."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from cake_core.alt_text import alt_text
from cake_core.glossary import GLOSSARY, Term, explaining

__all__ = ["chart", "chart_of", "for_live_view", "help_with", "show_term", "words"]


def words(names: Iterable[str], *, key: str, heading: str = "Words of this step") -> None:
    """A row of terms; each opens what it means.

    Args:
        names: keys of the glossary.
        key: prefix of the widgets' keys.
        heading: stands before them.
    """
    names = list(names)
    if not names:
        return
    st.caption(heading)
    with st.container(horizontal=True, gap="small"):
        for name in names:
            term = GLOSSARY[name]
            with st.popover(term.title, icon=":material/info:", key=f"{key}:word:{name}"):
                show_term(term)


def show_term(term: Term) -> None:
    """What a term means."""
    st.markdown(term.sentence)
    if term.equation:
        st.latex(term.equation)
    if term.where:
        st.caption(f"Where: {term.where}.")


def chart(figure: go.Figure, *, key: str, place: Any = st, **options: Any) -> Any:
    """A chart, with what it says in words for who does not see it.

    Args:
        figure: what is shown.
        key: of the element.
        place: a container to put it into.
        options: of `st.plotly_chart`.
    """
    return place.plotly_chart(figure, key=key, alt=alt_text(figure), **options)


def chart_of(path: Path, make: Callable[[], go.Figure], *, key: str, **options: Any) -> Any:
    """A chart of stored results. It is the same for all who look, so its figure is made once.

    Args:
        path: of the results; when the file has changed, the figure is made anew.
        make: makes it.
        key: of the element, another one for every figure of the file.
        options: of `st.plotly_chart`.
    """
    figure, alt = _made(key, path, path.stat().st_mtime_ns, make)
    return st.plotly_chart(figure, key=key, alt=alt, **options)


@st.cache_resource(show_spinner=False, max_entries=50)
def _made(key: str, path: Path, changed: int, _make: Callable[[], go.Figure]) -> tuple[go.Figure, str]:
    figure = _make()
    return figure, alt_text(figure)


def help_with(help: str, name: str) -> str:
    """A help text, and behind it the equation and the place in print of the term that explains a number or setting."""
    key = explaining(name)
    if key is None:
        return help
    term = GLOSSARY[key]
    parts = [
        help,
        f"${term.equation}$" if term.equation else "",
        f"*{term.title}: {term.where}.*" if term.where else "",
    ]
    return "\n\n".join(filter(None, parts))


def for_live_view(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The terms that explain numbers, settings and losses of the live view, by their names there."""
    found = {name: GLOSSARY[key] for name in names if (key := explaining(name)) is not None}
    return {
        name: {"title": t.title, "sentence": t.sentence, "equation": t.plain, "where": t.where}
        for name, t in found.items()
    }
