"""Links: a screen goes into an address and comes back; old ones keep their meaning; what can't be is said. And undo."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qsl, urlparse

import pytest

from cake_core import devices, links, runs
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.few_call import FewCallConfig
from cake_core.lineup import LineUpConfig
from cake_core.links import LOCKABLE, RESERVED, VERSION, Link, Options, View
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment
from cake_core.undo import Undo
from pages._ui import controls, share
from pages._ui.cached import runner

from .test_pages import experiment, job_name, open_page

OLD = json.loads((Path(__file__).parent / "old_links_1.json").read_text())

WHOLE = Link(
    {"method": "lake", "sigma": "0.1", "data.noise": "0.2", "seed": "7", "student.updates": "500"},
    "cpu",
    "a-job",
    View(("trails", "data"), 2.0),
    Options(("student", "figures"), ("method", "sliders"), keep=True, kiosk=True, idle=90),
)


# -- the address itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [Link(), WHOLE, Link(options=Options(lock=LOCKABLE))], ids=["none", "whole", "locked"])
def test_a_link_comes_back_the_same(link):
    assert links.read(link.to_query()) == link


def test_a_link_is_short():
    assert Link(on="cpu").to_query() == {"v": str(VERSION), "on": "cpu"}
    assert Link(options=Options(lock=LOCKABLE)).to_query()["lock"] == "all"


def test_no_setting_has_a_reserved_name():
    settings = {p.name for m in METHODS.values() for p in m.Config.params()}
    settings |= {name for c in (Experiment, FewCallConfig, LineUpConfig) for name in c.model_fields}
    assert not settings & set(RESERVED)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"v": "99"}, r"it was made by a later CAKE Lab \(links of version 99; this one reads up to"),
        ({"v": "pie"}, "'v' must be a whole number"),
        ({"v": "2", "show": "trails,ghosts"}, "'show' knows no 'ghosts'"),
        ({"v": "2", "hide": "everything"}, "'hide' knows no 'everything'. There are: data, method"),
        ({"v": "2", "lock": "figures"}, "'lock' knows no 'figures'"),
        ({"v": "2", "speed": "3"}, "'speed' can't be '3'. Choose one of: 0.25, 0.5"),
        ({"v": "2", "on": "abacus"}, "'on' can't be 'abacus'"),
        ({"v": "2", "kiosk": "perhaps"}, "'kiosk' can't be 'perhaps'"),
        ({"v": "2", "idle": "1"}, "'idle' must be a whole number from 5 to 3600 seconds"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(query, sentence):
    with pytest.raises(CakeError, match=sentence):
        links.read(query)


# -- old links -------------------------------------------------------------------------------------------------------


def test_there_is_a_way_from_every_version():
    assert sorted(links.UPGRADES) == list(range(1, VERSION))


@pytest.mark.parametrize("old", OLD, ids=lambda o: o["query"][:30])
def test_stored_links_mean_what_they_meant(old):
    """Whoever changes a default or a name sees this fail: raise VERSION, and write the way into UPGRADES."""
    config = FewCallConfig if old["page"] == "few_call" else Experiment
    link = links.read(dict(parse_qsl(old["query"])))
    found = config.from_query(link.flat).to_dict()
    assert {k: found[k] for k in old["settings"]} == old["settings"]


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist", "cifar10", "digits"])
def test_links_to_cake_plus_of_version_2_mean_what_it_was_then(data):
    """Without a gain or shapes, and with what CAKE has on each of the sets."""
    old = Experiment.from_query(links.read({"v": "2", "data": data, "method": "cake_plus", "seed": "3"}).flat)
    plain = Experiment.from_query({"data": data, "method": "cake", "seed": "3"})
    added = {"moments": 4, "relabel": True, "gain": 1.0, "shapes": False, "prior": "white"}
    assert dict(old.settings) == {**dict(plain.settings), **added}
    chosen = links.read({"v": "2", "data": data, "method": "cake_plus", "moments": "8"}).flat
    assert Experiment.from_query(chosen).settings.moments == 8
    now = {"data": data, "method": "cake_plus"}
    assert links.read({"v": "3", **now}).flat == now


def test_versions_are_walked_one_by_one(monkeypatch):
    def renamed(flat):
        return {"sigma" if k == "spread" else k: v for k, v in flat.items()}

    def halved(flat):
        return {k: str(float(v) / 2) if k == "sigma" else v for k, v in flat.items()}

    monkeypatch.setattr(links, "VERSION", 3)
    monkeypatch.setattr(links, "UPGRADES", {1: renamed, 2: halved})
    assert links.read({"spread": "4"}).flat == {"sigma": "2.0"}
    assert links.read({"v": "2", "sigma": "4"}).flat == {"sigma": "2.0"}
    assert links.read({"v": "3", "sigma": "4"}).flat == {"sigma": "4"}


def test_an_old_link_opens_and_the_address_is_of_today():
    app = open_page("two_moons", **{k.replace(".", "__"): v for k, v in parse_qsl(OLD[0]["query"])})
    assert not app.error
    assert experiment(app, "two_moons").to_dict() == OLD[0]["settings"]
    assert app.query_params["v"] == str(VERSION)
    assert app.query_params["on"] == devices.available()[0]


# -- what can't be had here ------------------------------------------------------------------------------------------


def warnings(app) -> str:
    return " ".join(w.value for w in app.warning)


def test_another_type_of_device_is_said(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: ["cpu"])
    app = open_page("two_moons", v="2", on="cuda", seed="7")
    assert "made on an NVIDIA GPU, and there is none here" in warnings(app)
    assert "**the samples are others**" in warnings(app)
    assert experiment(app, "two_moons") == Experiment(seed=7)
    assert app.query_params["on"] == "cpu"
    app.number_input(key="two_moons:seed").set_value(8).run()
    assert not app.warning  # it is about the link, not about what came after


def test_a_device_that_is_there_is_used_though_another_is_usual(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: ["cuda", "cpu"])
    app = open_page("two_moons", v="2", on="cpu")
    assert not app.warning
    assert experiment(app, "two_moons").device == "cpu"


def test_a_named_device_that_is_not_there():
    app = open_page("two_moons", v="2", device="cuda") if "cuda" not in devices.available() else None
    if app is not None:
        assert "made on an NVIDIA GPU" in warnings(app)
        assert experiment(app, "two_moons").device == "auto"


def test_a_teacher_of_another_machine():
    name = f"run:20260101-000000-{'a' * 16}"
    with pytest.raises(CakeError):
        runs.find(name.removeprefix("run:"))
    app = open_page("two_moons", v="2", teacher=name, method="lake", on=devices.available()[0])
    assert "a teacher that was trained or imported on another machine" in warnings(app)
    assert experiment(app, "two_moons") == Experiment.from_query({"method": "lake"})


def test_data_of_another_machine():
    gone = f"own-{'b' * 16}"
    assert own.find(gone) is None
    app = open_page("images", v="2", data=gone, method="naive", seed="3")
    assert not app.error
    assert "a data set of somebody's own that is not here (any more)" in warnings(app)
    assert experiment(app, "images") == Experiment.from_query({"data": "digits", "method": "naive", "seed": "3"})


def test_a_link_of_the_future_is_a_sentence():
    app = open_page("two_moons", v="99", method="lake")
    assert "it was made by a later CAKE Lab" in app.error[0].value
    assert experiment(app, "two_moons") == Experiment()


# -- sharing ---------------------------------------------------------------------------------------------------------


def shared(app) -> dict[str, str]:
    """What the link in the popover says."""
    (code,) = app.code
    return dict(parse_qsl(urlparse(code.value).query))


def test_share_gives_the_whole_screen_and_no_run():
    app = open_page("two_moons", method="lake", seed="7", v="2", show="trails")
    query = shared(app)
    assert query.pop("on") == devices.available()[0]
    assert query == {"v": str(VERSION), "method": "lake", "seed": "7", "show": "trails"}
    app.toggle(key="two_moons:share:run").set_value(True).run()
    assert shared(app)["job"] == runner().find(job_name(app, "two_moons")).shared
    assert any("QR code of the link" in str(i.proto) for i in app.get("image"))


def test_a_qr_code_is_a_picture_that_grows_with_the_text():
    small, large = share.qr("http://a.example/two_moons?v=2"), share.qr("http://a.example/" + "x" * 900)
    assert small.startswith("<svg")
    assert len(large) > len(small)
    assert share.qr("x" * 5000) is None  # no code can hold it


def test_what_is_shared_with_a_class():
    app = open_page("images")
    app.multiselect(key="images:share:hide").set_value(["student", "method"]).run()
    app.multiselect(key="images:share:lock").set_value(["sliders"]).run()
    query = shared(app)
    assert query["hide"] == "method,student"
    assert query["lock"] == "sliders"
    theirs = open_page("images", **query)
    keys = {w.key for w in [*theirs.selectbox, *theirs.multiselect]}
    assert "images:data" in keys
    assert "images:method" not in keys
    assert "images:student" not in keys
    view = json.loads(theirs.get("bidi_component")[0].proto.json)
    assert all(s["locked"] for s in view["sliders"])
    assert theirs.query_params["hide"] == "method,student"  # it stays as it was given


def test_locked_controls_can_be_seen_but_not_moved():
    app = open_page("two_moons", v="2", lock="all")
    assert app.selectbox(key="two_moons:method").disabled
    assert app.number_input(key="two_moons:seed").disabled
    assert app.button(key="two_moons:preset:LAKE").disabled
    assert not [b for b in app.button if b.key == "two_moons:bring"]
    assert not app.button(key="two_moons:hold").disabled


def test_hidden_parts_are_not_there():
    app = open_page("two_moons", v="2", hide="data,presets,tools,figures,seed")
    keys = {w.key for w in [*app.selectbox, *app.button, *app.number_input]}
    assert not keys & {"two_moons:data", "two_moons:preset:LAKE", "two_moons:undo", "two_moons:seed"}
    assert not app.code
    assert not [e for e in app.expander if "Fig. 1" in e.label]


def test_few_calls_and_detect_have_their_state_in_the_address():
    app = open_page("few_call", **{"data.name".replace(".", "__"): "moons", "budget": "4"})
    assert app.query_params["v"] == str(VERSION)
    assert app.query_params["budget"] == "4"
    app = open_page("detect")
    app.slider(key="detect:game:teachers").set_value(3)
    app.slider(key="detect:game:suspects").set_value(4)
    app.checkbox(key="detect:game:kind:dafl").check().run()
    flat = {k: v[0] if isinstance(v, list) else v for k, v in app.query_params.items()}
    again = open_page("detect", **{k.replace(".", "__"): v for k, v in flat.items()})
    assert again.slider(key="detect:game:teachers").value == 3
    assert again.slider(key="detect:game:suspects").value == 4
    assert again.checkbox(key="detect:game:kind:dafl").value
    assert again.number_input(key="detect:game:seed").value == app.number_input(key="detect:game:seed").value
    assert open_page("detect", v="2", nonsense="1").error[0].value.startswith("This link can't be followed as it is")


# -- undo, seed, snapshots, the run before ---------------------------------------------------------------------------


def test_undo_goes_back_and_redo_forth():
    states = Undo()
    states.did("a")
    states.did("b")
    assert states.undo("c") == "b"
    assert states.undo("b") == "a"
    assert states.undo("a") is None
    assert states.redo("a") == "b"
    states.did("b")
    assert states.redo("x") is None
    assert states.undo("x", usable=lambda s: s != "b") == "a"  # what can't be had any more is passed over


def test_undo_is_bounded():
    states = Undo()
    for i in range(250):
        states.did(i)
    assert states.past == list(range(150, 250))


def test_undo_and_redo_on_the_page():
    app = open_page("two_moons")
    assert app.button(key="two_moons:undo").disabled
    app.button(key="two_moons:preset:LAKE").click().run()
    app.number_input(key="two_moons:seed").set_value(3).run()
    app.button(key="two_moons:undo").click().run()
    assert experiment(app, "two_moons") == Experiment.from_query({"method": "lake"})
    assert app.number_input(key="two_moons:seed").value == 0
    app.button(key="two_moons:undo").click().run()
    assert experiment(app, "two_moons") == Experiment()
    assert "method" not in app.query_params
    app.button(key="two_moons:redo").click().run()
    app.button(key="two_moons:redo").click().run()
    assert experiment(app, "two_moons") == Experiment.from_query({"method": "lake", "seed": "3"})
    assert app.button(key="two_moons:redo").disabled
    assert runner().find(job_name(app, "two_moons")).spec["experiment"]["seed"] == 3


def test_what_the_browser_sends_before_it_has_heard_of_an_undo_is_no_choice(monkeypatch):
    app = open_page("two_moons")
    app.select_slider(key="two_moons:sigma").set_value(0.1).run()
    app.button(key="two_moons:undo").click().run()
    app.select_slider(key="two_moons:sigma").set_value(0.1)  # as it was when the key was pressed
    app.button(key="two_moons:dice").click().run()
    assert experiment(app, "two_moons").settings.sigma == Experiment().settings.sigma
    assert app.select_slider(key="two_moons:sigma").value == Experiment().settings.sigma
    monkeypatch.setattr(controls, "SETTLING", 0.0)  # a while later it is one
    app.select_slider(key="two_moons:sigma").set_value(0.1).run()
    assert experiment(app, "two_moons").settings.sigma == 0.1


def test_widgets_answer_with_what_they_show_even_before_they_are_drawn():
    app = open_page("two_moons", method="lake", samples="60", steps="40", seed="4", student__targets="soft")
    proto = app.select_slider(key="two_moons:samples").proto
    assert proto.options[int(proto.default[0])] == "60"
    proto = app.select_slider(key="two_moons:steps").proto
    assert proto.options[int(proto.default[0])] == "40"
    assert app.number_input(key="two_moons:seed").proto.default == 4
    proto = app.selectbox(key="two_moons:method").proto
    assert proto.options[proto.default] == METHODS["lake"].title


def test_dice_and_a_seed_that_is_kept():
    app = open_page("two_moons")
    seeds = set()
    for _ in range(4):
        app.button(key="two_moons:dice").click().run()
        seeds.add(experiment(app, "two_moons").seed)
    assert len(seeds) > 1
    seed = experiment(app, "two_moons").seed
    app.toggle(key="two_moons:keep").set_value(True).run()
    assert app.button(key="two_moons:dice").disabled
    assert app.number_input(key="two_moons:seed").disabled
    app.button(key="two_moons:preset:LAKE").click().run()
    assert experiment(app, "two_moons") == Experiment.from_query({"method": "lake", "seed": str(seed)})
    assert app.query_params["keep"] == "seed"
    app.toggle(key="two_moons:keep").set_value(False).run()
    app.button(key="two_moons:preset:CAKE").click().run()
    assert experiment(app, "two_moons").seed == 0


def test_snapshots_are_kept_under_their_names():
    app = open_page("two_moons", method="lake", v="2", show="trails")
    app.text_input(key="two_moons:snapshots:name:0").set_value("Noisy").run()
    app.button(key="two_moons:snapshots:keep").click().run()
    app.button(key="two_moons:preset:Naive").click().run()
    app.button(key="two_moons:snapshots:keep").click().run()  # under the name that is offered
    app.button(key="two_moons:snapshots:show:Noisy").click().run()
    assert experiment(app, "two_moons").method == "lake"
    app.button(key="two_moons:undo").click().run()  # showing one can be taken back too
    assert experiment(app, "two_moons").method == "naive"
    app.button(key="two_moons:snapshots:drop:Noisy").click().run()
    assert [b.label for b in app.button if (b.key or "").startswith("two_moons:snapshots:show:")] == ["Snapshot 2"]


def test_same_start_other_weights():
    app = open_page("two_moons", seed="5")
    before = job_name(app, "two_moons")
    app.button(key="two_moons:hold").click().run()
    now = job_name(app, "two_moons")
    assert now != before
    one, other = runner().find(before), runner().find(now)
    assert one.partner is other
    assert other.partner is one
    assert one.spec == other.spec  # the same seed, the same start
    assert "Both are still the same" in " ".join(m.value for m in app.markdown)
    state = app.session_state["screen:two_moons"]
    state["experiment"] = state["experiment"].replace(settings=state["experiment"].settings.replace(step_size=0.5))
    app.run()
    assert runner().find(now).spec["experiment"]["settings"]["step_size"] == 0.5
    assert runner().find(before).spec["experiment"]["settings"]["step_size"] != 0.5
    assert "**0.5**" in next(m.value for m in app.markdown if m.value.startswith("**What differs.**"))
    app.select_slider(key="two_moons:sigma").set_value(0.1).run()  # no live setting: another run takes its place
    third = runner().find(job_name(app, "two_moons"))
    assert third.partner is one
    state["experiment"] = Experiment.from_query({"method": "noise"})
    third = runner().find(job_name(app.run(), "two_moons"))
    said = next(m.value for m in app.markdown if m.value.startswith("**What differs.**"))
    assert "Method: cake → **noise**" in said
    assert "Step size (0.1)" in said.partition("only before: ")[2]  # noise has no steps
    assert "only now" not in said
    app.button(key="two_moons:release").click().run()
    assert runner().find(before) is None
    assert third.partner is None


def test_what_differs_between_experiments():
    one = Experiment.from_query({"seed": "3"})
    other = Experiment.from_query({"method": "lake", "sigma": "0.1"})
    told = one.differences(other)
    assert told["Seed"] == ("3", "0")
    assert told["Method"] == ("cake", "lake")
    assert one.differences(one) == {}
    extra = next(p for p in other.settings.params() if p.name not in type(one.settings).model_fields)
    assert told[extra.label][0] == ""


# -- a stand ---------------------------------------------------------------------------------------------------------


def told(app) -> dict:
    """What the stand's watch was told."""
    return next(d for c in app.get("bidi_component") if "idle" in (d := json.loads(c.proto.json)))


def test_a_stand_plays_and_shows_no_controls():
    app = open_page("two_moons", v="2", kiosk="1", idle="9", method="naive", seed="4")
    assert not app.sidebar.children
    assert not app.button
    assert {k: told(app)[k] for k in ("mode", "turn", "idle")} == {"mode": "show", "turn": 0, "idle": 9}
    assert runner().find(job_name(app, "two_moons")).state in ("running", "done")  # nobody has pressed anything
    before = dict(app.query_params)
    state = app.session_state["screen:two_moons"]
    for turn, method in ((1, "cake"), (2, "naive"), (3, "lake")):
        state["kiosk"]["turn"] = turn
        state["experiment"] = Experiment.from_query({"method": method})
        app.run()
        assert told(app)["turn"] == turn
        assert f"Now: {METHODS[method].title}." in told(app)["now"]
    assert dict(app.query_params) == before  # a stand's address is the one that it was opened with


def test_a_stand_hands_over():
    app = open_page("two_moons", v="2", kiosk="1", method="naive")
    app.session_state["screen:two_moons"]["kiosk"]["taken"] = True
    app.run()
    assert told(app)["mode"] == "taken"
    assert app.selectbox(key="two_moons:method").value == "naive"
    app.button(key="two_moons:preset:LAKE").click().run()
    assert experiment(app, "two_moons").method == "lake"
