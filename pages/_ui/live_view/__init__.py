"""The live view as a Streamlit component. The picture moves in the browser; Python says what to watch.

Its data say what to watch and how (see `pages._ui.live`); it tells "settings", "ended", "preset" and "command".
"""

from pathlib import Path

from ..component import Component

__all__ = ["SCRIPT", "VERSION", "live_view"]

live_view = Component(Path(__file__).parent)
SCRIPT, VERSION = live_view.script, live_view.version
