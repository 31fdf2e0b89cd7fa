"""What every page begins with, and what it remembers: its experiment and its job, in the session and in the URL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from cake_core import data, devices, links
from cake_core import teacher as teachers
from cake_core.config import Config, as_text
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.jobs import ACTIVE, WATCH, Job
from cake_core.journal import Left, resumable
from cake_core.links import KINDS_OF_DEVICE, Link, Options, View
from cake_core.pipeline import Experiment
from cake_core.undo import Undo

from .account import show_account
from .cached import runner
from .owner import begin_session, find_job, is_mine, passes
from .owner import key as owner_key

__all__ = [
    "HIDDEN",
    "PAGES",
    "Screen",
    "began_with",
    "continue_run",
    "finished_runs",
    "hides_navigation",
    "job_for",
    "know_teacher",
    "known_teachers",
    "link",
    "mirror",
    "open_page",
    "page_path",
    "remember",
    "show_experiment",
    "use_teacher",
]

# Name -> title and icon, in the order of the navigation.
PAGES = {
    "home": ("Home", ":material/cake:"),
    "lessons": ("Learn", ":material/history_edu:"),
    "two_moons": ("Two moons", ":material/scatter_plot:"),
    "teacher": ("Teacher", ":material/school:"),
    "images": ("Images", ":material/grid_view:"),
    "student": ("Student", ":material/backpack:"),
    "embeddings": ("Embeddings", ":material/bubble_chart:"),
    "compare": ("Compare", ":material/bar_chart:"),
    "few_call": ("Few calls", ":material/key:"),
    "detect": ("Detect", ":material/fingerprint:"),
    "tune": ("Tune", ":material/tune:"),
    "runs": ("Runs", ":material/folder_open:"),
    "methods": ("Methods", ":material/menu_book:"),
    "glossary": ("Glossary", ":material/dictionary:"),
}

NOT_SHARED = (
    "This link led to somebody's own run. It has ended, or is not shared any more; what you see is a run of yours, "
    "with the settings of the link."
)
HIDDEN = {"status": ("Status", ":material/monitor_heart:")}  # by its address alone


def page_path(name: str) -> str:
    """What `st.page_link` and `st.switch_page` take for a page."""
    return str(Path(__file__).parents[1] / f"{name}.py")


def link(name: str) -> None:
    """A link to a page."""
    title, icon = PAGES[name]
    st.page_link(page_path(name), label=title, icon=icon)


def open_page(title: str, subtitle: str) -> None:
    """The first line of every page: its title, one sentence, and the session's defaults."""
    begin_session()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(title, anchor=False)
        show_account()
    st.markdown(subtitle)


def remember(job: Job) -> None:
    """Keeps a finished distillation among the runs that other pages of this session can go on with."""
    if job.state == "done" and job.result and "experiment" in job.result and is_mine(job):
        finished_runs().setdefault(job.result["run"], Experiment.from_dict(job.result["experiment"]))


def finished_runs() -> dict[str, Experiment]:
    """The distillations that this session has finished, oldest first, by the name of their run; data still here."""
    runs = st.session_state.setdefault("runs", {})
    for run in [run for run, experiment in runs.items() if _missing(experiment)]:
        del runs[run]
    return runs


def job_for(kind: str, spec: Mapping[str, Any]) -> Job:
    """The job of this session that does just this; started at once where there is none yet.

    Raises:
        CakeError: this session holds too many jobs.
    """
    known = st.session_state.setdefault("jobs", {})
    what = json.dumps([kind, spec], sort_keys=True)
    job = runner().find(known.get(what, ""))
    if job is None:
        job = runner().submit(kind, dict(spec), owner=st.session_state.owner, play=True)
        known[what] = job.name
    return job


class Screen:
    """The experiment that a page shows and the job that runs it.

    The session holds the truth; widgets show it and change it, and the URL mirrors it, so that opening the URL
    elsewhere gives the same experiment, and here also the same job.

    Args:
        name: of the page.
        default: the experiment when neither session nor URL say anything.
    """

    def __init__(self, name: str, default: Experiment):
        self.name, self._default = name, default
        self._key = f"screen:{name}"
        if first := self._key not in st.session_state:
            st.session_state[self._key] = {"experiment": default, "job": None, "error": ""}
        fresh = {"notes": [], "view": View(), "options": Options(), "undo": Undo(), "snapshots": {}, "former": None}
        fresh |= {"kiosk": {"turn": 0, "taken": False}, "replaced": {}}
        for key, value in fresh.items():
            self._state.setdefault(key, value)
        if first:
            self._read_url()
        elif (sentence := _missing(self.experiment)) is not None:
            self._state.update(experiment=default, job=None, error=f"{sentence} The defaults are shown instead.")
        elif (self._state["job"] or "").startswith(WATCH) and self.shown_job() is None:
            self._state.update(job=None, notes=[NOT_SHARED])  # it was watched until now
        self._state.setdefault("begun", self.experiment)  # what a stand goes back to

    # -- what is remembered -------------------------------------------------------------------------------------

    @property
    def _state(self) -> dict[str, Any]:
        return st.session_state[self._key]

    @property
    def experiment(self) -> Experiment:
        """What the page shows."""
        return self._state["experiment"]

    @property
    def view(self) -> View:
        """How it is shown."""
        return self._state["view"]

    @property
    def options(self) -> Options:
        """What is hidden or locked, and whether it plays by itself."""
        return self._state["options"]

    @property
    def history(self) -> Undo[Experiment]:
        """What was shown before, and what was taken back."""
        return self._state["undo"]

    @property
    def replaced(self) -> dict[str, tuple[Any, float]]:
        """By widget: the value that the page put another one in the place of, and when (`time.monotonic`)."""
        return self._state["replaced"]

    @property
    def snapshots(self) -> dict[str, tuple[Experiment, View]]:
        """What was kept under a name."""
        return self._state["snapshots"]

    def change(self, changes: Mapping[str, str]) -> None:
        """Changes the experiment by the keys that the URL has too. What can't be is refused, and nothing is lost."""
        try:
            self._show(adapt(self.experiment, changes))
        except CakeError as error:
            self._state["error"] = str(error)

    def restart(self, flat: Mapping[str, str]) -> None:
        """Shows another experiment, given by the keys that the URL has too."""
        seed = {"seed": str(self.experiment.seed)} if self.options.keep else {}
        self._show(Experiment.from_query({**flat, **seed}))

    def _show(self, experiment: Experiment) -> None:
        """Shows an experiment; the one before can be had back."""
        if experiment != self.experiment:
            self.history.did(self.experiment)
        self._state.update(experiment=experiment, error="", notes=[])

    def choose(self, preset: Mapping[str, str]) -> None:
        """A preset: its method and settings, on the data there are."""
        data_keys = {k: v for k, v in self.experiment.to_query().items() if k == "data" or k.startswith("data.")}
        self.restart({**data_keys, **preset})

    def leave_data(self) -> None:
        """Goes back to the data set that the page begins with: the one shown has gone."""
        self.change({"data": self._default.data.name})

    def settle(self, settings: Mapping[str, float]) -> None:
        """Takes over what was moved in the live view."""
        self.change({k: as_text(float(v)) for k, v in settings.items()})

    def look(self, told: Mapping[str, Any]) -> None:
        """Takes over how the live view shows it."""
        self._state["view"] = View.of(told)

    def keep_seed(self, keep: bool) -> None:
        """Whether presets, snapshots and other data leave the seed as it is."""
        self._state["options"] = replace(self.options, keep=keep)

    def undo(self) -> None:
        """Shows the experiment before this one."""
        self._move(self.history.undo)

    def redo(self) -> None:
        """Shows the experiment that was taken back last."""
        self._move(self.history.redo)

    def _move(self, move: Any) -> None:
        state = move(self.experiment, lambda e: _missing(e) is None)
        if state is not None:
            self._state.update(experiment=state, error="", notes=[])

    def keep_snapshot(self, name: str) -> None:
        """Keeps what is shown under a name; a snapshot of the same name gives way."""
        self.snapshots[name] = (self.experiment, self.view)

    def show_snapshot(self, name: str) -> None:
        """Shows what was kept under a name. Its seed counts, unless the seed is kept."""
        experiment, view = self.snapshots[name]
        if (sentence := _missing(experiment)) is not None:
            self._state["error"] = sentence
            return
        self._show(experiment.replace(seed=self.experiment.seed) if self.options.keep else experiment)
        self._state["view"] = view

    def drop_snapshot(self, name: str) -> None:
        """Forgets what was kept under a name."""
        self.snapshots.pop(name, None)

    def show_error(self) -> None:
        """The sentence about the latest change that was refused, and what a link could not bring along."""
        if self._state["error"]:
            st.error(self._state["error"], icon=":material/error:")
        for note in self._state["notes"]:
            st.warning(note, icon=":material/link:")

    # -- a stand ------------------------------------------------------------------------------------------------

    @property
    def kiosk(self) -> dict[str, Any]:
        """Where a stand is: how many presets it has shown, and whether somebody has taken the screen over."""
        return self._state["kiosk"]

    def follow(self, preset: Mapping[str, str]) -> None:
        """A stand shows the next preset; there is nothing to take back."""
        self.choose(preset)
        self.history.past.clear()
        self.kiosk["turn"] += 1

    def begin_again(self) -> None:
        """Puts everything back to how the page was opened."""
        self.release()
        self._state.update(experiment=self._state["begun"], view=View(), undo=Undo(), snapshots={}, error="", notes=[])
        self._state.update(kiosk={"turn": 0, "taken": False}, job=self._forgotten())

    def _forgotten(self) -> None:
        """Ends the run that is shown: the next one begins at its start."""
        if (job := self.shown_job()) is not None and is_mine(job):
            runner().forget(job)

    # -- the address --------------------------------------------------------------------------------------------

    def link(self, *, job: bool = False, options: Options | None = None) -> Link:
        """The screen as an address has it.

        Args:
            job: whether it is about this very run.
            options: other ones than the screen has, for others who are to open it.
        """
        run = (self._state["job"] or "") if job else ""
        if job and options is not None and (shown := self.shown_job()) is not None:  # for others
            run = shown.shared
        e = self.experiment
        return Link(e.to_query(), computed_on(e.device), run, self.view, self.options if options is None else options)

    def mirror(self) -> None:
        """Writes all that the screen shows to the URL; a stand keeps the one it was opened with."""
        if not self.options.kiosk:
            mirror(self.link(job=True))

    def _read_url(self) -> None:
        try:
            link = links.read(st.query_params.to_dict())
            self._state.update(view=link.view, options=link.options)
            job = find_job(runner(), link.job) or heir_of_mine(link.job)
            if job is not None and job.kind == "distill":
                attached = link.job if job.opens(link.job) else job.name
                found, notes = Experiment.from_dict(job.spec["experiment"]), []
            elif (left := left_experiment(left_of_mine(link.job))) is not None:
                found, attached, notes = left, link.job, []  # it is taken up below
            else:
                flat, notes = at_home(link)
                if link.job.startswith(WATCH):
                    notes.insert(0, NOT_SHARED)
                found, attached = Experiment.from_query({**self.experiment.to_query(), **flat}), None
            if _kind(found) != _kind(self.experiment):
                raise CakeError(f"it shows {_kind(found)}, and this page {_kind(self.experiment)}.")
            self._state.update(experiment=found, job=attached, notes=notes)
        except CakeError as error:
            self._state["error"] = f"This link can't be followed as it is: {error} The defaults are shown instead."

    # -- the job ------------------------------------------------------------------------------------------------

    def job(self, **spec: Any) -> Job:
        """The job of the experiment as it is now: the one there is where it fits, a new one otherwise.

        Args:
            spec: what the task takes beside the experiment.

        Raises:
            CakeError: this session holds too many jobs.
        """
        job = self.shown_job()
        if job is None and (job := self._taken_up()) is not None:
            self._state["job"] = job.name
        if job is not None and self._fits(job.spec["experiment"]):
            if is_mine(job):
                self._carry_over(job)
            return job
        self._forgotten()
        experiment = self.experiment.to_dict()
        job = runner().submit("distill", {"experiment": experiment, **spec}, owner=st.session_state.owner)
        self._state["job"] = job.name
        return job

    def shown_job(self) -> Job | None:
        """The run that is shown: of this session, or of somebody who shares it."""
        return find_job(runner(), self._state["job"] or "")

    @property
    def watches(self) -> bool:
        """Whether the run that is shown is somebody else's."""
        return (job := self.shown_job()) is not None and not is_mine(job)

    def leave(self) -> None:
        """Lets somebody else's run be; one of this session's own follows."""
        self._state.update(job=None, notes=[])

    def _taken_up(self) -> Job | None:
        """The job that the page had, where a server has left it; None where it is gone, or the page shows another."""
        if (heir := heir_of_mine(self._state["job"] or "")) is not None:
            # Another page of the same owner was here first.
            return heir if self._fits(heir.spec["experiment"]) else None
        left = left_of_mine(self._state["job"] or "")
        experiment = left_experiment(left)
        if left is not None and left.why == "done":
            runner().journal.forget(left.key)
            self._state["finished"] = left.spec["resume"]
        if experiment is None or not self._fits(experiment.to_dict()):
            return None
        return runner().take_up(left, st.session_state.owner, experiment.to_dict())

    def show_finished(self) -> None:
        """Says that the run which the page had has finished while nobody looked."""
        if run := self._state.pop("finished", ""):
            st.info(
                f"The run that this page had has finished while nobody looked. [Open it on Runs](./runs?run={run})",
                icon=":material/task_alt:",
            )

    # -- the run before, beside this one --------------------------------------------------------------------------

    @property
    def former(self) -> Experiment | None:
        """What the run beside this one does; None where there is none."""
        return self._state["former"] and self._state["former"]["experiment"]

    def hold(self) -> None:
        """Keeps the run that is shown, to go beside the next one: the same start, and then other weights."""
        mine = None if self.watches else self._state["job"]
        self._state.update(former={"experiment": self.experiment, "job": mine}, job=None)

    def release(self) -> None:
        """Lets the run beside this one go."""
        former, self._state["former"] = self._state["former"], None
        if former and (job := runner().find(former["job"] or "")) is not None:
            runner().forget(job)

    def former_job(self, job: Job) -> Job:
        """The run beside `job`, in lock-step with it; both begin anew when they meet.

        Raises:
            CakeError: this session holds too many jobs.
        """
        state = self._state["former"]
        other = runner().find(state["job"] or "")
        if other is None:
            spec = {"experiment": state["experiment"].to_dict()}
            other = runner().submit("distill", spec, owner=st.session_state.owner)
            state["job"] = other.name
        if other.partner is not job:
            for one in (other, job):
                one.reset()
            runner().pair(other, job)
        return other

    def _fits(self, theirs: Mapping[str, Any]) -> bool:
        """Whether the experiment of a job is the page's, but for what may change while it runs."""
        # The data first: those of another experiment may have been removed, and then it is no experiment any more.
        same_data = theirs["data"] == self.experiment.data.to_dict()
        return same_data and fixed_part(Experiment.from_dict(theirs)) == fixed_part(self.experiment)

    def _carry_over(self, job: Job) -> None:
        """Tells a job about live settings that have changed on the page."""
        theirs, ours = job.spec["experiment"]["settings"], self.experiment.settings.to_dict()
        changed = {k: v for k, v in ours.items() if theirs.get(k) != v}
        if changed and job.state in ACTIVE:
            job.set(**changed)
        theirs.update(changed)


# -- links that come from elsewhere ----------------------------------------------------------------------------------

C = TypeVar("C", bound=Config)


def mirror(link: Link) -> None:
    """Writes a link to the URL."""
    wanted = link.to_query()
    if "pass" in st.query_params:  # so that a reload still has it
        wanted["pass"] = ",".join(passes())
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def began_with(key: str, config: type[C], own_keys: tuple[str, ...] = ()) -> tuple[C, dict[str, str]]:
    """What the address says when a page is opened for the first time; the defaults where it says nothing.

    For pages that have settings, and no run to share: they `mirror` a link of what their widgets have.

    Args:
        key: under which the session keeps it.
        config: the settings.
        own_keys: of the page, beside those of the settings.

    Returns:
        The settings, and what the address has under the page's own keys.
    """
    if key not in st.session_state:
        start, rest = config.from_dict({}), {}
        try:
            flat, notes = at_home(links.read(st.query_params.to_dict()))
            rest = {k: flat.pop(k) for k in own_keys if k in flat}
            start = config.from_query(flat) if flat else start
            for note in notes:
                st.warning(note, icon=":material/link:")
        except CakeError as error:
            sentence = f"This link can't be followed as it is: {error} The defaults are shown instead."
            st.error(sentence, icon=":material/error:")
        st.session_state[key] = (start, rest)
    return st.session_state[key]


def hides_navigation() -> bool:
    """Whether the address says that other pages are not to be seen."""
    try:
        options = links.read(st.query_params.to_dict()).options
    except CakeError:
        return False
    return options.kiosk or not options.shows("navigation")


def computed_on(device: str = "auto") -> str:
    """The type of the device that a name stands for here."""
    return devices.available()[0] if device == "auto" else device.split(":")[0]


def at_home(link: Link) -> tuple[dict[str, str], list[str]]:
    """The experiment of a link as it can be had on this machine.

    Returns:
        Its keys, and a sentence for everything that will not be the same.
    """
    flat, notes, here = dict(link.flat), [], devices.available()
    name = flat.get("data", flat.get("data.name", ""))
    if own.is_own(name) and own.find(name) is None:
        flat = {k: v for k, v in flat.items() if k not in ("data", "teacher") and not k.startswith("data.")}
        notes.append(
            "This link is about a data set of somebody's own that is not here (any more), or not shared. Everything "
            "else is as in the link, on the page's usual data: **the samples are others**."
        )
    teacher = flat.get("teacher", "")
    if teacher.startswith("run:") and not _is_here(teacher):
        del flat["teacher"]
        notes.append(
            "This link is about a teacher that was trained or imported on another machine, is not kept any more, or "
            "not shared. The usual teacher of these data takes its place: **the samples are others**."
        )
    on = computed_on(flat["device"]) if flat.get("device", "auto") != "auto" else link.on
    if on in KINDS_OF_DEVICE and on not in here:
        flat.pop("device", None)
        notes.append(
            f"The samples of this link were made on {KINDS_OF_DEVICE[on]}, and there is none here. They are made on "
            f"{KINDS_OF_DEVICE[here[0]]}, where the same seed gives other random numbers: **the samples are others**, "
            "of the same kind."
        )
    elif on and on != computed_on(flat.get("device", "auto")):
        flat["device"] = on  # there is one here, though it is not the usual choice
    return flat, notes


def _is_here(teacher: str) -> bool:
    try:
        teachers.card(teacher)
    except CakeError:
        return False
    return True


# -- teachers and experiments for other pages ------------------------------------------------------------------------


def know_teacher(name: str, dataset: str, title: str) -> None:
    """Notes a teacher of this session's own, so that pages offer it for its data set."""
    known_teachers()[name] = {"data": dataset, "title": title}
    if own.is_own(dataset):
        st.session_state.setdefault("own_data", {})[dataset] = True


def known_teachers() -> dict[str, dict[str, str]]:
    """The teachers that this session has trained or imported, oldest first, by name: their data set and title."""
    return st.session_state.setdefault("teachers", {})


def use_teacher(screen: str, data_config: Mapping[str, Any], teacher: str) -> None:
    """Has a screen show the distillation of a teacher that was trained here."""
    flat = {f"data.{k}": as_text(v) for k, v in data_config.items() if k != "name"}
    show_experiment(screen, flat | {"data": str(data_config["name"]), "teacher": teacher})


def show_experiment(screen: str, flat: Mapping[str, str]) -> None:
    """Has a screen show an experiment, given by the keys that the URL has too, when it is opened next."""
    state = st.session_state.setdefault(f"screen:{screen}", {})
    if "undo" in state:
        state["undo"].did(state["experiment"])
    state.update({"experiment": Experiment.from_query(flat), "job": None, "error": "", "notes": [], "former": None})


def continue_run(run: str, plain: dict[str, Any]) -> None:
    """Opens the page of a run that was broken off, which waits there for Play.

    Args:
        run: its id.
        plain: its experiment, with the settings that it has by now.

    Raises:
        CakeError: its data have gone, or this session holds too many jobs.
    """
    experiment = Experiment.from_dict(plain)
    left = Left("", "distill", {"resume": run}, "", "", "broken off")
    job = runner().take_up(left, st.session_state.owner, experiment.to_dict())
    _open(experiment, job.name)


def watch(job: Job) -> None:
    """Opens the page of somebody's run for an instructor, who watches it there.

    Args:
        job: a distillation.

    Raises:
        CakeError: it is on data or a teacher of somebody's own.
    """
    experiment = Experiment.from_dict(job.spec["experiment"])
    _open(experiment, job.show())


def _open(experiment: Experiment, job: str) -> None:
    """Opens the page that shows an experiment, with the job of this name or pass."""
    screen = "two_moons" if _kind(experiment) == "points" else "images"
    show_experiment(screen, experiment.to_query())
    st.session_state[f"screen:{screen}"]["job"] = job
    st.switch_page(page_path(screen))


def _missing(experiment: Experiment) -> str | None:
    """The sentence about an experiment's data where they have been removed meanwhile."""
    try:
        data.info(experiment.data.name)
    except CakeError as error:
        return str(error)
    return None


def _kind(experiment: Experiment) -> str:
    return data.info(experiment.data.name).kind


def heir_of_mine(name: str) -> Job | None:
    """The job that goes on with what a server has left under this name, if it is of this session's owner."""
    heir = runner().heir(name)
    return heir if heir is not None and is_mine(heir) else None


def left_of_mine(name: str) -> Left | None:
    """A job of this session's owner that a server has left; None where there is none, or it is somebody else's."""
    left = runner().journal.left(name)
    return left if left is not None and left.owner == owner_key() else None


def left_experiment(left: Left | None) -> Experiment | None:
    """The experiment of a distillation that a server has left, with what was edited since; None where it can't be
    continued, or its data have gone."""
    plain = None if left is None or left.kind != "distill" else resumable(left.spec.get("resume", ""))
    try:
        return None if plain is None else Experiment.from_dict(plain)
    except CakeError:
        return None


def fixed_part(experiment: Experiment) -> dict[str, Any]:
    """An experiment without the settings that may change while it runs."""
    plain = experiment.to_dict()
    live = {p.name for p in experiment.settings.params() if p.live}
    plain["settings"] = {k: v for k, v in plain["settings"].items() if k not in live}
    return plain


def adapt(experiment: Experiment, changes: Mapping[str, str]) -> Experiment:
    """The experiment with some changes; what another method or another kind of data does not know is dropped.

    Raises:
        CakeError: a change makes no sense.
    """
    flat = {**experiment.to_query(), **changes}
    if "data" in changes:
        flat.pop("teacher", None)  # it learned the other data
    if "data" in changes or "method" in changes:
        core = {k: flat[k] for k in ("data", "method", "seed", "device", "precision", "compiled") if k in flat}
        fresh = Experiment.from_query(core)
        if _kind(fresh) == _kind(experiment):
            known = {p.name for p in fresh.settings.params()} | {"teacher"}
            core |= {k: v for k, v in flat.items() if k in known or k.startswith(("data.", "student"))}
        flat = core
    return Experiment.from_query(flat)
