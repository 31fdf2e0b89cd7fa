"""The run store: ids that can't be guessed or abused, and files that are whole."""

from __future__ import annotations

import json

import pytest

from cake_core import runs
from cake_core.errors import CakeError


def test_ids_are_new_each_time():
    names = {runs.create() for _ in range(20)}
    assert len(names) == 20
    assert all(runs.find(name).is_dir() for name in names)


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc", "20260101-000000-zzzzzzzzzzzzzzzz", "a" * 300])
def test_other_ids_are_refused(name):
    with pytest.raises(CakeError, match="There is no such run"):
        runs.find(name)


def test_a_run_without_result_says_so():
    name = runs.create()
    with pytest.raises(CakeError, match="did not finish"):
        runs.read(name)
    runs.write_json(runs.find(name) / "run.json", {"a": 1})
    assert runs.read(name) == {"a": 1}


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    runs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        runs.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["x.json"]
