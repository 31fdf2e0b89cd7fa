"""Status: what this server is doing, for those who run it."""

import streamlit as st

from cake_core import metrics
from pages._ui import instructor
from pages._ui.cached import runner
from pages._ui.page import open_page

open_page(
    "Status",
    "What this server is doing now. `live/metrics` says the same to programs, as OpenMetrics; see the folder `deploy`.",
)


@st.fragment(run_every=2)
def show() -> None:
    values = metrics.figures(runner())
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    with st.grid(5, min_column_width=150):
        for name, value in plain.items():
            label = name.replace("_", " ").capitalize()
            st.metric(label, f"{value:,.0f}", help=metrics.FIGURES[name][1], border=True)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Jobs", anchor=False)
        st.dataframe([{"State": state, "Jobs": int(count)} for state, count in values["jobs"].items()], hide_index=True)
    with right:
        st.subheader("Memory", anchor=False)
        st.dataframe(
            [{"Process": name, "MiB": round(size / 2**20)} for name, size in values["memory_bytes"].items()],
            hide_index=True,
        )


instructor.offer_key()
if instructor.is_instructor():
    st.fragment(run_every=2)(instructor.show_jobs)()
show()
