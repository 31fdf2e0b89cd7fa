"""The live view in a real browser: it moves, stops, survives, and says what went wrong."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import av
import pytest
from PIL import Image

from .harness import PROBE, Server, leave

pytestmark = pytest.mark.browser


class Live:
    """A page with a live view.

    Args:
        page: Playwright's page.
    """

    def __init__(self, page):
        self.page = page
        page.add_init_script(PROBE)
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, url: str) -> Live:
        self.page.goto(url)
        self.ready()
        return self

    def ready(self) -> None:
        self.until(lambda: self.page.evaluate("!!window.cakeLive.view?.scene"))
        self.until(lambda: self.page.evaluate("window.cakeLive.view.history.frames.length > 0"))

    def until(self, true: Callable[[], object], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"it did not happen in time; the page says: {self.status}"
            self.page.wait_for_timeout(20)

    def probe(self, name: str):
        return self.page.evaluate(f"window.cakeLive.{name}")

    @property
    def status(self) -> str:
        return self.page.inner_text(".cake-live .status")

    @property
    def step(self) -> int:
        """The step of the newest frame that has arrived, -1 before the first."""
        return self.page.evaluate("cakeLive.view.history.frames.at(-1)?.step ?? -1")

    @property
    def state(self) -> str:
        return self.page.evaluate("cakeLive.view.status.state")

    def rest(self, pause: Callable[[], None] | None = None) -> int:
        """Pauses, and waits until the step that was being computed has been seen too; that step."""
        pause() if pause else self.click("play")
        self.until(lambda: self.state == "paused")
        before = None
        while before != self.step:
            before = self.step
            self.page.wait_for_timeout(800)
        return before

    def click(self, name: str) -> None:
        self.page.click(f".cake-live .{name}")


@pytest.fixture
def live(browser) -> Iterator[Live]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    made = Live(context.new_page())
    yield made
    assert made.errors == []
    leave(context)


LONG = "two_moons?samples=50&steps=20000"
SHORT = "two_moons?samples=20&steps=60&student.updates=200"


def test_it_moves_and_nothing_is_remounted(server, live):
    live.open(f"{server.url}/{LONG}")
    live.page.evaluate("document.querySelector('canvas.points').mine = true")
    live.click("play")
    live.until(lambda: live.step > 30)
    first = live.page.evaluate("document.querySelector('canvas.points').toDataURL()")
    count = live.probe("count")
    live.page.wait_for_timeout(1000)
    assert live.probe("count") - count > 20
    assert live.page.evaluate("document.querySelector('canvas.points').toDataURL()") != first
    assert live.page.evaluate("document.querySelector('canvas.points').mine")  # the same node
    assert live.probe("mounts") == 1


def test_pause_freezes_and_play_goes_on(server, live):
    live.open(f"{server.url}/{LONG}")
    live.click("play")
    live.until(lambda: live.step > 20)
    live.click("play")  # it says Pause now
    live.until(lambda: live.state == "paused")
    live.page.wait_for_timeout(300)
    step, count = live.step, live.probe("count")
    live.page.wait_for_timeout(600)
    assert live.step == step
    assert live.probe("count") == count
    live.click("step")
    live.until(lambda: live.step == step + 1)
    live.click("play")
    live.until(lambda: live.step > step + 10)


def test_play_right_after_pause_goes_on(server, live):
    live.open(f"{server.url}/{LONG}")
    live.click("play")
    live.until(lambda: live.step > 20)
    for _ in range(2):
        live.click("play")  # it says Pause now
        live.until(lambda: live.state == "paused")
        live.page.wait_for_timeout(300)
        goal = live.step + 10
        live.click("play")
        live.until(lambda goal=goal: live.state == "running" and live.step > goal, 10)


def test_keyboard(server, live):
    live.open(f"{server.url}/{LONG}")
    live.page.keyboard.press("Space")
    live.until(lambda: live.state == "running" and live.step > 5)
    step = live.rest(lambda: live.page.keyboard.press("Space"))
    live.page.keyboard.press("ArrowRight")
    live.until(lambda: live.step == step + 1)
    live.page.keyboard.press("?")
    assert live.page.is_visible(".cake-live .help")
    live.page.keyboard.press("Escape")
    assert not live.page.is_visible(".cake-live .help")
    live.page.keyboard.press("r")
    live.until(lambda: live.state == "ready" and live.step == 0)


def test_a_slider_reaches_the_engine_and_the_url(server, live):
    live.open(f"{server.url}/{LONG}")
    live.click("play")
    live.until(lambda: live.step > 10)
    slider = live.page.locator(".cake-live .slider input").first
    before = live.probe("version")
    slider.evaluate("(s) => { s.value = 900; s.dispatchEvent(new Event('input')); }")
    live.until(lambda: live.probe("version") > before, 5)  # a frame made with it was painted
    slider.evaluate("(s) => s.dispatchEvent(new Event('change'))")
    live.until(lambda: "step_size=" in live.page.url)
    assert live.probe("mounts") == 1
    assert live.state == "running"


def test_a_refresh_finds_the_same_run(server, live):
    live.open(f"{server.url}/{LONG}")
    live.click("play")
    live.until(lambda: live.step > 40 and "job=" in live.page.url)
    step, url = live.step, live.page.url
    live.page.reload()
    live.ready()
    live.until(lambda: live.step > step)
    assert live.page.url == url
    assert live.state == "running"
    frames = live.page.evaluate("cakeLive.view.history.frames.map((f) => f.step ?? 0)")
    assert min(frames) < step  # the past came along, so it can be scrubbed
    assert frames == sorted(frames)


def test_another_page_and_back(server, live):
    live.open(f"{server.url}/{LONG}")
    live.click("play")
    live.until(lambda: live.step > 10)
    step = live.step
    live.page.get_by_role("link", name="Compare").first.click()
    live.page.get_by_role("heading", name="Compare").first.wait_for()
    live.page.get_by_role("link", name="Two moons").first.click()
    live.until(lambda: live.probe("mounts") == 2)
    live.ready()
    live.until(lambda: live.step > step)


def test_zoom_is_kept_while_it_runs(server, live):
    live.open(f"{server.url}/{LONG}")
    live.click("play")
    live.until(lambda: live.probe("view.teacher.plot._fullLayout") and live.step > 5)
    live.page.evaluate("Plotly.relayout(cakeLive.view.teacher.plot, {'xaxis.range': [-1, 0], 'yaxis.range': [0, 1]})")
    live.page.wait_for_timeout(800)
    ranges = live.page.evaluate(
        "(({xaxis, yaxis}) => [xaxis.range, yaxis.range])(cakeLive.view.teacher.plot._fullLayout)"
    )
    assert ranges[1] == pytest.approx([0, 1], abs=0.05)
    assert ranges[0] == pytest.approx([-1, 0], abs=0.05)


def test_to_the_end_and_back_in_time(server, live):
    live.open(f"{server.url}/{SHORT}")
    live.click("play")
    live.until(lambda: live.state == "done")
    live.page.get_by_text("How well does it copy?").wait_for()
    assert live.page.get_by_text("Student of noise only").count()
    assert live.probe("view.student.surface") is not None
    # The curves take the colours of another theme, though nothing moves any more.
    live.page.emulate_media(color_scheme="dark")
    live.until(lambda: live.probe("view.theme.dark"))
    live.until(lambda: live.probe("view.curves.plot.layout.font.color === cakeLive.view.theme.text"))
    whisker = "getComputedStyle(document.querySelector('.bars path.xerror')).stroke"
    live.until(lambda: live.page.evaluate(whisker) == "rgb(232, 238, 237)")
    live.page.emulate_media(color_scheme="light")
    live.until(lambda: not live.probe("view.theme.dark"))
    # Scrub to the beginning: the samples are where they began.
    live.page.evaluate("(() => { const t = document.querySelector('.cake-live .time'); t.value = 0; t.oninput(); })()")
    live.until(lambda: live.probe("step") == 0)
    assert "Looking back" in live.status
    # And replay from there, faster.
    live.page.select_option(".cake-live .speed", "8")
    live.click("play")
    live.until(lambda: live.probe("step") >= 60)


def test_trails_arrows_and_data_can_be_shown(server, live):
    live.open(f"{server.url}/{LONG}")
    for name in ("trails", "arrows", "data"):
        live.page.check(f".cake-live input[name={name}]")
    live.click("play")
    live.until(lambda: live.page.evaluate("cakeLive.view.history.frames.some((f) => f.arrows)"))
    live.page.wait_for_timeout(500)
    drawn = (
        "(c) => new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer).some((v) => v)"
    )
    assert live.page.evaluate(f"({drawn})(cakeLive.view.teacher.trail)")


def test_a_late_drawing_does_not_put_back_a_newer_choice(server, live):
    """What Python drew when it had heard of the first of two changes arrives behind the second."""
    live.open(f"{server.url}/{LONG}")
    kept = live.page.evaluate("""() => {
      const view = cakeLive.view, box = (name) => document.querySelector(`.cake-live input[name=${name}]`);
      const [first, second] = document.querySelectorAll(".cake-live .sliders input");
      const move = (slider, to) => {
        slider.value = to;
        slider.dispatchEvent(new Event("input"));
        slider.dispatchEvent(new Event("change"));
      };
      box("trails").click();
      move(first, 100);
      const late = { view: { show: ["trails"], speed: 1 }, heard: { ...view.saidAt } };
      late.sliders = view.data.sliders.map((spec, i) => (i ? { ...spec } : { ...spec, value: view.sliders[0].read() }));
      box("data").click();
      move(second, 900);
      view.update({ ...view, data: { ...view.data, ...late } });
      return [box("trails").checked, box("data").checked, first.value, second.value];
    }""")
    assert kept == [True, True, "100", "900"]
    heard = "['view', 'settings'].every((name) => cakeLive.view.isHeard(name))"
    live.until(lambda: live.page.evaluate(heard))  # what Python draws in the end is the same
    live.until(lambda: live.page.evaluate("cakeLive.view.data.view.show.join()") == "trails,data")
    now = "[...document.querySelectorAll('.cake-live .sliders input')].slice(0, 2).map((s) => s.value)"
    assert live.page.evaluate(now) == ["100", "900"]


@pytest.mark.parametrize(("method", "words"), [("zsdb3kd", "Rays:"), ("deepinversion", "")])
def test_methods_show_how_they_work(server, live, method, words):
    live.open(f"{server.url}/two_moons?method={method}&batches=1&samples=40")
    live.click("play")
    if words:
        live.until(lambda: live.page.evaluate("cakeLive.view.history.frames.some((f) => f.lines)"))
        assert live.page.locator(".cake-live .stage > p").inner_text().startswith(words)
    else:
        chart = live.page.locator(".cake-live .statistics .plot")
        chart.wait_for()
        assert "on average they differ by: means" in chart.get_attribute("aria-label")
        live.until(lambda: chart.locator(".points path").count() > 20)
    assert live.page.evaluate("cakeLive.view.root.dataset.error ?? null") is None


IMAGES = "images?batches=4&samples=100&steps=2000"

# What the details show: text of the bars, number of the distance, and the pictures, as they are on the screen.
SHOWN = """() => {
  const text = (name) => document.querySelector(`.cake-live ${name}`).innerText;
  const picture = (name) => document.querySelector(`.cake-live ${name}`).toDataURL();
  return {
    words: text(".words"), far: text(".one section:nth-of-type(2) .hint"), slope: text(".pair .hint"),
    bars: text(".bars"), chances: picture(".chances"), distance: picture(".distance"), large: picture(".large"),
    gradient: picture(".gradient"), partners: picture(".partners canvas"), strip: picture(".strip"),
  };
}"""


def test_images_change_and_one_can_be_chosen(server, live):
    live.open(f"{server.url}/{IMAGES}")
    live.click("play")
    live.until(lambda: live.step > 10)
    first = live.page.evaluate("document.querySelector('canvas.sheet').toDataURL()")
    live.until(lambda: live.page.evaluate("document.querySelector('canvas.sheet').toDataURL()") != first)
    live.page.click("canvas.sheet", position={"x": 230, "y": 230})
    live.until(lambda: live.probe("view.sample") > 0)
    words = live.page.inner_text(".cake-live .words")
    assert re.fullmatch(r"Told to become \d\. The teacher sees \d \(\d+ %\)\.", words)


def test_details_of_a_sample_change_while_it_runs_and_follow_the_choice_when_it_rests(server, live):
    live.open(f"{server.url}/{IMAGES}")
    live.click("play")
    live.until(lambda: live.step > 5)
    live.page.click("canvas.sheet", position={"x": 130, "y": 30})
    sample = live.probe("view.sample")
    live.until(lambda: live.page.evaluate("cakeLive.view.history.frames.at(-1).gradient_of?.[0]") == sample)
    live.until(lambda: "Norm" in live.page.inner_text(".cake-live .pair .hint"))
    before = live.page.evaluate(SHOWN)
    step = live.step
    live.until(lambda: live.step > step + 10)
    live.page.wait_for_timeout(300)
    after = live.page.evaluate(SHOWN)
    for what in ("far", "slope", "chances", "distance", "large", "gradient", "partners", "strip"):
        assert before[what] != after[what], what
    assert len(after["bars"].split("%")) == 11
    assert live.page.locator(".cake-live .partners button:visible").count() == 9
    # At rest: a partner's details come at once, and nothing moves for it.
    live.rest()
    step, rest = live.step, live.page.evaluate(SHOWN)
    live.page.click(".cake-live .partners button >> nth=3")
    chosen = live.probe("view.sample")
    assert chosen != sample
    assert chosen // 10 == sample // 10  # of the same group
    live.until(lambda: live.page.evaluate("cakeLive.view.history.frames.at(-1).gradient_of?.[0]") == chosen, 5)
    live.page.wait_for_timeout(300)
    now = live.page.evaluate(SHOWN)
    assert all(now[what] != rest[what] for what in ("words", "far", "slope", "large", "gradient"))
    assert live.step == step
    # What is shown is what the frame says.
    far = live.page.evaluate(
        "(s) => { const { frame } = cakeLive.view.detail; return frame.distance[frame.ids.indexOf(s)]; }", chosen
    )
    assert float(now["far"].split()[0].rstrip(",")) == pytest.approx(far, rel=0.01)
    assert live.probe("mounts") == 1


def test_both_views_of_pixels_also_in_the_past(server, live):
    live.open(f"{server.url}/{IMAGES}")
    live.click("play")
    live.until(lambda: live.step > 10)
    live.click("play")
    live.until(lambda: live.state == "paused")
    darkest = (
        "(() => { const c = document.querySelector('canvas.large').cake; const v = [...c.pixels].map((p) => p & 255);"
        " return [Math.min(...v), Math.max(...v)]; })()"
    )
    for position in ("1000", "300"):
        live.page.evaluate(
            f"(() => {{ const t = document.querySelector('.cake-live .time'); t.value = {position}; t.oninput(); }})()"
        )
        seen = {}
        for look in ("pixels", "stretched"):
            live.page.check(f".cake-live input[value={look}]")
            live.page.wait_for_timeout(300)
            seen[look] = live.page.evaluate("document.querySelector('canvas.sheet').toDataURL()")
        assert seen["pixels"] != seen["stretched"]
        assert live.page.evaluate(darkest) == [0, 255]  # from its own lowest to its own highest
    assert "stretched from its own lowest" in live.page.inner_text(".cake-live .all .hint")


def test_keys_choose_and_close(server, live):
    live.open(f"{server.url}/{IMAGES}")
    live.page.click("canvas.sheet", position={"x": 30, "y": 30})
    assert live.probe("view.sample") == 0
    live.page.keyboard.press("ArrowRight")
    assert live.probe("view.sample") == 1
    live.page.keyboard.press("ArrowDown")
    assert live.probe("view.sample") == 9
    live.page.keyboard.press("ArrowUp")
    live.page.keyboard.press("ArrowLeft")
    live.page.keyboard.press("ArrowLeft")  # there is none to the left
    assert live.probe("view.sample") == 0
    assert live.step == 0  # in the sheet, the right arrow is no step
    live.page.keyboard.press("Escape")
    live.page.wait_for_timeout(100)
    assert not live.page.is_visible(".cake-live .one")
    assert live.probe("view.sample") is None
    live.page.keyboard.press("Space")
    live.until(lambda: live.state == "running" and live.step > 3)
    frame = "cakeLive.view.history.frames.at(-1)"
    live.until(lambda: live.page.evaluate(f"!{frame}.gradient && {frame}.ids.length === {frame}.sheet"))


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_films_are_downloaded(server, live, kind, tmp_path):
    live.open(f"{server.url}/{IMAGES}")
    live.click("play")
    live.until(lambda: live.step > 10)
    for pane, name in ((".all", f"samples.{kind}"), (".one", f"sample-1.{kind}")):
        with live.page.expect_download() as waiting:
            live.page.click(f".cake-live {pane} .films .{kind}")
        path = tmp_path / name
        assert waiting.value.suggested_filename == name
        waiting.value.save_as(path)
        if kind == "gif":
            with Image.open(path) as file:
                count, (width, height) = file.n_frames, file.size
        else:
            with av.open(path) as file:
                pictures = list(file.decode(video=0))
            count, width, height = len(pictures), pictures[0].width, pictures[0].height
        assert count > 6
        assert 250 < width < 500 and width < height < 560
        assert path.stat().st_size < 3_000_000
    assert live.state == "running"  # it went on meanwhile


def test_home_moves_before_anything_is_pressed(server, live):
    live.page.goto(server.url)
    live.until(lambda: live.probe("count") > 20)
    assert live.page.get_by_role("link", name="Two moons").count()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("page", [LONG, "images?batches=4&samples=100"])
def test_nothing_sticks_out(server, browser, width, page):
    context = browser.new_context(viewport={"width": width, "height": 844})
    live = Live(context.new_page()).open(f"{server.url}/{page}")
    live.page.wait_for_timeout(500)
    assert live.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = live.page.evaluate(
        "[...document.querySelectorAll('.cake-live button, .cake-live canvas')].filter((e) => e.offsetParent)"
        ".map((e) => e.getBoundingClientRect().right)"
    )
    assert max(boxes) <= width
    leave(context)


def test_a_killed_process_is_explained_and_replaced(server, live):
    live.open(f"{server.url}/{LONG}")
    live.click("play")
    live.until(lambda: live.step > 10)
    os.kill(server.worker().pid, signal.SIGKILL)
    live.until(lambda: live.page.is_visible(".cake-live .banner"))
    assert "ended unexpectedly (SIGKILL). A new one goes on" in live.page.inner_text(".cake-live .banner")
    live.until(lambda: live.state == "running" and live.step > 10)  # nobody had to press anything
    live.click("reset")
    live.until(lambda: live.state == "ready" and live.step == 0)
    live.click("play")
    live.until(lambda: live.step > 10)
    assert not live.page.is_visible(".cake-live .banner")


@pytest.mark.long
def test_a_lost_server_is_said(tmp_path, live):
    own = Server("app.py", tmp_path / "log")
    live.open(f"{own.url}/{LONG}")
    own.close()
    live.until(lambda: live.status == "Disconnected. Trying again…", 20)


def test_without_the_apps_own_routes_it_moves_too(tmp_path, live):
    """Hosting that runs the frame as a plain script: no socket, no Plotly; frames come with the page."""
    own = Server("pages/_ui/frame.py", tmp_path / "log")
    try:
        live.open(f"{own.url}/{LONG}")
        live.click("play")
        live.until(lambda: live.step > 20)
        count = live.probe("count")
        live.until(lambda: live.probe("count") > count + 20)
        live.click("play")
        live.until(lambda: live.state == "paused")
    finally:
        own.close()
