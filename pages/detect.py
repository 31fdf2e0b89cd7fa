"""Detect: who copied whom? A game with a line-up of teachers, a check of weights of one's own, what was measured."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from cake_core import data, formats, inbox, models
from cake_core import teacher as teachers
from cake_core.detection import ProbeConfig
from cake_core.errors import CakeError
from cake_core.lineup import KINDS, LineUpConfig
from cake_core.links import Link
from pages._ui import controls, detective, own_data
from pages._ui.cached import runner
from pages._ui.lab import begin, begun
from pages._ui.page import began_with, computed_on, known_teachers, mirror, open_page

open_page(
    "Detect",
    "A student copied a teacher, with its data or without. Can one tell whom, from the student's weights and the "
    "teachers' answers alone? Guess first, then see what the probes say.",
)

game, tool, measured = st.tabs(["The game", "Check a suspect", "How well does it work?"])


@contextmanager
def refusals_shown() -> Iterator[None]:
    try:
        yield
    except CakeError as error:
        st.error(str(error), icon=":material/error:")


def choose_data(key: str, start: str) -> str:
    names = [d.name for d in own_data.sets(also=start) if d.has_examples and d.on_disk()]
    first = start if start in names else "digits"
    return st.selectbox(
        "Data set", names, names.index(first), format_func=lambda n: data.info(n).title, key=f"{key}:data"
    )


def config_of(name: str, values: dict[str, Any], probes: dict[str, Any], seed: int) -> LineUpConfig:
    return LineUpConfig.from_dict({**values, "data": {"name": name}, "probes": probes, "seed": seed})


def roll() -> None:
    st.session_state["detect:game:seed"] = random.randrange(10_000)


def suspects_of(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and 2 <= int(text[:3]) <= 8 else 5


# What the address says: who stands in the line-up, and with which seed one is made that is the same for everybody.
told, words = began_with("detect:start", LineUpConfig, ("suspects", "kinds"))
wanted_kinds = [k for k in words.get("kinds", "").split(",") if k in KINDS] or ["kd", "cake", "scratch"]

with game:
    left, right = st.columns([1, 2.4], gap="large")
    with left:
        name = choose_data("detect:game", told.data.name)
        info = data.info(name)
        start = told if name == told.data.name else LineUpConfig(data=data.DataConfig(name=name))
        values = controls.configure(start, info.kind, key="detect:game", only=("teachers", "resemblance"))
        suspects = st.slider("Suspects", 2, 8, suspects_of(words.get("suspects", "")), key="detect:game:suspects")
        kinds = [k for k, title in KINDS.items() if st.checkbox(title, k in wanted_kinds, key=f"detect:game:kind:{k}")]
        with st.expander("Students and probes", icon=":material/tune:"):
            values |= controls.configure(
                start,
                info.kind,
                key=f"detect:game:{info.kind}",
                only=("teacher_updates", "updates", "kd_weight", "batches", "nulls"),
            )
            probes = controls.configure(start.probes, info.kind, key=f"detect:game:probes:{info.kind}")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            p = told.param("seed")
            st.session_state.setdefault("detect:game:seed", told.seed if words else random.randrange(10_000))
            seed = st.number_input(
                "Seed",
                p.low,
                p.high,
                step=1,
                key="detect:game:seed",
                help="Who copied whom follows from it. Whoever opens this page's address gets the same line-up.",
            )
            st.button("Dice", icon=":material/casino:", key="detect:game:dice", on_click=roll, help="Another line-up.")
        st.caption(
            "On the small digits it takes a minute or two on two cores; on MNIST some minutes. Everything that is "
            "finished is kept."
        )
        config = config_of(name, {**values, "device": told.device}, probes, int(seed))
        about = {"suspects": str(suspects), "kinds": ",".join(kinds)}
        mirror(Link({**config.to_query(), "seed": str(config.seed), **about}, computed_on(told.device)))
        if st.button("Make a line-up", type="primary", icon=":material/groups:", width="stretch"):
            with refusals_shown():
                if not kinds:
                    raise CakeError("Choose at least one kind of student.")
                begin("detect:game", "lineup", {"config": config.to_dict(), "kinds": kinds, "suspects": suspects})
    with right:
        hint = "Press **Make a line-up**: teachers are trained, and students who copied one of them, or nobody."
        if job := begun("detect:game", hint):
            detective.show_game(job, key="detect:game")
        else:
            detective.explain()

with tool:
    left, right = st.columns([1, 2.4], gap="large")
    with left:
        name = choose_data("detect:tool", "digits")
        info = data.info(name)
        most = min(runner().limits.max_teacher_mb, formats.MOST_BYTES >> 20)
        file = st.file_uploader(
            "The suspect's weights", max_upload_size=most, key="detect:tool:file", help="As safetensors."
        )
        st.caption(
            f"**safetensors** of an architecture listed here, at most {most} MB; its inputs normalised as the data "
            "set's. Files that hold pickles (.pt, .pth, .pkl, .bin, .ckpt) are not opened: they could run programs. "
            "The game's suspects can be downloaded there and checked here."
        )
        fitting = [m.name for m in models.MODELS.values() if info.kind in m.kinds]
        usual = LineUpConfig(data=data.DataConfig(name=name)).student_model
        model = st.selectbox(
            "Its architecture",
            fitting,
            fitting.index(usual),
            format_func=lambda m: models.MODELS[m].title,
            key=f"detect:tool:model:{name}",
        )
        titles = {c.name: f"{c.network_title} (shipped)" for c in teachers.shipped().values() if c.data["name"] == name}
        titles |= {n: t["title"] for n, t in known_teachers().items() if t["data"] == name}
        chosen = st.multiselect(
            "Whom may it have copied?",
            list(titles),
            list(titles),
            format_func=titles.get,
            key=f"detect:tool:candidates:{name}:{len(titles)}",
            help="Shipped teachers, those that you trained or imported on the page Teacher, and the game's line-up.",
        )
        start = LineUpConfig(data=data.DataConfig(name=name))
        with st.expander("Probes, and students that copied nobody", icon=":material/tune:"):
            values = controls.configure(start, info.kind, key=f"detect:tool:{info.kind}", only=("nulls", "updates"))
            probes = controls.configure(ProbeConfig(), info.kind, key=f"detect:tool:probes:{info.kind}")
            seed = st.number_input("Seed", 0, 1_000_000, 0, key="detect:tool:seed")
        if st.button("Check", type="primary", icon=":material/fingerprint:", width="stretch", disabled=file is None):
            with refusals_shown():
                config = config_of(name, values, probes, int(seed))
                begin(
                    "detect:tool",
                    "audit",
                    {
                        "upload": inbox.keep(file.getbuffer()),
                        "name": formats.plain(file.name),
                        "model": model,
                        "candidates": {n: titles[n] for n in chosen},
                        "config": config.to_dict(),
                    },
                )
    with right:
        hint = (
            "Choose a file and at least two teachers, then press **Check**. Probes are made from the weights "
            "alone, and each teacher is asked about them once."
        )
        if job := begun("detect:tool", hint, watched=False):
            detective.show_audit(job, key="detect:tool")

with measured:
    detective.show_measured()
