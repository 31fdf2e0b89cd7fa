"""What every page begins with, and what it remembers: its experiment and its job, in the session and in the URL."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from cake_core import data
from cake_core.config import as_text
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.jobs import ACTIVE, Job
from cake_core.pipeline import Experiment

from .cached import runner

__all__ = [
    "PAGES",
    "Screen",
    "finished_runs",
    "job_for",
    "know_teacher",
    "known_teachers",
    "link",
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
    "methods": ("Methods", ":material/menu_book:"),
    "glossary": ("Glossary", ":material/dictionary:"),
}


def page_path(name: str) -> str:
    """What `st.page_link` and `st.switch_page` take for a page."""
    return str(Path(__file__).parents[1] / f"{name}.py")


def link(name: str) -> None:
    """A link to a page."""
    title, icon = PAGES[name]
    st.page_link(page_path(name), label=title, icon=icon)


def open_page(title: str, subtitle: str) -> None:
    """The first line of every page: its title, one sentence, and the session's defaults."""
    st.session_state.setdefault("owner", secrets.token_urlsafe(12))
    st.title(title, anchor=False)
    st.markdown(subtitle)


def remember(job: Job) -> None:
    """Keeps a finished distillation among the runs that other pages of this session can go on with."""
    if job.state == "done" and job.result and "experiment" in job.result:
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
        if self._key not in st.session_state:
            st.session_state[self._key] = {"experiment": default, "job": None, "error": ""}
            self._read_url()
        elif (sentence := _missing(self.experiment)) is not None:
            self._state.update(experiment=default, job=None, error=f"{sentence} The defaults are shown instead.")

    # -- what is remembered -------------------------------------------------------------------------------------

    @property
    def _state(self) -> dict[str, Any]:
        return st.session_state[self._key]

    @property
    def experiment(self) -> Experiment:
        """What the page shows."""
        return self._state["experiment"]

    def change(self, changes: Mapping[str, str]) -> None:
        """Changes the experiment by the keys that the URL has too. What can't be is refused, and nothing is lost."""
        try:
            self._state["experiment"] = adapt(self.experiment, changes)
            self._state["error"] = ""
        except CakeError as error:
            self._state["error"] = str(error)

    def restart(self, flat: Mapping[str, str]) -> None:
        """Shows another experiment, given by the keys that the URL has too."""
        self._state["experiment"] = Experiment.from_query(flat)
        self._state["error"] = ""

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

    def show_error(self) -> None:
        """The sentence about the latest change that was refused."""
        if self._state["error"]:
            st.error(self._state["error"], icon=":material/error:")

    def mirror(self) -> None:
        """Writes experiment and job to the URL."""
        wanted = self.experiment.to_query()
        if self._state["job"]:
            wanted["job"] = self._state["job"]
        if st.query_params.to_dict() != wanted:
            st.query_params.from_dict(wanted)

    def _read_url(self) -> None:
        flat = st.query_params.to_dict()
        name = flat.pop("job", "")
        job = runner().find(name)
        try:
            if job is not None and job.kind == "distill":
                found, attached = Experiment.from_dict(job.spec["experiment"]), name
            else:
                found, attached = Experiment.from_query({**self.experiment.to_query(), **flat}), None
            if _kind(found) != _kind(self.experiment):
                raise CakeError(f"it shows {_kind(found)}, and this page {_kind(self.experiment)}.")
            self._state.update(experiment=found, job=attached)
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
        job = runner().find(self._state["job"]) if self._state["job"] else None
        if job is not None and self._fits(job.spec["experiment"]):
            self._carry_over(job)
            return job
        if job is not None:
            runner().forget(job)
        experiment = self.experiment.to_dict()
        job = runner().submit("distill", {"experiment": experiment, **spec}, owner=st.session_state.owner)
        self._state["job"] = job.name
        return job

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
    st.session_state[f"screen:{screen}"] = {"experiment": Experiment.from_query(flat), "job": None, "error": ""}


def _missing(experiment: Experiment) -> str | None:
    """The sentence about an experiment's data where they have been removed meanwhile."""
    try:
        data.info(experiment.data.name)
    except CakeError as error:
        return str(error)
    return None


def _kind(experiment: Experiment) -> str:
    return data.info(experiment.data.name).kind


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
