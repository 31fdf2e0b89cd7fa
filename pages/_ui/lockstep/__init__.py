"""Pictures of one to four stored runs as a Streamlit component: one slider moves through all of them."""

from pathlib import Path

from ..component import Component

__all__ = ["lockstep"]

lockstep = Component(Path(__file__).parent)
