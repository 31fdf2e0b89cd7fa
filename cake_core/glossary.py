"""The words of this field, each with one sentence for people who are new to it, its equation, and where it stands.

They are written in assets/glossary.toml. `where` names a place in the paper, Braun, Mundt, Kersting (AISTATS 2024),
arXiv 2306.02090, unless it names another.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GLOSSARY", "Term", "explaining"]


@dataclass(frozen=True)
class Term:
    """One word.

    Attributes:
        title: the word.
        sentence: what it means.
        equation: in LaTeX; empty where there is none.
        plain: the equation in plain characters, for where LaTeX can't be set and for screen readers.
        where: where it is defined or used in print.
        names: the numbers, settings and loss terms of the app that it explains.
    """

    title: str
    sentence: str
    equation: str = ""
    plain: str = ""
    where: str = ""
    names: tuple[str, ...] = ()


GLOSSARY: dict[str, Term] = {
    key: Term(**{**values, "names": tuple(values.get("names", ()))})
    for key, values in tomllib.loads(
        (Path(__file__).parents[1] / "assets" / "glossary.toml").read_text("utf-8")
    ).items()
}


def explaining(name: str) -> str | None:
    """The key of the term that explains a number, a setting or a loss term of the app; None where none does."""
    return next((key for key, term in GLOSSARY.items() if name in term.names), None)
