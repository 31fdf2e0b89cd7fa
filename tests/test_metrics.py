"""The numbers of a server: they follow what it does, and are well-formed OpenMetrics."""

from __future__ import annotations

import os
import re
import signal

import pytest

from cake_core import metrics
from cake_core.jobs import JobRunner
from cake_core.limits import Limits

from .test_pages import PAGES, open_page
from .waiting import until

QUICK = {"experiment": {"data": {"name": "moons"}, "settings": {"batches": 1, "samples": 10, "steps": 3},
                        "student": {"updates": 5}}}  # fmt: skip


@pytest.fixture
def runner():
    made = JobRunner(Limits(max_running=2))
    yield made
    made.close()


def test_they_follow_what_happens(runner):
    before = metrics.figures(runner)
    assert set(before) == set(metrics.FIGURES)
    assert before["jobs_done"] == before["processes"] == 0
    job = runner.submit("distill", QUICK, owner="me", play=True)
    job.subscribe(lambda message: None)
    until(lambda: job.state == "done")
    after = metrics.figures(runner)
    assert after["jobs"]["done"] == after["jobs_done"] == after["viewers"] == after["processes"] == 1
    assert after["frames"] > 0
    assert after["memory_bytes"]["compute"] > 50e6
    assert after["memory_bytes"]["server"] > 10e6
    os.kill(runner.processes()["compute"], signal.SIGKILL)
    until(lambda: metrics.figures(runner)["process_deaths"] == 1)


def test_they_are_openmetrics(runner):
    lines = metrics.openmetrics(metrics.figures(runner)).splitlines()
    assert lines[-1] == "# EOF"
    sample = re.compile(r'cake_[a-z_]+(_total)?(\{[a-z]+="[a-z-]+"\})? \d+')
    assert all(sample.fullmatch(line) or re.fullmatch(r"# (TYPE|HELP) cake_\S+ .+", line) for line in lines[:-1])
    for name, (kind, _) in metrics.FIGURES.items():
        assert any(line.startswith(f"cake_{name}{'_total' if kind == 'counter' else ''}") for line in lines)


def test_the_page_shows_them_and_no_other_page_leads_there():
    assert "status" not in PAGES
    assert not any("status" in str(link.proto) for link in open_page("home").page_link)
    app = open_page("status")
    assert "Jobs done" in [m.label for m in app.metric]
