"""Settings: declared once, refused with a sentence, the same after a trip through URL and JSON."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from cake_core.config import Config, param
from cake_core.errors import CakeError


class Inner(Config):
    shape: Literal["round", "square"] = param("round", help="Its outline.")


class Settings(Config):
    steps: int = param(10, low=1, high=100, help="How many.", live=True)
    rate: float = param(0.1, low=0.0, high=1.0, unit="m", scale="log", help="How fast.")
    loud: bool = param(False, help="Whether it makes noise.")
    name: str = param("a", choices=("a", "b"), help="What it is called.")
    inner: Inner = Inner()


def test_declarations_reach_the_widgets():
    steps = Settings.param("steps")
    assert (steps.kind, steps.low, steps.high, steps.default, steps.live) == ("int", 1, 100, 10, True)
    assert Settings.param("rate").unit == "m"
    assert Settings.param("name").choices == ("a", "b")
    assert Inner.param("shape").choices == ("round", "square")
    assert [p.name for p in Settings.params()] == ["steps", "rate", "loud", "name"]  # the nested one has its own


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "'steps' must be a whole number from 1 to 100; 0 is not."),
        ({"steps": "many"}, "'steps' must be a whole number from 1 to 100; 'many' is not."),
        ({"steps": 1.5}, "'steps' must be a whole number from 1 to 100; 1.5 is not."),
        ({"rate": 2.0}, "'rate' must be a number from 0 to 1 m; 2.0 is not."),
        ({"rate": float("nan")}, "'rate' must be a number from 0 to 1 m; nan is not."),
        ({"loud": "perhaps"}, "'loud' must be true or false; 'perhaps' is not."),
        ({"name": "c"}, "'name' can't be 'c'. Choose one of: a, b."),
        ({"inner": {"shape": "oval"}}, "'shape' can't be 'oval'. Choose one of: round, square."),
        ({"stepps": 3}, "There is no setting 'stepps'. Did you mean 'steps'?"),
        ({"zzz": 3}, "There is no setting 'zzz'. There are: steps, rate, loud, name, inner."),
    ],
)
def test_bad_values_get_a_sentence(values, sentence):
    with pytest.raises(CakeError) as caught:
        Settings.from_dict(values)
    assert str(caught.value) == sentence


def test_round_trips():
    changed = Settings.from_dict({"steps": 20, "rate": 0.25, "loud": True, "inner": {"shape": "square"}})
    assert Settings.from_dict(changed.to_dict()) == changed
    assert Settings.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
    flat = changed.to_query()
    assert flat == {"steps": "20", "rate": "0.25", "loud": "true", "inner.shape": "square"}
    assert Settings.from_query(flat) == changed
    assert Settings().to_query() == {}


def test_digest_tells_settings_apart():
    assert Settings().digest() == Settings().digest()
    assert Settings().digest() != Settings(steps=11).digest()


def test_settings_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        Settings().steps = 3
    assert Settings().replace(steps=3).steps == 3


def test_a_value_is_no_folder():
    with pytest.raises(CakeError, match="'steps.x' can't be set: 'steps' is a single value"):
        Settings.from_query({"steps": "3", "steps.x": "4"})
