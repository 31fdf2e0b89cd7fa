"""The frame around every page: navigation, and nothing else. `app.py` runs it."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

st.set_page_config(page_title="CAKE Lab", page_icon=str(ROOT / "assets" / "icon.png"), layout="wide")

from cake_core.errors import CakeError  # noqa: E402
from pages._ui import account  # noqa: E402
from pages._ui.cached import settle, turns  # noqa: E402
from pages._ui.page import HIDDEN, PAGES, hides_navigation, page_path  # noqa: E402

IN_LINE = "Many open pages here at this moment. Yours comes in turn, in a few seconds."

page = st.navigation(
    [
        st.Page(
            page_path(name),
            title=title,
            icon=icon,
            default=name == "home",
            visibility="hidden" if name in HIDDEN else "visible",
        )
        for name, (title, icon) in {**PAGES, **HIDDEN}.items()
    ],
    position="hidden" if account.is_outside() or hides_navigation() else "top",
)
st.html(ROOT / "pages" / "_ui" / "frame.css")
in_line = st.empty()
try:
    with turns().take(lambda: in_line.info(IN_LINE, icon=":material/groups:")):
        in_line.empty()
        account.gate()
        page.run()
except CakeError as error:  # what is wrong with an input, where the page itself did not say it; all else is a bug
    st.error(str(error), icon=":material/error:")

settle()
