"""Lessons: every shipped one reaches its goals with the engine, and damaged or hostile files get a sentence."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from cake_core import lessons
from cake_core.errors import CakeError
from cake_core.frames import encode
from cake_core.glossary import GLOSSARY

FOUND, REFUSED = lessons.load()

HEAD = "---\ntitle: T\nabout: A.\nminutes: 3\npreset: data=moons\n---\n"
RUN = "## Run: Go\n- preset: batches=1&samples=20&steps=5&student.updates=20\n- goal: state = done | It is done\n"


def test_ten_lessons_are_shipped():
    assert not REFUSED
    assert len(FOUND) == 10
    for lesson in FOUND.values():
        assert 3 <= lesson.minutes <= 8
        assert lesson.about.endswith((".", "?"))
        kinds = [s.kind for s in lesson.steps]
        assert {"predict", "run", "explain"} <= set(kinds)
        assert kinds[-1] == "explain"  # nobody is left without knowing why


QUICK = ("boundary", "contrast", "calls")  # the others take a quarter of a minute and more each


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.long) for n in FOUND])
def test_every_lesson_can_be_played_through(name):
    """With the engine and the numbers that the page checks, not a word of which is made up."""
    rehearsed = list(lessons.rehearse(FOUND[name]))
    assert [r.step for r in rehearsed] == list(FOUND[name].runs)
    for r in rehearsed:
        assert all(r.met), (name, r.step + 1, r.facts)


@pytest.mark.long
def test_where_there_is_something_to_do_nothing_is_reached_without_it():
    """The runs of points that have a solution: as the learner finds them, a goal stays open."""
    for name in ("contrast", "noise", "schedules", "calls"):
        tasks = replace(FOUND[name], steps=tuple(s for s in FOUND[name].steps if s.solution))
        unsolved = list(lessons.rehearse(tasks, solved=False))
        assert unsolved
        for r in unsolved:
            assert not all(r.met), (name, tasks.steps[r.step].title)


def test_a_goal_is_reached_where_all_its_conditions_hold_at_once():
    text = "near_boundary >= 80 % and step < 100 and a.near_boundary - near_boundary < -5 points | So"
    goal = lessons._goal(text, {"a"})
    facts = {"near_boundary": 0.8, "step": 99.0, "a.near_boundary": 0.7}
    assert goal.met(facts)
    assert not goal.met(facts | {"near_boundary": 0.79})
    assert not goal.met(facts | {"step": 100.0})
    assert not goal.met(facts | {"a.near_boundary": 0.76})
    assert not goal.met({"near_boundary": 0.8, "step": 99.0})  # what is not known does not hold
    assert goal.standing(facts) == "now 80.0 %"
    assert not lessons._goal("set.method = lake | So", set()).met({"set.method": 1.0})


def test_facts_of_a_frame_and_of_a_result():
    frame = encode(
        {"stage": "synthesis", "step": 7, "values": {"near_boundary": 0.5}, "losses": {"contrast": 2, "x": None}}
    )
    assert lessons.frame_facts(frame) == {"near_boundary": 0.5, "loss.contrast": 2.0, "step": 7.0}
    outcome = {
        "agreement": 0.9,
        "forward_calls": 10,
        "gradient_calls": 5,
        "agreement_interval": [0, 1],
        "coverage": None,
    }
    facts = lessons.result_facts({"outcome": outcome, "control": {"agreement": 0.5}})
    assert facts == {
        "agreement": 0.9, "forward_calls": 10, "gradient_calls": 5, "calls": 15, "control.agreement": 0.5,
        "gain": pytest.approx(0.4),
    }  # fmt: skip
    verdicts = [{"best": 0, "named": 0}, {"best": 1, "named": None}, {"best": 2, "named": 2}]
    truth = [{"teacher": 0}, {"teacher": 2}, {"teacher": None}]
    facts = lessons.result_facts({"verdicts": verdicts, "truth": truth, "control": []})
    assert facts == {"copies": 2, "traced": 1, "accused": 1}


def test_text_carries_the_learners_own_numbers():
    facts = {"a.near_boundary": 0.512, "a.calls": 80200.0, "gain": -0.012}
    said = lessons.written("{{a.near_boundary}}, {{ a.calls }}, {{gain}}, {{a.coverage}}", facts)
    assert said == "**51.2 %**, **80,200**, **-1.2 points**, **–** *(not run yet)*"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "A lesson begins with its title"),
        ("---\ntitle: T\n---\n" + RUN, "does not say its 'about'"),
        (HEAD.replace("minutes: 3", "minutes: many") + RUN, "'minutes' must be a whole number"),
        (HEAD.replace("title", "titel") + RUN, "is not known at the head"),
        (HEAD, "1 to 40 steps"),
        (HEAD + "Hello\n" + RUN, "before the first step"),
        (HEAD + "## Explain: So\nText.\n", "Nothing runs in this lesson"),
        (HEAD + "## Think: So\n" + RUN, "'## Think: So' is no step"),
        (HEAD + "## Predict: So?\n- [ ] one\n" + RUN, "two or more lines"),
        (HEAD + "## Predict: So?\n- [ ] one\n- [ ] two\n" + RUN, "an x in at least one"),
        (HEAD + RUN.replace("steps=5", "steps=many"), "'steps' must be a whole number"),
        (HEAD + RUN.replace("samples=20", "method=pie"), "There is no method 'pie'"),
        (HEAD + RUN.replace("state = done |", "state = done"), "has no sentence"),
        (HEAD + RUN.replace("state = done", "pie > 3"), "There is no fact 'pie'"),
        (HEAD + RUN.replace("state = done", "a.coverage > 3"), "There is no fact 'a.coverage'"),
        (HEAD + RUN.replace("state = done", "set.pie > 3"), "no setting here"),
        (HEAD + RUN.replace("state = done", "state > done"), "which only '=' can"),
        (HEAD + RUN.replace("state = done", "__import__('os').system('ls')"), "is no condition"),
        (HEAD + "## Run: Go\nNothing to reach.\n", "needs a line '- goal:"),
        (HEAD + RUN + "- cook: pie\n", "There is no item 'cook'"),
        (HEAD + RUN + "- open: pie\n", "'open' does not know 'pie'"),
        (HEAD + RUN + "- show: pie\n", "'show' does not know 'pie'"),
        (HEAD + RUN + "- words: pie\n", "'words' does not know 'pie'"),
        (HEAD + RUN + "- links: ../../app\n", "'links' does not know"),
        (HEAD + RUN + "- keep: state.x\n", "'keep' must be a name"),
        (HEAD + RUN + "- task: shell\n", "'task' can't be 'shell'"),
        (HEAD + RUN + "## Explain: So\n- goal: state = done | So\n", "belongs to a step '## Run"),
        (HEAD + RUN + "## Explain: So\n{{pie}}\n", "There is no fact 'pie'"),
        (HEAD + RUN + "## Explain: So\n<script>alert(1)</script>\n", "HTML"),
        (HEAD + RUN + "## Explain: So\n<img src=x onerror=alert(1)>\n", "HTML"),
        (HEAD.replace("title: T", "title: <b>T</b>") + RUN, "HTML"),
        (HEAD + RUN + "## Explain: So\n![x](https://example.org/x.png)\n", "a picture"),
        (HEAD + RUN + "## Explain: So\n[x](javascript:alert(1))\n", "no web address"),
        (HEAD + RUN + "## Explain: So\n[x][y]\n\n[y]: javascript:alert(1)\n", "no web address"),
        (HEAD + RUN + "## Explain: So\n" + "x" * 64_000, "longer than"),
    ],
)
def test_what_is_wrong_with_a_file_is_a_sentence(text, sentence):
    with pytest.raises(CakeError, match=r".") as error:
        lessons.parse("x", text)
    assert sentence in str(error.value)


def test_a_lecturer_adds_a_file(tmp_path, monkeypatch):
    (tmp_path / "01-mine.md").write_text(HEAD + RUN + "## Explain: So\nIt took `1 < 2` steps, $a<b$.\n")
    (tmp_path / "02-broken.md").write_bytes(b"\xff\xfe\x00broken")
    (tmp_path / "03-naive.md").write_text(HEAD + RUN)
    monkeypatch.setenv("CAKE_LESSONS_DIR", str(tmp_path))
    found, refused = lessons.load()
    assert list(found) == [*FOUND, "mine"]
    assert refused["02-broken.md"].startswith("The file is no text in UTF-8.")
    assert refused["03-naive.md"].startswith("There is a lesson 'naive' already.")
    (one,) = lessons.rehearse(found["mine"])
    assert one.met == (True,)


def test_the_lesson_in_the_readme_is_one():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"(    ---\n    title: My lesson.*?)\nIn a run,", text, flags=re.DOTALL)
    lesson = lessons.parse("mine", textwrap.dedent(example))
    assert [r.met for r in lessons.rehearse(lesson)] == [(True,)]
    assert [r.met for r in lessons.rehearse(lesson, solved=False)] == [(False,)]


def test_every_word_has_its_sentence():
    for key, term in GLOSSARY.items():
        assert term.sentence.endswith("."), key
        assert len(term.sentence) <= 140, key
        assert bool(term.equation) == bool(term.plain), key
        assert term.where, key
    names = [n for t in GLOSSARY.values() for n in t.names]
    assert len(names) == len(set(names))
