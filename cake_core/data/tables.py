"""Points from a table: text with the columns x, y and label."""

from __future__ import annotations

import codecs
import contextlib
import csv
import math
import re
from collections.abc import Iterator

import numpy as np
import torch

from ..errors import CakeError
from .examples import LEAST_PER_CLASS, TEST_SHARE, Examples, divide, in_order, rarest

__all__ = ["EXAMPLE", "MOST_BYTES", "ROWS", "read"]

EXAMPLE = "x,y,label\n0.31,1.20,round\n-0.45,0.87,round\n1.62,-0.33,flat\n"

MOST_BYTES = 5_000_000
ROWS = (20, 20_000)
MOST_CLASSES = 10  # more colours can't be told apart
LONGEST_LINE = 500  # characters
LARGEST = 1e12
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
FORMULA = re.compile(r"[=@+\-]")  # begins what a spreadsheet would carry out
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity|n/?a|null|#.*)", re.IGNORECASE)

NO_TEXT = "The file is not readable text. Save the table as CSV (in a spreadsheet: Save as, CSV UTF-8)."

Row = tuple[float, float, str]


def read(content: bytes, seed: int = 0) -> Examples:
    """Points of a table, one in each line: x, y and the label, a word or a number.

    Commas, semicolons or tabs stand between them. The first line may name the columns, in any order. Of each class
    `TEST_SHARE` is set aside for testing.

    Args:
        content: of the file.
        seed: which points are set aside.

    Raises:
        CakeError: the file is no such table; the sentence names the line.
    """
    if len(content) > MOST_BYTES:
        raise CakeError(f"The file has {len(content) / 1e6:.1f} MB; at most {MOST_BYTES / 1e6:.0f} MB can be read.")
    rows = list(_rows(_text(content)))
    if not ROWS[0] <= len(rows) <= ROWS[1]:
        raise CakeError(f"The table has {len(rows):,} points; {ROWS[0]} to {ROWS[1]:,} can be used.")
    names, classes = _classes([label for *_, label in rows])
    if len(classes) == 1:
        raise CakeError(f"All points have the label '{classes[0]}'. A classifier needs at least two classes.")
    if len(classes) > MOST_CLASSES:
        raise CakeError(
            f"There are {len(classes):,} different labels; at most {MOST_CLASSES} can be shown. "
            "Look whether the label is in the third column."
        )
    if (least := rarest(names))[1] < LEAST_PER_CLASS:
        raise CakeError(
            f"Class '{least[0]}' has {least[1]} point(s); each class needs at least {LEAST_PER_CLASS}. "
            "Add some, or leave the class out."
        )
    x = np.array([row[:2] for row in rows])
    centre, spread = x.mean(axis=0), x.std(axis=0)
    for column, s, c in zip("xy", spread, centre, strict=True):
        if s <= 1e-12 * max(1.0, abs(c)):
            raise CakeError(f"All values of {column} are the same. Two coordinates that differ are needed.")
    # Far from the origin (years, timestamps), 32 bits would be too coarse for what is between the points.
    x -= np.where(np.abs(centre) > 1000 * spread, centre, 0)
    points = torch.as_tensor(x, dtype=torch.float32)
    y = torch.tensor([classes.index(name) for name in names])
    train, test = divide(y, seed)
    note = f"{TEST_SHARE:.0%} of each class, chosen by seed {seed}, are set aside for testing.".replace("%", " %")
    return Examples("points", (2,), tuple(classes), (points[train], y[train]), (points[test], y[test]), (note,))


def _text(content: bytes) -> str:
    """The text of a file: UTF-8, UTF-16 where its first two bytes say so, else Latin-1 as Windows writes it."""
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marked = next((name for mark, name in marks.items() if content.startswith(mark)), "")
    for encoding in [marked] if marked else ["utf-8", "cp1252"]:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            break
    else:
        raise CakeError(NO_TEXT)
    # Nearly everything can be read as Latin-1; what is no text shows itself by control characters.
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        raise CakeError(NO_TEXT)
    if not text.strip():
        raise CakeError("The file is empty. It needs a line for each point: x, y and a label.")
    return text


def _rows(text: str) -> Iterator[Row]:
    """One point after the other."""
    lines = re.split(r"\r\n|\r|\n", text)
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_LINE:
            raise CakeError(
                f"Line {number} has {len(line):,} characters; x, y and a label need at most {LONGEST_LINE}. "
                "A line is one point."
            )
    separator = _separator(next(line for line in lines if line.strip()))
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator, skipinitialspace=True, strict=True)
    places, first, found = (0, 1, 2), True, 0
    try:
        for cells in reader:
            cells, where = [cell.strip() for cell in cells], f"Line {reader.line_num}"
            if not any(cells):
                continue
            if len(cells) != 3:
                raise CakeError(
                    f"{where} has {len(cells)} column(s), separated by {SEPARATORS[separator]}; "
                    "there must be three: x, y and label."
                )
            if first and (heading := _heading(cells, separator)) is not None:
                places, first = heading, False
                continue
            first, found = False, found + 1
            if found > ROWS[1]:
                raise CakeError(f"The table has more than {ROWS[1]:,} points. Take a part of it.")
            x, y, label = (cells[place] for place in places)
            if not label:
                raise CakeError(f"{where} has no label. Fill it in, or take the line out.")
            if FORMULA.match(label) and not NUMBER.fullmatch(label):
                raise CakeError(f"{where}: a spreadsheet would take this label for a formula. Begin it with a letter.")
            yield _number(x, separator, f"{where}, x"), _number(y, separator, f"{where}, y"), label
    except csv.Error as error:
        raise CakeError(f"Line {reader.line_num} can't be read ({error}). Look at its quotation marks.") from None


def _separator(line: str) -> str:
    """What stands between the columns of a line."""
    counts = {s: len(next(csv.reader([line], delimiter=s, skipinitialspace=True))) for s in SEPARATORS}
    # A semicolon or a tab before a comma, which may be that of a decimal number.
    fitting = [s for s in (";", "\t", ",") if counts[s] == 3]
    most = max(counts, key=counts.get)
    if not fitting and counts[most] == 1:
        raise CakeError("The first line has one column. Put commas, semicolons or tabs between x, y and label.")
    return fitting[0] if fitting else most


def _heading(cells: list[str], separator: str) -> tuple[int, int, int] | None:
    """Where x, y and label stand, if a line names the columns; None if it is a point."""
    names = [cell.casefold() for cell in cells]
    if "x" in names and "y" in names and names.index("x") != names.index("y"):
        x, y = names.index("x"), names.index("y")
        return x, y, 3 - x - y
    words = [cell for cell in cells[:2] if cell and not _looks_like_number(cell, separator)]
    return (0, 1, 2) if len(words) == 2 else None


def _looks_like_number(cell: str, separator: str) -> bool:
    return bool(NUMBER.fullmatch(_with_point(cell, separator)) or NOT_FINITE.fullmatch(cell))


def _number(cell: str, separator: str, where: str) -> float:
    if not cell:
        raise CakeError(f"{where} is missing. Fill it in, or take the line out.")
    if NOT_FINITE.fullmatch(cell):
        raise CakeError(f"{where} is '{cell[:20]}', which is no finite number. Take the line out.")
    if not NUMBER.fullmatch(text := _with_point(cell, separator)):
        raise CakeError(f"{where} is '{cell[:20]}', which is no number. The columns are x, y and label.")
    value = float(text)
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise CakeError(f"{where} is {cell[:20]}; values up to {LARGEST:.0e} can be used. Choose another unit.")
    return value


def _with_point(cell: str, separator: str) -> str:
    """A number with a decimal point; where commas do not separate columns, they may stand for it."""
    return cell.replace(",", ".") if separator != "," and cell.count(",") == 1 and "." not in cell else cell


def _classes(labels: list[str]) -> tuple[list[str], list[str]]:
    """The class of each point, and all classes in order; of labels that are all numbers, 1 and 1.0 are the same."""
    if all(NUMBER.fullmatch(label) and abs(float(label)) < LARGEST for label in labels):
        names = [f"{float(label):.10g}" for label in labels]
        return names, sorted(set(names), key=float)
    return labels, in_order(labels)
