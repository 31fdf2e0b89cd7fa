"""A teacher of one's own: the form that takes a file and what is said about it."""

from __future__ import annotations

import re
from typing import Any

import streamlit as st

from cake_core import data, formats, inbox, models, runs
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.imports import FOR_POINTS, PRESETS, used_bytes

from . import controls, own_data
from .cached import runner
from .owner import key

__all__ = ["form"]

ELSE = "something else"
PICTURE_MB = 10

# That a file is too large is said by Streamlit to screen readers alone; here it is for all.
SHOWN = """<style>
.stFileChip[aria-invalid="true"] { flex-wrap: wrap; height: auto; }
.stFileChip[aria-invalid="true"] > [role="alert"] {
  position: static; clip: auto; width: 100%; height: auto; margin: 0; white-space: normal; font-size: 0.875rem;
}
</style>"""
COORDINATES = {"data": PRESETS["data"][0], "unit": "None: coordinates as they are", "custom": PRESETS["custom"][0]}


def form() -> dict[str, Any] | None:
    """The form; what it says when its button is pressed, as the task "import" takes it, and None otherwise.

    Raises:
        CakeError: the file can't be kept.
    """
    st.html(SHOWN)
    most = min(runner().limits.max_teacher_mb, formats.MOST_BYTES >> 20)
    file = st.file_uploader(
        "File", max_upload_size=most, key="own_teacher:file", help="Weights as safetensors, or a network as ONNX."
    )
    st.caption(
        f"**safetensors** with the weights of an architecture listed here, or any classifier as **ONNX**; at most "
        f"{most} MB. Files that hold pickles (.pt, .pth, .pkl, .bin, .ckpt) are not opened: they could run programs."
    )
    if file is None:
        return None
    try:
        found = _format(file)
    except CakeError as error:
        if st.session_state.get("own_teacher:refused") != file.file_id:  # once, not each time that the page is drawn
            st.session_state["own_teacher:refused"] = file.file_id
            own_data.refused("teacher", error)
        st.error(str(error), icon=":material/error:")
        return None
    st.markdown(f"Found: **{'safetensors' if found == 'safetensors' else 'ONNX'}**, {file.size / 2**20:,.1f} MB.")
    said = _about(found)
    if not st.button("Check and import", type="primary", icon=":material/upload_file:", width="stretch"):
        return None
    if own.used_bytes() + used_bytes() > runner().limits.max_uploads_gb * 1e9:
        raise CakeError("This server's room for data and teachers of one's own is used up. Ask whoever runs it.")
    runs.check_room(key(), runner().limits)
    picture = said.pop("picture")
    return {
        **said,
        "upload": inbox.keep(file.getbuffer()),
        "name": formats.plain(file.name),
        "picture": inbox.keep(picture.getbuffer()) if picture is not None else "",
    }


def _format(file: Any) -> formats.Format:
    content = file.getbuffer()
    head, tail = bytes(content[: formats.HEAD]), bytes(content[-formats.TAIL :])
    return formats.judge(file.name, file.size, head, tail)


def _about(found: formats.Format) -> dict[str, Any]:
    """What it classifies, its architecture, its normalisation, and an example to try."""
    titles = {info.name: info.title for info in own_data.sets() if info.has_examples}
    name = st.selectbox(
        "It classifies",
        [*titles, ELSE],
        format_func=lambda n: titles.get(n, "Something else"),
        index=list(titles).index("mnist"),
        key="own_teacher:data",
        help="Names of the classes and size of the inputs come from the data set, in its order.",
    )
    config, something = None, None
    if name == ELSE:
        something = _something_else()
        shape = tuple(something["shape"])
    else:
        info = data.info(name)
        shape, config = info.shape, data.DataConfig(name=name)
        if info.drawn:
            config = config.replace(**controls.configure(config, "points", key="own_teacher:points", skip=("name",)))
    kind = "images" if len(shape) == 3 else "points"
    model = ""
    if found == "safetensors":
        fitting = {m.name: m for m in models.MODELS.values() if kind in m.kinds}
        model = st.selectbox(
            "Architecture", list(fitting), format_func=lambda m: fitting[m].title, key=f"own_teacher:model:{kind}"
        )
        st.caption(fitting[model].help)
    normalisation = _normalisation(kind, ELSE if name == ELSE else "")
    return {
        "data_config": config.to_dict() if config else None,
        "something": something,
        "model": model,
        "normalisation": normalisation,
        **_example(kind),
    }


def _something_else() -> dict[str, Any]:
    """Title, classes and shape of what nobody has the data of."""
    title = st.text_input("What", placeholder="Traffic signs", max_chars=own.LONGEST_TITLE, key="own_teacher:title")
    text = st.text_area(
        "Classes",
        placeholder="stop\nyield\nno entry",
        key="own_teacher:classes",
        help="One in each line, in the order of the teacher's outputs.",
    )
    classes = [line.strip() for line in text.splitlines() if line.strip()]
    kind = st.segmented_control(
        "Inputs", ["Images", "Points"], default="Images", required=True, key="own_teacher:kind", width="stretch"
    )
    shape = [2]
    if kind == "Images":
        channels = st.segmented_control(
            "Colours",
            [1, 3],
            default=3,
            required=True,
            format_func={1: "Grey", 3: "RGB"}.get,
            key="own_teacher:colours",
            width="stretch",
        )
        with st.container(horizontal=True):
            height, width = (
                st.number_input(f"{what}, pixels", 4, 512, 32, key=f"own_teacher:{what}")
                for what in ("Height", "Width")
            )
        shape = [channels, height, width]
    st.caption("No examples are here then: samples and students can be made, but accuracies can't be measured.")
    return {"title": title or "Something else", "classes": classes, "shape": shape}


def _normalisation(kind: str, source: str) -> dict[str, Any]:
    titles = COORDINATES if kind == "points" else {k: v[0] for k, v in PRESETS.items()}
    offered = [k for k in titles if (kind == "images" or k in FOR_POINTS) and not (source and k == "data")]
    preset = st.selectbox(
        "Normalisation",
        offered,
        format_func=lambda k: titles[k],
        key=f"own_teacher:normalisation:{kind}:{source}",
        help="What was subtracted from its inputs, and what they were divided by, when it was trained.",
    )
    if preset != "custom":
        return {"preset": preset}
    with st.container(horizontal=True):
        mean, std = (
            st.text_input(label, start, key=f"own_teacher:{label}", help="One number, or one for each channel.")
            for label, start in (("Mean", "0"), ("Standard deviation", "1"))
        )
    return {"preset": preset, "mean": _numbers(mean), "std": _numbers(std)}


def _example(kind: str) -> dict[str, Any]:
    """One input to try the teacher with."""
    if kind == "images":
        picture = st.file_uploader(
            "A picture to try it with (optional)",
            ["png", "jpg", "jpeg"],
            max_upload_size=PICTURE_MB,
            key="own_teacher:picture",
            help="The answer shows whether normalisation and order of the classes are right.",
        )
        return {"picture": picture, "point": None}
    if not st.toggle("Try it with a point", key="own_teacher:try"):
        return {"picture": None, "point": None}
    with st.container(horizontal=True):
        point = [st.number_input(axis, value=0.0, key=f"own_teacher:{axis}") for axis in ("x", "y")]
    return {"picture": None, "point": point}


def _numbers(text: str) -> list[str]:
    return re.split(r"[\s,;]+", text.strip())
