"""Lessons: Markdown files with a preset, steps to predict, run and explain, goals that are checked, and hints.

A lesson is one file, assets/lessons/<number>-<name>.md; a server's owner has more in the folder `CAKE_LESSONS_DIR`:

    ---
    title: Why naive samples fail
    about: One sentence for the list of lessons.
    minutes: 5
    preset: data=moons&method=naive
    ---

    ## Predict: Where will they go?
    Text.
    - [ ] To the boundary
    - [x] Away from it

    ## Run: Let them go
    - preset: sigma=0.1
    - open: step_size
    - keep: naive
    - goal: state = done and near_boundary < 10 % | Fewer than 10 % of the samples are left near the boundary
    - hint: Press Play and wait.
    Text.

    ## Explain: What happened
    Only {{naive.near_boundary}} of your samples lie near the boundary.

`preset` is what the address of Two moons or Images holds behind the question mark. Nothing in a file is executed, and
raw HTML, pictures and links that are no web addresses are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from .config import as_text
from .errors import CakeError
from .few_call import FewCallConfig
from .frames import decode
from .glossary import GLOSSARY
from .lineup import KINDS, LineUpConfig
from .methods import METHODS
from .models import MODELS
from .pipeline import Experiment, Update

__all__ = [
    "FACTS",
    "Fact",
    "Goal",
    "Lesson",
    "Rehearsal",
    "Step",
    "folders",
    "frame_facts",
    "load",
    "parse",
    "read",
    "rehearse",
    "result_facts",
    "setting_facts",
    "written",
]

LONGEST = 64_000  # characters of a file
LONGEST_SHOWN = 80  # characters of what stands in a file
MOST_STEPS = 40
PAGES = ("two_moons", "images", "teacher", "student", "embeddings", "compare", "few_call", "detect", "methods")
TASKS_OF_RUNS = ("distill", "steal", "lineup")
SHOWN = ("arrows", "trails", "data", "step")  # what the live view can begin with

Kind = Literal["predict", "run", "explain"]
Facts = Mapping[str, float | str]


@dataclass(frozen=True)
class Fact:
    """What a goal can ask about: its name for people, and how it is written."""

    title: str
    format: Literal["percent", "count", "number", "points", "text"] = "percent"


FACTS: dict[str, Fact] = {
    "state": Fact("State of the run", "text"),
    "step": Fact("Step", "count"),
    "near_boundary": Fact("Near the boundary"),
    "hit_rate": Fact("Steered where told"),
    "confidence": Fact("Teacher's confidence"),
    "variation": Fact("Roughness", "number"),
    "forward_calls": Fact("Teacher calls", "count"),
    "gradient_calls": Fact("Gradient calls", "count"),
    "calls": Fact("Calls", "count"),
    "samples": Fact("Samples", "count"),
    "student_accuracy": Fact("Student's accuracy"),
    "teacher_accuracy": Fact("Teacher's accuracy"),
    "agreement": Fact("Agrees with teacher"),
    "plane_agreement": Fact("Agreement over the plane"),
    "coverage": Fact("Boundary covered"),
    "prompt_accuracy": Fact("Drawn as they were asked for"),
    "before": Fact("Agreement before pseudo-labels"),
    "copies": Fact("Copies among the suspects", "count"),
    "traced": Fact("Copies traced to their teacher", "count"),
    "accused": Fact("Accused who copied nobody", "count"),
    "gain": Fact("Gain over the control", "points"),
}
OPERATORS = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "=": lambda a, b: a == b,
}


# -- goals --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """A fact, or the difference of two, compared with a number or a word."""

    fact: str
    minus: str
    operator: str
    value: float | str

    def now(self, facts: Facts) -> float | str | None:
        """What it looks at as things are; None where that is not known yet."""
        value = facts.get(self.fact)
        if not self.minus or value is None:
            return value
        other = facts.get(self.minus)
        return None if other is None else value - other

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        now = self.now(facts)
        return now is not None and type(now) is type(self.value) and OPERATORS[self.operator](now, self.value)


@dataclass(frozen=True)
class Goal:
    """What the learner should reach: a sentence, and conditions that must all hold at one moment."""

    sentence: str
    conditions: tuple[Condition, ...]

    def met(self, facts: Facts) -> bool:
        """Whether it is reached."""
        return all(c.holds(facts) for c in self.conditions)

    def standing(self, facts: Facts) -> str:
        """Where the first number that it is about stands now, in words; empty where it is not known."""
        for c in self.conditions:
            if (now := c.now(facts)) is not None and isinstance(now, float):
                return f"now {_write(now, 'points' if c.minus else fact_of(c.fact).format)}"
        return ""


def fact_of(name: str) -> Fact:
    """What is known of a fact by its name, also of one kept from another step, of a loss or of a setting."""
    last = name.rpartition(".")[2]
    if name.startswith("loss."):
        return Fact(f"Loss, {last}", "number")
    if name.startswith("set."):
        return Fact(last.replace("_", " ").capitalize(), "number")
    return FACTS[last]


def _write(value: float | str, how: str) -> str:
    if isinstance(value, str):
        return value
    texts = {"percent": f"{100 * value:.1f} %", "points": f"{100 * value:+.1f} points", "count": f"{value:,.0f}"}
    return texts.get(how, f"{value:.3g}")


# -- facts --------------------------------------------------------------------------------------


def frame_facts(message: bytes) -> dict[str, float | str]:
    """What a frame of the live view says in numbers."""
    header, _ = decode(message)
    facts: dict[str, float | str] = {k: float(v) for k, v in (header.get("values") or {}).items() if v is not None}
    facts |= {f"loss.{k}": float(v) for k, v in (header.get("losses") or {}).items() if v is not None}
    if header.get("stage") == "synthesis" and header.get("step") is not None:
        facts["step"] = float(header["step"])
    return facts


def result_facts(result: Mapping[str, Any] | None) -> dict[str, float | str]:
    """What a finished run says in numbers, with those of its control as "control.<name>"."""
    if not result:
        return {}
    outcome, control = result.get("outcome") or {}, result.get("control")
    if "accuracy" in outcome:  # a student of few calls
        outcome = {**outcome, "student_accuracy": outcome["accuracy"]}
    if "verdicts" in result:
        outcome = _verdict_facts(result)
    facts: dict[str, float | str] = {k: float(v) for k, v in outcome.items() if k in FACTS and _is_number(v)}
    if isinstance(control, Mapping):
        facts |= {f"control.{k}": float(v) for k, v in control.items() if k in FACTS and _is_number(v)}
    if "forward_calls" in facts:
        facts["calls"] = facts["forward_calls"] + facts["gradient_calls"]
    if "control.agreement" in facts:
        facts["gain"] = facts["agreement"] - facts["control.agreement"]
    return facts


def _verdict_facts(result: Mapping[str, Any]) -> dict[str, float]:
    """How many copies of a line-up were traced to their teacher, and how many were accused who copied nobody."""
    pairs = list(zip(result["truth"], result["verdicts"], strict=True))
    copies = [(t["teacher"], v) for t, v in pairs if t["teacher"] is not None]
    others = [v for t, v in pairs if t["teacher"] is None]
    return {
        "copies": len(copies),
        "traced": sum(v["best"] == teacher for teacher, v in copies),
        "accused": sum(v["named"] is not None for v in others),
    }


def setting_facts(experiment: Experiment) -> dict[str, float | str]:
    """The settings as they are, each as "set.<name>"; method and architecture by their names."""
    plain = {"method": experiment.method, "student": experiment.student.model, "data": experiment.data.name}
    plain |= experiment.settings.to_dict()
    return {f"set.{k}": float(v) if _is_number(v) else str(v) for k, v in plain.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def written(text: str, facts: Facts) -> str:
    """A step's text with the learner's own numbers in place of {{facts}}, bold; a dash where one is not known."""

    def number(match: re.Match[str]) -> str:
        name = match[1].strip()
        return f"**{_write(facts[name], fact_of(name).format)}**" if name in facts else "**–** *(not run yet)*"

    return PLACE.sub(number, text)


PLACE = re.compile(r"\{\{([^{}]*)\}\}")


# -- what a lesson is --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One step of a lesson.

    Attributes:
        kind: "predict" asks, "run" has the learner do something and reach goals, "explain" says why.
        title, text: for the learner; Markdown.
        options, answers: of a prediction, and the places of those that come true.
        task: what runs: "distill", "steal" (Few calls) or "lineup" (Detect).
        query: the whole experiment of a run, as the keys of a URL.
        open: settings that may be changed; all others are locked.
        methods, students: methods and architectures that may be chosen; none: they are locked too.
        show: what the live view shows from the beginning (`SHOWN`).
        keep: under which name the numbers of this run are kept for later steps.
        goals, hints: what is to be reached, and what helps.
        solution: the settings that reach the goals, as the keys of a URL.
        words: terms that are explained here, keys of `glossary.GLOSSARY`.
        links: pages that go on from here.
    """

    kind: Kind
    title: str
    text: str
    options: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    task: Literal["distill", "steal", "lineup"] = "distill"
    query: tuple[tuple[str, str], ...] = ()
    open: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    keep: str = ""
    goals: tuple[Goal, ...] = ()
    hints: tuple[str, ...] = ()
    solution: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    @cached_property
    def experiment(self) -> Experiment:
        """What a distillation begins with."""
        return Experiment.from_query(dict(self.query))

    def spec(self, query: Mapping[str, str]) -> dict[str, Any]:
        """What the job of a run is submitted with, for settings given as the keys of a URL.

        Raises:
            CakeError: the settings make no sense.
        """
        if self.task == "distill":
            return {"experiment": Experiment.from_query(query).to_dict()}
        own = {k: v for k, v in query.items() if k not in ("kinds", "suspects")}
        config = {"steal": FewCallConfig, "lineup": LineUpConfig}[self.task].from_query(own).to_dict()
        if self.task == "steal":
            return {"config": config}
        kinds, count = query.get("kinds", "kd,cake,scratch").split(","), query.get("suspects", "4")
        if unknown := set(kinds) - set(KINDS):
            raise CakeError(f"'kinds' does not know {_cut(unknown.pop())!r}. There are: {', '.join(KINDS)}.")
        if not _whole(count) or not 1 <= int(count) <= 8:
            raise CakeError(f"'suspects' must be a whole number from 1 to 8; {_cut(count)!r} is not.")
        return {"config": config, "kinds": kinds, "suspects": int(count)}

    @property
    def solved(self) -> dict[str, str]:
        """The whole experiment with the solution in it, as the keys of a URL."""
        return dict(self.query) | dict(self.solution)


@dataclass(frozen=True)
class Lesson:
    """A lesson: where it stands, what it is called, what it is about, how long it takes, its steps."""

    name: str
    title: str
    about: str
    minutes: int
    steps: tuple[Step, ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """Places of the steps that run something."""
        return tuple(i for i, step in enumerate(self.steps) if step.kind == "run")


# -- reading --------------------------------------------------------------------------------------


def folders() -> list[Path]:
    """Where lessons lie: those that are shipped, and those of the server's owner."""
    own = os.environ.get("CAKE_LESSONS_DIR")
    return [Path(__file__).parents[1] / "assets" / "lessons", *([Path(own)] if own else [])]


def load(where: Iterable[Path] | None = None) -> tuple[dict[str, Lesson], dict[str, str]]:
    """All lessons in their order, by name; and the sentences about files that are none.

    Args:
        where: folders to look into (the usual ones, where none are given).
    """
    found: dict[str, Lesson] = {}
    refused: dict[str, str] = {}
    for folder in folders() if where is None else where:
        for path in sorted(folder.glob("*.md")):
            try:
                name = _name(path)
                if name in found:
                    raise CakeError(f"There is a lesson '{name}' already. Give the file another name.")
                found[name] = read(path)
            except CakeError as error:
                refused[path.name] = str(error)
    return found, refused


def read(path: Path) -> Lesson:
    """The lesson of a file.

    Raises:
        CakeError: it can't be read, or something in it is wrong.
    """
    return parse(_name(path), _read(path))


def _name(path: Path) -> str:
    """A lesson's name: that of its file without the number that orders it."""
    return re.sub(r"^\d+-", "", path.stem)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * LONGEST:
            raise CakeError(f"The file is longer than {LONGEST:,} characters. Make two lessons of it.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CakeError("The file is no text in UTF-8. Save it as UTF-8.") from None
    except OSError as error:
        raise CakeError(f"The file can't be read ({error.strerror}).") from None


def parse(name: str, text: str) -> Lesson:
    """A lesson from the text of its file.

    Raises:
        CakeError: something in it is wrong; the sentence says where, and what would be right.
    """
    if len(text) > LONGEST:
        raise CakeError(f"The file is longer than {LONGEST:,} characters. Make two lessons of it.")
    head, body = _front(text.replace("\r\n", "\n"))
    sections = re.split(r"^## +", body, flags=re.MULTILINE)
    if sections[0].strip():
        raise CakeError("There is text before the first step. Begin with a line like '## Predict: What will happen?'.")
    if not 1 <= len(sections) - 1 <= MOST_STEPS:
        raise CakeError(f"A lesson has 1 to {MOST_STEPS} steps; this one has {len(sections) - 1}.")
    steps: list[Step] = []
    kept: set[str] = set()
    for number, section in enumerate(sections[1:], start=1):
        try:
            steps.append(_step(section, head["preset"], kept))
        except CakeError as error:
            raise CakeError(f"Step {number}: {error}") from None
        kept |= {steps[-1].keep} - {""}
    if not any(step.kind == "run" for step in steps):
        raise CakeError("Nothing runs in this lesson. Give it a step '## Run: ...'.")
    return Lesson(name, head["title"], head["about"], head["minutes"], tuple(steps))


def _front(text: str) -> tuple[dict[str, Any], str]:
    """The front matter, and what follows it."""
    match = re.match(r"---\n(.*?)\n---\n(.*)", text, flags=re.DOTALL)
    if not match:
        raise CakeError("A lesson begins with its title, about and minutes, a line each, between two lines '---'.")
    head: dict[str, Any] = {"preset": ""}
    for line in filter(str.strip, match[1].split("\n")):
        key, colon, value = line.partition(":")
        if not colon or key.strip() not in ("title", "about", "minutes", "preset"):
            raise CakeError(
                f"'{_cut(line.strip())}' is not known at the head. There are: title, about, minutes, preset."
            )
        head[key.strip()] = value.strip()
    for key in ("title", "about", "minutes"):
        if not head.get(key):
            raise CakeError(f"The head does not say its '{key}'. Add a line '{key}: ...'.")
    if not _whole(head["minutes"]) or not 1 <= int(head["minutes"]) <= 60:
        raise CakeError(f"'minutes' must be a whole number from 1 to 60; {_cut(head['minutes'])!r} is not.")
    _check_text(f"{head['title']}\n{head['about']}")
    return {**head, "minutes": int(head["minutes"])}, match[2]


def _cut(text: str) -> str:
    """What somebody wrote, fit for a sentence."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _whole(text: str) -> bool:
    """Whether a text is a whole number of a few digits: those from 0 to 9, and not each sign that Unicode calls one."""
    return re.fullmatch("[0-9]{1,4}", text) is not None


def _step(section: str, preset: str, kept: set[str]) -> Step:
    first, _, rest = section.partition("\n")
    kind, colon, title = (part.strip() for part in first.partition(":"))
    if not colon or kind.lower() not in ("predict", "run", "explain") or not title:
        raise CakeError(
            f"'## {_cut(first.strip())}' is no step. Write '## Predict: ', '## Run: ' or '## Explain: ' and a title."
        )
    items, options, answers, lines = [], [], [], []
    for line in rest.strip("\n").split("\n"):
        if match := re.match(r"- \[([ xX])\] +(.+)", line):
            answers += [len(options)] if match[1] != " " else []
            options.append(match[2].strip())
        elif not any(map(str.strip, lines)) and (match := re.match(r"- ([a-z]+): +(.+)", line)):
            items.append((match[1], match[2].strip()))
        else:
            lines.append(line)
    text = "\n".join(lines).strip()
    _check_text("\n".join([title, text, *options, *(v for k, v in items if k in ("goal", "hint"))]))
    step = Step(kind.lower(), title, text, tuple(options), tuple(answers))
    step = _with_items(step, items, preset, kept)
    _check_step(step, kept)
    return step


LISTS = {"open", "methods", "students", "show", "words", "links"}
FOR_RUNS = {"preset", "task", "open", "methods", "students", "show", "keep", "goal", "hint", "solution"}


def _with_items(step: Step, items: list[tuple[str, str]], preset: str, kept: set[str]) -> Step:
    """The step with what its list of settings says."""
    values: dict[str, Any] = {}
    query = _query(preset)
    for key, value in items:
        if key not in FOR_RUNS | {"words", "links"}:
            raise CakeError(f"There is no item '{key}'. There are: {', '.join(sorted(FOR_RUNS | {'words', 'links'}))}.")
        if key in FOR_RUNS and step.kind != "run":
            raise CakeError(f"'{key}' belongs to a step '## Run: ...'.")
        if key == "preset":
            query |= _query(value)
        elif key == "solution":
            values["solution"] = tuple(_query(value).items())
        elif key in LISTS:
            values[key] = tuple(v.strip() for v in value.split(",") if v.strip())
        elif key in ("goal", "hint"):
            made = _goal(value, kept) if key == "goal" else value
            values[f"{key}s"] = (*values.get(f"{key}s", ()), made)
        else:
            values[key] = value
    if values.get("task", "distill") != "distill":  # another kind of run: what the lesson presets is for distillations
        query = {k: v for key, value in items if key == "preset" for k, v in _query(value).items()}
    return replace(step, query=tuple(query.items()), **values)


def _check_step(step: Step, kept: set[str]) -> None:
    """Refuses what could not be shown or run."""
    lists = {"show": SHOWN, "words": GLOSSARY, "links": PAGES, "methods": METHODS, "students": MODELS}
    for name, known in lists.items():
        for value in getattr(step, name):
            if value not in known:
                raise CakeError(f"'{name}' does not know {_cut(value)!r}. There are: {', '.join(known)}.")
    if step.kind == "predict" and (len(step.options) < 2 or not step.answers):
        raise CakeError("A prediction needs two or more lines '- [ ] ...', and an x in at least one of them.")
    if step.kind != "predict" and step.options:
        raise CakeError("Lines '- [ ] ...' belong to a step '## Predict: ...'.")
    for match in PLACE.finditer(step.text):
        _check_fact(match[1].strip(), kept)
    if step.kind == "run":
        _check_run(step)


def _check_run(step: Step) -> None:
    if not step.goals:
        raise CakeError("A run needs a line '- goal: ...', so that the app can tell when it is done.")
    if step.keep and not re.fullmatch("[a-z_]{1,20}", step.keep):
        raise CakeError(f"'keep' must be a name of small letters; {_cut(step.keep)!r} is not.")
    if step.task not in TASKS_OF_RUNS:
        raise CakeError(f"'task' can't be {_cut(step.task)!r}. Choose one of: {', '.join(TASKS_OF_RUNS)}.")
    for query in (dict(step.query), step.solved):
        step.spec(query)
    if step.task != "distill":
        return
    start = step.experiment
    solved = Experiment.from_query(step.solved)
    known = {p.name for p in (*start.settings.params(), *solved.settings.params())}
    known |= {f"student.{p.name}" for p in start.student.params()} | {f"data.{p.name}" for p in start.data.params()}
    for name in step.open:
        if name not in known | {"seed"}:
            raise CakeError(f"'open' does not know {_cut(name)!r}. There are: {', '.join(sorted(known))}.")
    asked = [c.fact for goal in step.goals for c in goal.conditions if c.fact.startswith("set.")]
    names = {k for p in (start, solved) for k in setting_facts(p)}
    names |= {f"set.{p.name}" for m in step.methods for p in METHODS[m].Config.params()}
    for name in asked:
        if name not in names:
            raise CakeError(f"A goal asks about {_cut(name)!r}, which is no setting here.")


def _query(text: str) -> dict[str, str]:
    """The keys and values of an address, with or without its beginning."""
    return dict(parse_qsl(text.rpartition("?")[2], keep_blank_values=True))


def _goal(text: str, kept: set[str]) -> Goal:
    """ "near_boundary >= 80 % and state = done | A sentence" """
    rule, bar, sentence = text.partition("|")
    if not bar or not sentence.strip():
        raise CakeError(
            f"The goal '{_cut(text)}' has no sentence. Write it behind a bar: "
            "'near_boundary >= 80 % | Bring 80 % near'."
        )
    return Goal(sentence.strip(), tuple(_condition(part.strip(), kept) for part in re.split(r"\band\b", rule)))


CONDITION = re.compile(
    r"(?P<fact>[a-z_.]+)(?:\s+-\s+(?P<minus>[a-z_.]+))?\s*(?P<op>>=|<=|=|<|>)\s*(?P<value>[^\s%]+)\s*(?P<unit>%|points)?"
)


def _condition(text: str, kept: set[str]) -> Condition:
    match = CONDITION.fullmatch(text)
    if not match:
        raise CakeError(
            f"'{_cut(text)}' is no condition. Write one like 'near_boundary >= 80 %' or 'set.method = lake'."
        )
    fact, minus, value = match["fact"], match["minus"] or "", match["value"]
    for name in filter(None, (fact, minus)):
        _check_fact(name, kept)
    try:
        number: float | str = float(value) / (100 if match["unit"] else 1)
    except ValueError:
        number = value
    if isinstance(number, str) and (match["op"] != "=" or minus or match["unit"]):
        raise CakeError(f"'{_cut(text)}' compares with the word {_cut(value)!r}, which only '=' can.")
    return Condition(fact, minus, match["op"], number)


def _check_fact(name: str, kept: set[str]) -> None:
    front, dot, last = name.rpartition(".")
    if (not dot and name in FACTS) or front in ("loss", "set") or (front in kept | {"control"} and last in FACTS):
        return
    ways = "of this run, or behind the name that an earlier step keeps its numbers under and a dot"
    raise CakeError(
        f"There is no fact {_cut(name)!r}. There are: {', '.join(FACTS)}, loss.<term>, set.<setting>; {ways}."
    )


CODE = re.compile(r"`[^`]*`|\$[^$]*\$")
LINK = re.compile(r"\[[^\]]*\]\(\s*([^)\s]*)")


def _check_text(text: str) -> None:
    """Refuses what a text of somebody else's must not bring into the page."""
    plain = CODE.sub("", text)
    if re.search(r"<\s*[a-zA-Z/!?]", plain):
        raise CakeError("The text holds HTML, which lessons may not. Write it as Markdown.")
    if "![" in plain:
        raise CakeError("The text holds a picture, which lessons may not: it could come from anywhere.")
    for address in [*LINK.findall(plain), *re.findall(r"^\s*\[[^\]]+\]:\s*(\S+)", plain, flags=re.MULTILINE)]:
        if not address.startswith(("https://", "http://")):
            raise CakeError(f"The link to {_cut(address)!r} is no web address. Begin it with https://.")


# -- playing through --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rehearsal:
    """What came of one run of a lesson that was played without a browser.

    Attributes:
        step: its place in the lesson.
        met: for each goal whether it was reached.
        facts: the numbers it ended with.
    """

    step: int
    met: tuple[bool, ...]
    facts: dict[str, float | str]


def rehearse(lesson: Lesson, *, seed: int = 0, solved: bool = True) -> Iterator[Rehearsal]:
    """Plays a lesson through with the engine: every run with its solution, and its goals as the app checks them.

    Args:
        lesson: which one.
        seed: of every run.
        solved: whether with the solutions; without, as a learner finds the runs.
    """
    from .tasks import find  # the engine; reading a lesson does not need it

    kept: dict[str, float | str] = {}
    for place in lesson.runs:
        step = lesson.steps[place]
        query = {"seed": as_text(seed)} | (step.solved if solved else dict(step.query))
        settings = setting_facts(Experiment.from_query(query)) if step.task == "distill" else {}
        task = find(step.task)(**step.spec(query))
        met, facts = [False] * len(step.goals), {}
        for update in task:
            if update.stage == "control" and not _asks_about_control(step):
                break  # half of the time for a number that nobody asks for
            if not _is_looked_at(update):
                continue
            frame = task.frame(update, 0, update.progress >= 1)
            if frame is not None:
                facts = kept | settings | frame_facts(frame) | {"state": "running"}
                met = [m or goal.met(facts) for m, goal in zip(met, step.goals, strict=True)]
        facts |= result_facts(_outcome(task)) | {"state": "done"}
        met = [m or goal.met(facts) for m, goal in zip(met, step.goals, strict=True)]
        own = {k: v for k, v in facts.items() if "." not in k}
        if step.keep:
            kept |= {f"{step.keep}.{k}": v for k, v in own.items()}
        yield Rehearsal(place, tuple(met), facts)


EVERY = 20  # steps: a learner's page does not look at each of them either


def _is_looked_at(update: Update) -> bool:
    """Whether a rehearsal takes a frame of a moment: now and then, and at the end of making samples and of the run."""
    if update.snapshot is not None:
        return update.snapshot.step % EVERY == 0 or update.snapshot.step == update.snapshot.total
    return update.progress >= 1 or update.training is None


def _outcome(task: Any) -> dict[str, Any]:
    """What a task delivers; of a distillation only the numbers, which leaves nothing in the run store."""
    if not hasattr(task, "control"):
        return task.finish()
    control = task.control.outcome if task.control else None
    return {"outcome": task.run.outcome.to_dict(), "control": control.to_dict() if control else None}


def _asks_about_control(step: Step) -> bool:
    """Whether a goal needs the control, a student of noise alone."""
    asked = [name for goal in step.goals for c in goal.conditions for name in (c.fact, c.minus)]
    return any(name == "gain" or name.startswith("control.") for name in asked)
