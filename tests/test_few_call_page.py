"""The page Few calls: its widgets make the attack that they say, and results and refusals are shown."""

from __future__ import annotations

from cake_core.links import VERSION
from cake_core.stealing import TITLES
from pages._ui.cached import runner
from pages._ui.page import computed_on

from .test_pages import open_page, wait


def quick():
    app = open_page("few_call")
    app.selectbox(key="few_call:data").select("moons").run()
    app.select_slider(key="few_call:budget").set_value(4)
    app.select_slider(key="few_call:moons:per_class").set_value(20)
    app.select_slider(key="few_call:moons:updates").set_value(50)
    return app


def test_steal_and_see_what_was_stolen():
    app = quick()
    app.toggle(key="few_call:active").set_value(False)
    next(b for b in app.button if b.label == "Steal").click().run()
    job = runner().find(app.session_state["few_call:job"])
    config = job.spec["config"]
    assert (config["data"]["name"], config["budget"], config["active"]) == ("moons", 4, False)
    assert (config["proxies"]["source"], config["proxies"]["per_class"]) == ("blurred", 20)
    wait(app, job.name)
    shown = {m.label: m.value for m in app.metric}
    assert shown["Calls"] == "8"
    assert shown["Agreement with the teacher"] == f"{100 * job.result['outcome']['agreement']:.1f} %"
    assert any("2,000 real test examples" in c.value for c in app.caption)
    assert any("Before pseudo-labels" in m.value for m in app.markdown)
    assert app.get("download_button")


def test_there_are_as_many_proxies_as_calls():
    app = quick()
    app.select_slider(key="few_call:budget").set_value(32)
    next(b for b in app.button if b.label == "Steal").click().run()
    job = runner().find(app.session_state["few_call:job"])
    runner().forget(job)
    assert job.spec["config"]["proxies"]["per_class"] == 32


def test_a_sweep_has_its_controls_and_tells_what_did_not_run():
    app = quick()
    app.multiselect(key="few_call:variants").set_value(["aspkd", "other", "prompts"])
    app.multiselect(key="few_call:budgets").set_value([2, 4])
    app.slider(key="few_call:seeds").set_value(1)
    app.button(key="few_call:compare").click().run()
    job = runner().find(app.session_state["few_call_sweep:job"])
    wait(app, job.name)
    assert "another set" in app.warning[0].value
    table = next(d.value for d in app.dataframe if "calls per class" in d.value)
    assert list(table["way"]) == [TITLES["aspkd"], TITLES["prompts"], TITLES["aspkd"]]
    assert list(table["calls per class"]) == [2, 0, 4]
    app.multiselect(key="few_call:budgets").set_value([])
    app.button(key="few_call:compare").click().run()
    assert "at least one variant and one budget" in app.error[0].value


def test_worse_teachers_and_other_questions_are_taken_over():
    app = open_page("few_call")
    app.button_group(key="few_call:quality").set_value(0.7).run()
    app.selectbox(key="few_call:source:digits").select("noise").run()
    next(b for b in app.button if b.label == "Steal").click().run()
    job = runner().find(app.session_state["few_call:job"])
    runner().forget(job)
    assert job.spec["config"]["quality"] == 0.7
    assert job.spec["config"]["proxies"]["source"] == "noise"


def test_a_link_opens_the_same_attack_and_a_bad_one_is_told():
    query = {"data__name": "circles", "budget": "5", "active": "false", "proxies__per_class": "50"}
    app = open_page("few_call", **query)
    assert app.selectbox(key="few_call:data").value == "circles"
    assert app.select_slider(key="few_call:budget").value == 5
    assert app.toggle(key="few_call:active").value is False
    assert app.query_params == {"v": str(VERSION), "on": computed_on()} | {
        k.replace("__", "."): v for k, v in query.items()
    }
    app = open_page("few_call", budget="many")
    assert app.error[0].value.startswith("This link can't be followed as it is: 'budget' must be a whole number")
    assert app.select_slider(key="few_call:budget").value == 32
