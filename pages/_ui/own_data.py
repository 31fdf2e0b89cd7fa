"""Data of one's own: the sets of this browser or person, those that a link has brought, and the dialog for a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cake_core import data, figures, logs, runs
from cake_core.data import DatasetInfo, folders, own, tables
from cake_core.data.examples import Examples
from cake_core.errors import CakeError

from .cached import runner
from .owner import key as owner_key
from .page import Screen
from .words import chart

__all__ = ["keep", "offer", "refused", "sets", "store"]

SHOWN = 6  # images of each class in the preview
CLASSES_SHOWN = 8
POINTS_SHOWN = 2000
TREE = """shapes.zip
├── round
│   ├── 1.png
│   └── 2.png
└── flat
    ├── 1.png
    └── 2.png"""


# -- which sets there are ----------------------------------------------------------------------------------------


def sets(kind: str = "", also: str = "") -> list[DatasetInfo]:
    """The data sets that this session may choose from: those for all, its owner's, and those it was given by a link.

    Args:
        kind: "points" or "images"; empty for both.
        also: a set that is in use and so is known.
    """
    if also and own.is_own(also):
        _known().setdefault(also, False)
    mine = own.names(owner_key()) if "owner" in st.session_state else []
    theirs = [info for name in dict.fromkeys([*mine, *_known()]) if (info := own.find(name)) is not None]
    return [info for info in (*data.DATASETS.values(), *theirs) if kind in ("", info.kind)]


def keep(name: str) -> None:
    """Notes a set that this session has brought."""
    _known()[name] = True


def _known() -> dict[str, bool]:
    """Names of the sets of one's own that this session knows, and whether it has brought them itself."""
    return st.session_state.setdefault("own_data", {})


# -- bringing one ------------------------------------------------------------------------------------------------


def offer(screen: Screen, kind: str) -> None:
    """What stands below the choice of a data set: a button that opens the dialog, and one that removes one's own.

    Args:
        screen: which shows the set that was brought.
        kind: of its data.
    """
    name = screen.experiment.data.name
    if own.is_own(name):
        _describe(screen, name)
    opened = f"{screen.name}:bring:opened"
    st.button(
        "Bring your own…",
        icon=":material/upload_file:",
        width="stretch",
        key=f"{screen.name}:bring",
        on_click=lambda: st.session_state.update({opened: True}),
        help="A zip file with a folder of images for each class." if kind == "images" else "A table of points as CSV.",
    )
    if st.session_state.get(opened):
        title = "Bring your own images" if kind == "images" else "Bring your own points"
        st.dialog(title, width="large", on_dismiss=lambda: _close(screen))(_dialog)(screen, kind)


def _describe(screen: Screen, name: str) -> None:
    if own.owner(name) == owner_key():
        learned = " The teacher learns these points; **the student never sees them**."
        also = learned if data.info(name).kind == "points" else ""
        st.caption(f"Yours. Others can use it only by a link that you share with your data.{also}")
        st.button(
            "Remove from the server",
            icon=":material/delete:",
            type="tertiary",
            key=f"{screen.name}:remove",
            on_click=_remove,
            args=(screen, name),
        )
    else:
        st.caption("Brought by whoever gave you this link.")


def _remove(screen: Screen, name: str) -> None:
    screen.leave_data()
    own.delete(name)
    _known().pop(name, None)


def _close(screen: Screen) -> None:
    st.session_state.pop(f"{screen.name}:bring:opened", None)
    st.session_state.pop(f"{screen.name}:bring:read", None)


def _dialog(screen: Screen, kind: str) -> None:
    limits = runner().limits
    _explain(kind, limits.max_upload_mb)
    key = f"{screen.name}:bring"
    file = st.file_uploader(
        "Zip file" if kind == "images" else "CSV file",
        type=["zip"] if kind == "images" else ["csv", "tsv", "txt"],
        max_upload_size=limits.max_upload_mb,
        key=f"{key}:file",
    )
    options = _conversion(key) if kind == "images" else None
    if file is None:
        return
    try:
        examples = _read(screen, file, options, kind)
    except CakeError as error:
        st.error(str(error), icon=":material/error:")
        return
    _preview(examples, key)
    title = st.text_input("Name", Path(file.name).stem, max_chars=own.LONGEST_TITLE, key=f"{key}:title:{file.file_id}")
    if st.button("Use these data", type="primary", icon=":material/check:", key=f"{key}:use"):
        try:
            name = store(title, examples)
        except CakeError as error:
            refused(kind, error)
            st.error(str(error), icon=":material/error:")
            return
        keep(name)
        _close(screen)
        screen.change({"data": name})
        st.rerun()


def _explain(kind: str, most: int) -> None:
    left, right = st.columns([3, 2])
    if kind == "images":
        left.markdown(
            "A zip file with **one folder for each class**. PNG, JPEG, WebP, BMP and GIF can be read. A folder `train` "
            "and a folder `test` may stand above them; otherwise 20 % of each class are set aside for testing.\n\n"
            f"At most {most} MB and {folders.Bounds().images:,} images; each is made small."
        )
        right.code(TREE, language=None)
    else:
        left.markdown(
            "A table with **x, y and a label** in each line; commas, semicolons or tabs between them. "
            "20 % of each class are set aside for testing, and both coordinates are brought to mean 0 and spread 1.\n\n"
            f"{tables.ROWS[0]} to {tables.ROWS[1]:,} points, 2 to {tables.MOST_CLASSES} classes."
        )
        right.code(tables.EXAMPLE, language=None)
    st.caption(
        "The teacher learns from these data on this server; the student never sees them. They are kept for you alone, "
        "until you remove them."
    )


def _conversion(key: str) -> folders.Conversion:
    """What the images are turned into."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        side = st.selectbox(
            "Size",
            [0, *folders.SIDES],
            format_func=lambda s: f"{s} x {s} pixels" if s else "Automatic",
            key=f"{key}:side",
            width=180,
            help="Automatic: 28 x 28 pixels where all images are grey, 32 x 32 otherwise. Small images are fast.",
        )
        colour = st.segmented_control(
            "Colour",
            ["auto", "grey", "colour"],
            default="auto",
            required=True,
            format_func=str.capitalize,
            key=f"{key}:colour",
            help="Auto: grey where all images are grey.",
        )
        fit = st.segmented_control(
            "Shape",
            ["crop", "stretch"],
            default="crop",
            required=True,
            format_func=str.capitalize,
            key=f"{key}:fit",
            help="Images become squares. Crop takes the middle; stretch squeezes in the whole image.",
        )
    return folders.Conversion(side or None, colour, fit)


def _read(screen: Screen, file: Any, options: folders.Conversion | None, kind: str) -> Examples:
    """The examples of a file; read once for each choice of options.

    Raises:
        CakeError: the file can't be used.
    """
    most = runner().limits.max_upload_mb
    if file.size > most * 2**20:
        raise CakeError(f"The file has {file.size / 2**20:.1f} MB; at most {most} MB can be read. Bring a part of it.")
    what, place = (file.file_id, options), f"{screen.name}:bring:read"
    known = st.session_state.get(place)
    if known is not None and known[0] == what:
        if isinstance(known[1], CakeError):
            raise known[1]
        return known[1]
    try:
        if kind == "points":
            with st.spinner("Reading the table…"):
                found = tables.read(file.getvalue())
        else:
            reading = folders.ImageReading(file.getvalue(), options)
            bar = st.progress(0.0, "Reading the images…")
            for share in reading:
                bar.progress(share, "Reading the images…")
            bar.empty()
            found = reading.examples
    except CakeError as error:
        refused(kind, error)
        st.session_state[place] = (what, error)
        raise
    st.session_state[place] = (what, found)
    return found


def refused(what: str, error: CakeError) -> None:
    """Has the log say that something that was brought is not taken."""
    logs.note("upload_refused", "warning", owner=logs.who(st.session_state.owner), what=what, reason=str(error))


def store(title: str, examples: Examples) -> str:
    """Keeps the examples on the server; returns the set's name.

    Raises:
        CakeError: there is no room for them.
    """
    limits = runner().limits
    if len(own.names(owner_key())) >= limits.max_sets_per_owner:
        raise CakeError(
            f"You have brought {limits.max_sets_per_owner} data sets, as many as may be. Choose one of them in the "
            "sidebar and remove it first."
        )
    if own.used_bytes() > limits.max_uploads_gb * 1e9:
        raise CakeError("This server's room for data of one's own is used up. Ask whoever runs it.")
    runs.check_room(owner_key(), limits)
    e = examples
    with runs.owned_by(owner_key()):
        return own.create(title, e.kind, e.shape, e.classes, train=e.train, test=e.test)


# -- what was read -----------------------------------------------------------------------------------------------


def _preview(examples: Examples, key: str) -> None:
    counts = examples.counts()
    what = "images" if examples.kind == "images" else "points"
    size = f" of {examples.shape[2]} x {examples.shape[1]} pixels" if examples.kind == "images" else ""
    colour = "" if examples.kind == "points" else (" in grey" if examples.shape[0] == 1 else " in colour")
    trained, tested = len(examples.train[1]), len(examples.test[1])
    st.markdown(f"**{trained + tested:,} {what}{size}{colour}, {len(counts)} classes.** " + " ".join(examples.notes))
    left, right = st.columns([2, 3])
    left.dataframe(
        [{"class": name, "to learn from": learn, "to test on": test} for name, learn, test in counts],
        hide_index=True,
        height="content" if len(counts) <= CLASSES_SHOWN else 320,
    )
    with right:
        if examples.kind == "points":
            x, y = (part[:POINTS_SHOWN].tolist() for part in examples.train)
            figure = figures.points(x, y, examples.classes)
            chart(figure, key=f"{key}:points", config={"displayModeBar": False})
        else:
            st.image(
                _sheet(examples),
                alt=f"Some images of each class: {', '.join(examples.classes[:CLASSES_SHOWN])}",
                width="stretch",
            )
            more = len(counts) - CLASSES_SHOWN
            st.caption("One class in each line" + (f"; {more} more are not shown." if more > 0 else "."))


def _sheet(examples: Examples) -> np.ndarray:
    """The first images of each class, one class in each row, enlarged without a blur: (height, width[, 3])."""
    x, y = (part.numpy() for part in examples.train)
    channels, side = x.shape[1], x.shape[2]
    rows = min(len(examples.classes), CLASSES_SHOWN)
    sheet = np.full((rows * (side + 1), SHOWN * (side + 1), channels), 127, np.uint8)
    for row in range(rows):
        for column, image in enumerate(x[y == row][:SHOWN]):
            top, left = row * (side + 1), column * (side + 1)
            sheet[top : top + side, left : left + side] = image.transpose(1, 2, 0)
    block = max(1, 400 // sheet.shape[1])
    sheet = sheet[:-1, :-1].repeat(block, axis=0).repeat(block, axis=1)
    return sheet[..., 0] if channels == 1 else sheet
