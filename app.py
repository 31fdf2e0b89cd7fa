"""CAKE Lab. Run it with `streamlit run app.py`, or `uvicorn app:app`."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from pages._ui.owner import RememberBrowser
from pages._ui.routes import routes

FRAME = Path(__file__).parent / "pages" / "_ui" / "frame.py"

app = st.App(FRAME, routes=routes(), middleware=[Middleware(RememberBrowser)])

if __name__ == "__main__":
    app.run()
