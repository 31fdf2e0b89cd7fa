"""The page Learn: the list of lessons, and one lesson step by step beside the live view."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cake_core import data, lessons
from cake_core.jobs import Job
from cake_core.lessons import Lesson, Step
from cake_core.methods import METHODS
from cake_core.models import MODELS

from . import controls, detective, few_call_panels, live, panels
from .cached import runner
from .page import Screen, link, page_path, show_experiment
from .words import words

__all__ = ["Learner", "show_lesson", "show_list"]

ICONS = {"predict": ":material/psychology:", "run": ":material/play_circle:", "explain": ":material/lightbulb:"}
KINDS = {"predict": "Predict", "run": "Run", "explain": "Explain"}
RATES = {"points": 30, "images": 30}  # steps per second


class Learner:
    """What this session has done in one lesson. It stays when another page is opened.

    Args:
        lesson: which one.
    """

    def __init__(self, lesson: Lesson):
        self.lesson = lesson
        known = st.session_state.setdefault("lessons", {})
        fresh: dict[str, Any] = {"at": 0, "answers": {}, "met": {}, "kept": {}, "begun": None, "done": False}
        self.notes: dict[str, Any] = known.setdefault(lesson.name, fresh)
        self.notes["at"] = min(self.notes["at"], len(lesson.steps) - 1)

    @property
    def at(self) -> int:
        """The place of the step that is shown."""
        return self.notes["at"]

    @property
    def step(self) -> Step:
        """The step that is shown."""
        return self.lesson.steps[self.at]

    def go(self, place: int) -> None:
        """Shows another step."""
        self.notes["at"] = max(0, min(place, len(self.lesson.steps) - 1))

    def met(self, place: int) -> list[bool]:
        """For each goal of a step whether it has been reached."""
        goals = self.lesson.steps[place].goals
        return self.notes["met"].setdefault(place, [False] * len(goals))

    def finished(self, place: int) -> bool:
        """Whether nothing is left to do in a step."""
        step = self.lesson.steps[place]
        if step.kind == "run":
            return all(self.met(place))
        return step.kind == "explain" or place in self.notes["answers"]

    @property
    def shown_run(self) -> int | None:
        """The run that stands beside the step: its own, else the latest one before it."""
        return max((r for r in self.lesson.runs if r <= self.at), default=None)

    @property
    def questions(self) -> list[int]:
        """The predictions that an explanation answers: those since the one before it, first to last."""
        kinds = [step.kind for step in self.lesson.steps[: self.at]]
        since = max((i + 1 for i, kind in enumerate(kinds) if kind == "explain"), default=0)
        return [i for i in range(since, self.at) if kinds[i] == "predict"]

    # -- the run of a step --------------------------------------------------------------------------------------

    def screen(self, place: int) -> LessonScreen:
        """The experiment of a run, as the learner has it now; begun anew with the preset when another run is shown."""
        screen = LessonScreen(self.lesson, self.lesson.steps[place])
        if self.notes["begun"] != place:
            self.notes["begun"] = place
            screen.restart(dict(self.lesson.steps[place].query))
        return screen

    def solve(self) -> None:
        """Sets the solution of the step's run, so that Play reaches its goals."""
        self.screen(self.at).restart(self.step.solved)

    def job(self, place: int) -> Job | None:
        """The job of a run, where there is one."""
        step = self.lesson.steps[place]
        if step.task != "distill":
            return runner().find(self.notes.get(f"job:{place}", ""))
        name = st.session_state.get(f"screen:{_screen_name(self.lesson)}", {}).get("job")
        return runner().find(name or "") if self.notes["begun"] == place else None

    def begin(self, place: int) -> None:
        """Starts a run that is no distillation, anew where it was run before.

        Raises:
            CakeError: this session holds too many jobs.
        """
        step = self.lesson.steps[place]
        if (before := runner().find(self.notes.get(f"job:{place}", ""))) is not None:
            runner().forget(before)
        spec = step.spec(step.solved)
        job = runner().submit(step.task, spec, owner=st.session_state.owner, play=True)
        self.notes[f"job:{place}"] = job.name

    def facts(self, place: int, frames: bool = False) -> list[dict[str, float | str]]:
        """What is known of a run: its latest moment, or with `frames` every moment that is kept, oldest first."""
        step, job = self.lesson.steps[place], self.job(place)
        if job is None:
            return [dict(self.notes["kept"])]
        base = self.notes["kept"] | {"state": job.state}
        if step.task == "distill":
            base |= lessons.setting_facts(self.screen(place).experiment)
        kept = job.ring.all()
        moments = [base | lessons.frame_facts(frame) for frame in (kept if frames else kept[-1:])] or [base]
        moments[-1] |= lessons.result_facts(job.result)
        return moments

    def check(self) -> bool:
        """Looks whether goals of the step that is shown have been reached; True where one newly has."""
        place, before = self.at, list(self.met(self.at))
        job = self.job(place)
        if self.step.kind != "run" or job is None or job.state == "ready":
            return False  # nothing has run: what a preset begins with is no merit of the learner
        moments = self.facts(place, frames=True)
        for number, goal in enumerate(self.step.goals):
            before[number] = before[number] or any(map(goal.met, moments))
        if self.step.keep and job.state == "done":
            own = {k: v for k, v in moments[-1].items() if "." not in k}
            self.notes["kept"] |= {f"{self.step.keep}.{k}": v for k, v in own.items()}
        new = before != self.met(place)
        self.notes["met"][place] = before
        return new


class LessonScreen(Screen):
    """The experiment of a lesson's run. The address of the page says which lesson and step it is, and no more.

    Args:
        lesson: whose.
        step: a step that runs something.
    """

    def __init__(self, lesson: Lesson, step: Step):
        super().__init__(_screen_name(lesson), step.experiment)

    def _read_url(self) -> None:
        """The page reads the address."""

    def mirror(self) -> None:
        """The page writes the address."""


def _screen_name(lesson: Lesson) -> str:
    return f"lesson:{lesson.name}"


# -- the list --------------------------------------------------------------------------------------


def show_list(found: dict[str, Lesson], refused: dict[str, str]) -> None:
    """One card for each lesson, with how far one has come, and the sentences about files that are none."""
    notes = st.session_state.get("lessons", {})
    with st.grid(3, min_column_width=280):
        for number, lesson in enumerate(found.values(), start=1):
            mine = notes.get(lesson.name, {})
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{number}. {lesson.title}**")
                st.markdown(lesson.about)
                share = "Done" if mine.get("done") else f"Step {mine['at'] + 1} of {len(lesson.steps)}" if mine else ""
                st.caption(f"{lesson.minutes} minutes" + (f" · {share}" if share else ""))
                label = "Again" if mine.get("done") else "Go on" if mine else "Begin"
                icon = ":material/check_circle:" if mine.get("done") else ":material/play_arrow:"
                st.button(label, key=f"lesson:open:{lesson.name}", icon=icon, on_click=_open, args=(lesson.name,))
    for name, sentence in refused.items():
        st.warning(f"**{name}** is left out. {sentence}", icon=":material/report:")


def _open(name: str) -> None:
    st.session_state["lesson:open"] = name
    mine = st.session_state.get("lessons", {}).get(name)
    if mine and mine["done"]:
        st.session_state["lessons"].pop(name)


# -- one lesson --------------------------------------------------------------------------------------


def show_lesson(lesson: Lesson, following: str) -> None:
    """A lesson at the step where this session is.

    Args:
        lesson: which one.
        following: the name of the next one; empty after the last.
    """
    learner = Learner(lesson)
    learner.check()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All lessons", key="lesson:leave", icon=":material/arrow_back:", on_click=_open, args=("",))
        st.markdown(f"Step {learner.at + 1} of {len(lesson.steps)}")
    st.progress((learner.at + learner.finished(learner.at)) / len(lesson.steps))
    left, right = st.columns([2, 3], gap="large")
    with left:
        _show_step(learner)
        _show_way(learner, following)
    with right:
        _show_run(learner)


def _show_step(learner: Learner) -> None:
    step, place = learner.step, learner.at
    key = f"lesson:{learner.lesson.name}:{place}"
    with st.container(border=True):
        st.caption(f"{ICONS[step.kind]} {KINDS[step.kind]}")
        st.subheader(step.title, anchor=False)
        if step.kind == "explain":
            _show_answers(learner)
        if step.text:
            st.markdown(lessons.written(step.text, learner.notes["kept"]))
        if step.kind == "predict":
            _ask(learner, key)
        if step.kind == "run":
            _show_goals(learner)
            _show_hints(learner, key)
        words(step.words, key=key)
        if step.links:
            st.caption("Go on from here:")
            with st.container(horizontal=True):
                for name in step.links:
                    link(name)


def _ask(learner: Learner, key: str) -> None:
    """The prediction's options. What is chosen is noted; what is right is said after the run."""
    step, place = learner.step, learner.at
    before = learner.notes["answers"].get(place)
    options = range(len(step.options))
    chosen = st.radio("What do you think?", options, before, format_func=step.options.__getitem__, key=f"{key}:ask")
    if chosen is not None:
        learner.notes["answers"][place] = chosen
        st.caption("Noted. Go on, and see whether it comes true.")


def _show_answers(learner: Learner) -> None:
    """What was predicted since the last explanation, and whether it is so."""
    for place in learner.questions:
        asked, chosen = learner.lesson.steps[place], learner.notes["answers"].get(place)
        right = "; ".join(asked.options[i] for i in asked.answers)
        title = asked.title if asked.title.endswith(("?", ".", "!")) else f"{asked.title}."
        if chosen is None:
            st.info(f"The question was: {title} The answer: *{right}*.", icon=":material/psychology:")
        elif chosen in asked.answers:
            st.success(f"{title} You predicted: *{asked.options[chosen]}*. So it is.", icon=":material/check:")
        else:
            said = f"{title} You predicted: *{asked.options[chosen]}*. It is otherwise: *{right}*."
            st.warning(said, icon=":material/swap_horiz:")


def _show_goals(learner: Learner) -> None:
    """The goals of a run, with where things stand; looked at once a second until all are reached."""
    place = learner.at
    before = list(learner.met(place))

    def goals() -> bool:
        learner.check()
        facts, now = learner.facts(place)[-1], learner.met(place)
        for goal, met in zip(learner.step.goals, now, strict=True):
            standing = "" if met else goal.standing(facts)
            sign = ":green[:material/check_circle:]" if met else ":material/radio_button_unchecked:"
            said = "Goal reached:" if met else "Goal:"
            st.markdown(f"{sign} **{said}** {goal.sentence}" + (f" *({standing})*" if standing else ""))
        return now != before  # the way on is open

    if all(before):
        goals()
    else:
        live.until(goals, seconds=1)


def _show_hints(learner: Learner, key: str) -> None:
    step = learner.step
    with st.container(horizontal=True):
        for number, hint in enumerate(step.hints, start=1):
            with st.popover(f"Hint {number}" if len(step.hints) > 1 else "Hint", icon=":material/help:"):
                st.markdown(hint)
        if step.solution:
            st.button(
                "Set it for me", key=f"{key}:solve", icon=":material/auto_fix_high:", on_click=learner.solve,
                help="Sets what reaches the goals; then press Play.",
            )  # fmt: skip


def _show_way(learner: Learner, following: str) -> None:
    """Back, on, and out."""
    place, name = learner.at, learner.lesson.name
    last, finished = place == len(learner.lesson.steps) - 1, learner.finished(place)
    with st.container(horizontal=True):
        st.button("Back", key=f"lesson:{name}:back", disabled=place == 0, on_click=learner.go, args=(place - 1,))
        if not last:
            label, kind = ("Next", "primary") if finished else ("Skip", "secondary")
            st.button(label, key=f"lesson:{name}:next", type=kind, on_click=learner.go, args=(place + 1,))
        elif following:
            st.button("Next lesson", key=f"lesson:{name}:following", type="primary", on_click=_open, args=(following,))
    if last:
        learner.notes["done"] = True
        st.success("That was this lesson.", icon=":material/check_circle:")


# -- what runs beside it --------------------------------------------------------------------------------------


def _show_run(learner: Learner) -> None:
    place = learner.shown_run
    if place is None:  # nothing has run yet: what the first run will begin with
        place = learner.lesson.runs[0]
        _show_teaser(learner, place)
        return
    if learner.lesson.steps[place].task == "distill":
        _show_distillation(learner, place)
    else:
        _show_other(learner, place)


def _show_teaser(learner: Learner, place: int) -> None:
    step = learner.lesson.steps[place]
    if step.task == "distill":
        _show_distillation(learner, place)
    else:
        st.info("What runs in this lesson will stand here.", icon=":material/science:")


def _show_distillation(learner: Learner, place: int) -> None:
    """The live view of a run, with only those settings that the lesson leaves open."""
    step, screen = learner.lesson.steps[place], learner.screen(place)
    kind = data.info(screen.experiment.data.name).kind
    here = place == learner.at
    if here:
        _show_open(screen, step, kind)
    screen.show_error()
    job = screen.job()
    open_now = [s for s in controls.sliders(screen.experiment.settings, kind) if here and s["name"] in step.open]
    key = f"lesson:{learner.lesson.name}:live"
    live.watch(job, key=key, sliders=open_now, rate=RATES[kind], settings_changed=screen.settle, show=step.show)
    if job.state == "done" and here:
        panels.show_outcome(job, key=f"{key}:outcome")
    elif here:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Everything that this step leaves alone is locked. All settings:")
            name = "two_moons" if kind == "points" else "images"
            if st.button("Open as an experiment", key=f"{key}:free", icon=":material/open_in_new:"):
                show_experiment(name, screen.experiment.to_query())
                st.switch_page(page_path(name))


def _show_open(screen: Screen, step: Step, kind: str) -> None:
    """Widgets for what may be chosen before the run."""
    bound = controls.Bound(screen, kind)
    e = screen.experiment
    if step.methods:
        bound.choice("method", "Method", [METHODS[m] for m in step.methods], e.method)
    if step.students:
        bound.choice("student", "Student", [MODELS[m] for m in step.students], e.student.model)
    fixed = [p.name for p in e.settings.params() if p.name in step.open and not p.live]
    if fixed:
        with st.grid(min(3, len(fixed)), min_column_width=200):
            bound.fields(e.settings, only=fixed)
    bound.fields(e, only=[n for n in step.open if n == "seed"])


def _show_other(learner: Learner, place: int) -> None:
    """A theft or a line-up: begun by a button, watched, and shown."""
    step, job = learner.lesson.steps[place], learner.job(place)
    key = f"lesson:{learner.lesson.name}:{place}"
    if place == learner.at:
        label = "Run it" if job is None else "Begin anew"
        kind = "primary" if job is None else "secondary"
        if st.button(label, key=f"{key}:begin", type=kind, icon=":material/play_arrow:"):
            learner.begin(place)
            st.rerun()
    if job is None:
        st.info("Press **Run it**.", icon=":material/science:")
        return
    live.watch(job, key=f"{key}:live", rate=0)
    if step.task == "steal":
        few_call_panels.show_stolen(job, key=f"{key}:stolen")
    else:
        detective.show_game(job, key=f"{key}:game")
