"""Lines of the log: for people and as JSON, without secrets; what they tell stands in deploy/README.md."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cake_core import logs, runs
from cake_core.errors import CakeError

ROOT = Path(__file__).parents[1]
RUN, OWN = "20261126-120000-0123456789abcdef", "own-0123456789abcdef"


@pytest.fixture
def written(monkeypatch):
    """What is written to stderr; called with "text" or "json" it begins."""
    file = io.StringIO()

    def begin(form: str) -> io.StringIO:
        monkeypatch.setattr(sys, "stderr", file)
        monkeypatch.setenv("CAKE_LOG", form)
        logs.begin("server")
        return file

    yield begin
    for handler in [h for h in logs.log.handlers if isinstance(h, logs._Stderr)]:
        logs.log.removeHandler(handler)


def test_json_lines_have_what_programs_look_for(written):
    file = written("json")
    logs.note(
        "job_done", job=logs.which("secret-name"), owner=logs.who("secret.tab"), seconds=1.5, device="cpu", x=None
    )
    (line,) = map(json.loads, file.getvalue().splitlines())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "process": "server", "event": "job_done", "job": logs.which("secret-name"),
        "owner": runs.key_of("secret.tab")[:8], "seconds": 1.5, "device": "cpu",
    }  # fmt: skip
    assert len(line["job"]) == len(line["owner"]) == 8


def test_what_others_wrote_stays_on_its_line(written):
    nasty = 'a\nb\u2028c "d" \x1b[2J {"event": "job_done"}'
    for form in ("text", "json"):
        file = written(form)
        file.seek(0)
        file.truncate()
        logs.note("upload_refused", "warning", reason=nasty)
        assert len(file.getvalue().splitlines()) == 1
        assert "\x1b" not in file.getvalue()
    assert json.loads(file.getvalue())["reason"] == nasty


def test_no_secret_is_written(written):
    file = written("json")
    logs.note("job_failed", reason=f"There is no run {RUN}, and no data {OWN}.")
    logging.getLogger("cake_core.somewhere").warning("run %s", RUN)
    try:
        raise ValueError(f"run:{RUN}")
    except ValueError:
        logs.note("job_failed", "error", trace=True)
    said = file.getvalue()
    assert RUN not in said
    assert OWN not in said
    first, second, third = map(json.loads, said.splitlines())
    assert f"#{logs.which(RUN)}" in first["reason"]
    assert second["event"] == "message"
    assert "ValueError" in third["trace"]


def test_another_form_is_refused(monkeypatch):
    monkeypatch.setenv("CAKE_LOG", "xml")
    with pytest.raises(CakeError, match="CAKE_LOG is 'xml'. Write one of: text, json."):
        logs.check()


def test_a_server_with_a_wrong_environment_does_not_start_and_names_the_variable():
    """The very module that `streamlit run app.py` and uvicorn import."""
    name, value = "CAKE_MAX_RUNNING", "many"
    done = subprocess.run(
        [sys.executable, "-c", "import app"], cwd=ROOT, env=os.environ | {name: value}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"CAKE Lab does not start. The environment variable {name} is")
    assert "Traceback" not in done.stderr


def test_every_event_is_written_somewhere_and_explained():
    source = "".join(p.read_text() for f in ("cake_core", "pages") for p in (ROOT / f).rglob("*.py"))
    explained = (ROOT / "deploy" / "README.md").read_text()
    for event, sentence in logs.EVENTS.items():
        assert f'"{event}"' in source.replace('note(f"job_{state}"', '"job_done" "job_failed" "job_stopped"')
        assert f"| `{event}` | {sentence} |" in explained
