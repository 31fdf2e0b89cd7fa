"""Components whose script the server keeps at an address of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

__all__ = ["Component"]

# Streamlit sends a component's script again with every change of its data. Where the server has our routes, that is a
# few lines that import the real one, which the browser keeps.
IMPORTING = """
const script = import(new URL("%s", document.baseURI).href);
export default function (component) {
  script.then((module) => module.default(component));
  return () => script.then((module) => module.unmount(component.parentElement));
}
"""


class Component:
    """A component made of the files <folder>/<folder>.html, .css and .js.

    Args:
        folder: whose name is the component's.
    """

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.name
        self.script = folder / f"{folder.name}.js"
        self.version = hashlib.sha256(self.script.read_bytes()).hexdigest()[:12]
        self.address = f"live/{self.version}/{self.script.name}"
        self._served = self._register("", IMPORTING % self.address)
        self._inline = self._register("_inline", self.script.read_text())

    def _register(self, suffix: str, js: str) -> Callable[..., Any]:
        texts = {kind: (self.folder / f"{self.name}.{kind}").read_text() for kind in ("html", "css")}
        # Plotly does not work in a shadow root.
        return st.components.v2.component(f"cake_{self.name}{suffix}", js=js, isolate_styles=False, **texts)

    def __call__(self, data: dict[str, Any], *, key: str, served: bool = True, **callbacks: Callable[[], None]) -> Any:
        """Mounts it.

        Args:
            data: what it shows.
            key: of the component.
            served: whether this server has our routes.
            callbacks: `on_<name>_change` for what it tells.
        """
        return (self._served if served else self._inline)(data=data, key=key, **callbacks)
