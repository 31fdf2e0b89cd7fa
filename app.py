"""CAKE Lab. Run it with `streamlit run app.py`, or `uvicorn app:app`."""

from pathlib import Path

import streamlit as st

from pages._ui.ending import ending
from pages._ui.headers import middleware
from pages._ui.routes import routes

FRAME = Path(__file__).parent / "pages" / "_ui" / "frame.py"

app = st.App(FRAME, routes=routes(), middleware=middleware(), lifespan=ending)

if __name__ == "__main__":
    app.run()
