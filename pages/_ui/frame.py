"""The frame around every page: navigation, and nothing else. `app.py` runs it."""

import gc
import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

st.set_page_config(page_title="CAKE Lab", page_icon=str(ROOT / "assets" / "icon.png"), layout="wide")

PAGES = ROOT / "pages"
page = st.navigation(
    [
        st.Page(PAGES / "home.py", title="Home", icon=":material/cake:", default=True),
        st.Page(PAGES / "two_moons.py", title="Two moons", icon=":material/scatter_plot:"),
        st.Page(PAGES / "teacher.py", title="Teacher", icon=":material/school:"),
        st.Page(PAGES / "images.py", title="Images", icon=":material/grid_view:"),
        st.Page(PAGES / "student.py", title="Student", icon=":material/backpack:"),
        st.Page(PAGES / "embeddings.py", title="Embeddings", icon=":material/bubble_chart:"),
        st.Page(PAGES / "compare.py", title="Compare", icon=":material/bar_chart:"),
    ],
    position="top",
)
page.run()

# What the imports left behind is here to stay; the collector need not look at it again after every run.
if not gc.get_freeze_count():
    gc.freeze()
