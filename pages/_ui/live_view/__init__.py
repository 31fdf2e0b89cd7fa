"""The live view as a Streamlit component. The picture moves in the browser; Python says what to watch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

__all__ = ["SCRIPT", "VERSION", "live_view"]

FOLDER = Path(__file__).parent
SCRIPT = FOLDER / "live_view.js"
VERSION = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:12]

# Components send their script again with every change of their data. Where the server has our routes, that is a few
# lines that import the real one, which the browser keeps.
IMPORTING = f"""
const script = import(new URL("live/{VERSION}/live_view.js", document.baseURI).href);
export default function (component) {{
  script.then((module) => module.default(component));
  return () => script.then((module) => module.unmount(component.parentElement));
}}
"""


def _register(name: str, js: str) -> Callable[..., Any]:
    texts = {kind: (FOLDER / f"live_view.{kind}").read_text() for kind in ("html", "css")}
    return st.components.v2.component(name, js=js, isolate_styles=False, **texts)


_served = _register("cake_live_view", IMPORTING)
_inline = _register("cake_live_view_inline", SCRIPT.read_text())


def live_view(data: dict[str, Any], *, key: str, served: bool, **callbacks: Callable[[], None]) -> Any:
    """Mounts the live view.

    Args:
        data: what to watch and how (see `pages._ui.live`).
        key: of the component.
        served: whether this server has our routes.
        callbacks: `on_<name>_change` for "settings", "ended", "preset" and "command".
    """
    return (_served if served else _inline)(data=data, key=key, **callbacks)
