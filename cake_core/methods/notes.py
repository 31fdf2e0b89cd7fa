"""What a method's docstring says, in parts, so that a page can show it: the docstring is the only place it stands."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from .base import Method

__all__ = ["Notes", "deviations", "notes"]

HEADING = "Deviations from the paper and its code:"


@dataclass(frozen=True)
class Notes:
    """The parts of a method's docstring.

    Attributes:
        algorithm: its paragraphs in Markdown; indented equations are code blocks.
        deviations: where it deviates from its paper, in the order of their numbers; empty where it does not.
        sources: title and address of each reference.
    """

    algorithm: str
    deviations: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


def notes(method: type[Method]) -> Notes:
    """Reads the docstrings of a method's class and module."""
    text = inspect.getdoc(method)
    module = inspect.getdoc(inspect.getmodule(method))
    sources = re.findall(r"\| ([^|\n]+) \| (https://\S+)", module)
    return Notes(text.partition(HEADING)[0].strip(), deviations(text), tuple(sources))


def deviations(text: str) -> tuple[str, ...]:
    """The numbered deviations in a docstring, in their order."""
    numbered = text.partition(HEADING)[2].partition("\n\nSource")[0]
    found = re.findall(r"^\d+\. (.*?)(?=^\d+\. |\Z)", numbered, flags=re.MULTILINE | re.DOTALL)
    return tuple(" ".join(d.split()) for d in found)
