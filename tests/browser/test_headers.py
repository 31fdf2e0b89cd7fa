"""What the server tells a browser to keep to: it is told with every answer, and no page needs more than it allows."""

from __future__ import annotations

import gzip
import re
import urllib.error
import urllib.request

import plotly
import pytest

from cake_core.errors import CakeError
from pages._ui.headers import headers
from pages._ui.page import PAGES

from .harness import leave

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("path", ["", "two_moons", "_stcore/health", "live/recordings/home", "live/recordings/none"])
def test_every_answer_has_them(server, path):
    try:
        given = urllib.request.urlopen(f"{server.url}/{path}", timeout=30).headers
    except urllib.error.HTTPError as error:
        given = error.headers
    for name, value in headers().items():
        assert given[name] == value


def test_scripts_come_compressed(server):
    page = urllib.request.urlopen(f"{server.url}/", timeout=30).read().decode()
    for address in (
        re.search(r'src="\.?(/static/js/[^"]+\.js)"', page)[1],
        f"/live/{plotly.__version__}/plotly.min.js",
    ):
        asked = urllib.request.Request(server.url + address)
        whole = urllib.request.urlopen(asked, timeout=30).read()
        asked.add_header("Accept-Encoding", "gzip")
        answer = urllib.request.urlopen(asked, timeout=30)
        packed = answer.read()
        assert len(packed) < len(whole) / 2
        assert gzip.decompress(packed) == whole
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.long
def test_no_page_asks_for_more(server, browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    broken: list[str] = []
    page.on("console", lambda m: broken.append(m.text) if "Content Security Policy" in m.text else None)
    elsewhere: list[str] = []
    page.on("request", lambda r: elsewhere.append(r.url) if r.url.startswith("http") else None)
    for name in PAGES:
        page.goto(f"{server.url}/{'' if name == 'home' else name}")
        page.get_by_role("heading", level=1).first.wait_for(timeout=120_000)
        page.wait_for_load_state("networkidle")
    assert broken == []
    assert [u for u in elsewhere if not u.startswith(server.url)] == []
    leave(context)


@pytest.mark.parametrize("wrong", ["", "everybody; script-src *", "javascript:alert(1)", "'self'\nX-Evil: 1"])
def test_who_may_frame_it_is_checked(wrong):
    with pytest.raises(CakeError, match="CAKE_FRAME_ANCESTORS"):
        headers(wrong)


def test_a_platform_that_embeds_it_can_be_named():
    assert headers("'self' https://moodle.example.org")["Content-Security-Policy"].endswith(
        "frame-ancestors 'self' https://moodle.example.org"
    )
