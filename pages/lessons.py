"""Learn: lessons beside the live view, step by step: predict, run, explain."""

import streamlit as st

from cake_core import lessons
from pages._ui import lesson
from pages._ui.page import open_page

found, refused = lessons.load()

if "lesson:open" not in st.session_state:  # a link to a lesson, and to one of its steps
    name, place = st.query_params.get("lesson", ""), st.query_params.get("step", "1")
    st.session_state["lesson:open"] = name
    if name in found and place.isdigit():
        lesson.Learner(found[name]).go(int(place) - 1)
name = st.session_state["lesson:open"]

if name in found:
    open_page(found[name].title, found[name].about)
    names = [*found, ""]
    lesson.show_lesson(found[name], following=names[names.index(name) + 1])
    st.query_params.from_dict({"lesson": name, "step": str(lesson.Learner(found[name]).at + 1)})
else:
    open_page(
        "Learn",
        "Short lessons on copying a classifier without its data. Each asks you to **predict** what will happen, has "
        "you **run** it, and **explains** what you saw.",
    )
    if name:
        st.error(f"There is no lesson '{name}'. Choose one of these.", icon=":material/error:")
    lesson.show_list(found, refused)
    st.query_params.clear()
