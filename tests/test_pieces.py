"""Jobs that are killed go on from what they have stored, and come to the very same numbers."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cake_core import data, diffusion, inbox, models, runs, tasks, weights
from cake_core.detect_tasks import Audit, HideStudents
from cake_core.errors import CakeError
from cake_core.few_call_tasks import Steal
from cake_core.pieces import NOWHERE, Halfway, Piece, Pieces, joined
from cake_core.pipeline import Experiment
from cake_core.tasks import Compare, Distill, Task, TrainStudents, TrainTeacher
from cake_core.training import TrainConfig, Training, train

CLOCKS = {"seconds", "run"}  # what differs between two runs of anything
GRAVE: list[object] = []  # what was killed: nobody closes it


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A folder of runs for one test, in which every third moment of a training is stored, and the clock decides
    nothing."""
    asked = itertools.count()
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(Halfway, "due", property(lambda self: next(asked) % 3 == 0))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nobody pulls the plug here
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", 1e9)
    return tmp_path / "runs"


def unfinished(store: Path) -> list[Path]:
    return [p for p in store.glob("unfinished/**/*") if p.is_file()]


def lived(make: Callable[[], Task], most: int) -> tuple[dict[str, Any], list[int]]:
    """Lives that are killed after so many updates, each a bit longer than the one before: the results of the one that
    gets through, and the updates of each."""
    counts = []
    while len(counts) < 30:
        task, count = make(), 0
        for count, _ in enumerate(task, start=1):
            if count == most:
                break
        counts.append(count)
        if count < most:
            result = task.finish()
            task.close()
            return result, counts
        GRAVE.append(task)
        most += 1 + most // 3
    raise AssertionError("it never gets further")


def told(value: Any) -> Any:
    """The same without what a clock or a dice says."""
    if isinstance(value, dict):
        return {k: told(v) for k, v in value.items() if k not in CLOCKS and not k.startswith("seconds")}
    return [told(v) for v in value] if isinstance(value, list | tuple) else value


def same_however_often(store: Path, make: Callable[[], Task], most: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Checks that a task comes to the same results whether it is killed or not, and leaves nothing; both results."""
    result, counts = lived(make, most)
    assert len(counts) > 2
    assert not unfinished(store)
    whole, at_once = lived(make, 10**9)
    assert told(json.loads(json.dumps(result))) == told(json.loads(json.dumps(whole)))
    assert counts[-1] < at_once[0]  # what was finished was not done again
    return result, whole


def same_tensors(result: dict[str, Any], whole: dict[str, Any]) -> int:
    """Checks that the files of tensors of two runs hold the same bytes; how many there are."""
    folders = [runs.find(r["run"]) for r in (result, whole)]
    names = [sorted(p.name for p in f.glob("*.safetensors")) for f in folders]
    assert names[0] == names[1]
    for name in names[0]:
        a, b = (load_file(f / name) for f in folders)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k].flatten().view(torch.uint8), b[k].flatten().view(torch.uint8)) for k in a), name
    return len(names[0])


# -- each kind of job -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flat",
    [
        {"data": "circles", "data.points": "200", "steps": "10"},
        pytest.param({"data": "digits", "steps": "4", "budget": "calls"}, marks=pytest.mark.long),
    ],
    ids=["points", "images"],
)
def test_methods_with_several_seeds(store, monkeypatch, flat):
    """With a teacher that is trained for them, and with a budget of calls; several mini-batches one after the other."""
    flat = dict(flat)
    monkeypatch.setattr("cake_core.synthesis.IN_FLIGHT_CPU", {"points": 20, "images": 20})
    budget = flat.pop("budget", "samples")
    experiment = Experiment.from_query({**flat, "batches": "4", "samples": "10", "student.updates": "20"})
    if flat["data"] == "circles":
        monkeypatch.setattr("cake_core.teacher.recipe", lambda *_, **more: TrainConfig(updates=60))
    methods = ["cake", "noise"]
    spec = {"experiment": experiment.to_dict(), "methods": methods, "seeds": 2}
    spec |= {"budget": budget, "amount": 3000.0 if budget == "calls" else 0.0}
    result, _ = same_however_often(store, lambda: Compare(**spec), 6)
    assert [(r["method"], r["seed"]) for r in result["rows"]] == [(m, s) for s in (0, 1) for m in methods]
    assert all(r["seconds"]["synthesis"] > 0 for r in result["rows"])


def test_a_method_that_was_refused_stays_refused(store):
    experiment = Experiment.from_query({"batches": "2", "samples": "10", "steps": "4", "student.updates": "20"})
    settings = {"cake": {"steps": 400, "step_size": 10.0, "weight_contrast": 1000.0, "clip": 0.0}}
    spec = {"experiment": experiment.to_dict(), "methods": ["cake", "noise"], "seeds": 2, "settings": settings}
    result, _ = same_however_often(store, lambda: Compare(**spec), 4)
    assert list(result["refused"]) == ["cake"]
    assert len(result["rows"]) == 2
    with pytest.raises(CakeError, match="ran off to infinity"):
        list(Compare(**{**spec, "methods": ["cake"]}))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory) -> dict[str, str]:
    """By data, the id of a finished run in the folder of the tests."""
    made = {}
    for name in ("moons", "digits"):
        flat = {"data": name, "batches": "2", "samples": "60", "steps": "4", "student.updates": "20", "device": "cpu"}
        task = Distill(Experiment.from_query(flat).to_dict())
        list(task)
        made[name] = task.finish()["run"]
    return made


@pytest.mark.parametrize("name", ["moons", pytest.param("digits", marks=pytest.mark.long)])
def test_students_side_by_side(store, monkeypatch, distilled, runs_folder, name):
    """With the teacher's answers for its own data, of which some are known and others not when it is killed."""
    store.mkdir()
    (store / distilled[name]).symlink_to(runs_folder / distilled[name])
    student = {"model": "mlp" if name == "moons" else "lenet5-half", "updates": 30, "batch_size": 20}
    spec = {"run": distilled[name], "student": student, "seeds": 2, "kd": {"temperature": 4.0}}
    result, whole = same_however_often(store, lambda: TrainStudents(**spec), 50)
    assert len(result["rows"]) == 8
    assert same_tensors(result, whole) == 4
    curves = [runs.read(r["run"])["curves"] for r in (result, whole)]
    assert curves[0] == curves[1]
    assert [p["update"] for p in curves[0] if (p["source"], p["seed"]) == ("kd", 1)][-1] == 30


@pytest.mark.parametrize(
    "settings",
    [
        {"data": {"name": "moons"}, "proxies": {"source": "blurred"}, "teacher": ""},
        pytest.param(
            {"data": {"name": "digits"}, "proxies": {"source": "noise"}, "quality": 0.3, "teacher": "digits/lenet5"},
            marks=pytest.mark.long,
        ),
    ],
    ids=["moons", "a worse teacher"],
)
def test_an_attack_with_few_calls(store, monkeypatch, settings):
    """Cut in each phase of its student's training, while its teacher is trained, and between."""
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", -1.0)
    common = {"budget": 6, "rounds": 3, "student": {"updates": 60}, "device": "cpu"}
    config = {**settings, **common, "proxies": {**settings["proxies"], "per_class": 12}}
    result, whole = same_however_often(store, lambda: Steal(config), 20)
    assert result["outcome"]["calls"] == result["usage"]["calls"] == 6 * len(result["usage"]["per_class"])
    assert same_tensors(result, whole) == 1


@pytest.mark.long
def test_proxies_that_a_model_draws(store, monkeypatch):
    """They are drawn some at a time, and what was drawn is not drawn again."""
    monkeypatch.setattr("cake_core.proxies.AT_ONCE", 20)
    drawn = []
    draw = diffusion.Denoising.__init__
    monkeypatch.setattr(
        diffusion.Denoising, "__init__", lambda self, *a, **k: drawn.append(k["seed"]) or draw(self, *a, **k)
    )
    config = {"data": {"name": "digits"}, "budget": 2, "device": "cpu", "student": {"updates": 20}}
    config["proxies"] = {"source": "diffusion", "per_class": 6, "steps": 2}
    result, counts = lived(lambda: Steal(config), 6)
    assert len(counts) > 2
    assert len(drawn) < 3 + len(counts)  # three groups, and those that were cut in the middle
    assert not unfinished(store)
    for kept in store.glob("proxies/*"):
        kept.unlink()
    whole, _ = lived(lambda: Steal(config), 10**9)
    assert told(result) == told(whole)


def test_an_audit_keeps_its_suspect(store):
    """The file that was sent is given up; a line-up's own store holds what is finished, and pieces the rest."""
    network = models.build("mlp", (2,), 2, seed=5)
    weights.write(path := store.parent / "suspect.safetensors", network.state_dict())
    candidates = {"moons/mlp": "one", "moons/mlp-norm": "two"}
    config = {"data": {"name": "moons"}, "nulls": 2, "updates": 40, "device": "cpu"}
    config["probes"] = {"count": 20, "steps": 5}

    def sent() -> dict[str, Any]:
        return {
            "upload": inbox.keep(path.read_bytes()),
            "name": "it.safetensors",
            "model": "mlp",
            "candidates": candidates,
            "config": config,
        }

    spec = sent()
    result, counts = lived(lambda: Audit(**spec), 4)
    assert len(counts) > 2
    assert not unfinished(store)
    with pytest.raises(CakeError, match="not on the server any more"):
        inbox.find(spec["upload"])
    for kept in store.glob("lineups/*"):
        kept.unlink()
    again = sent()
    whole, _ = lived(lambda: Audit(**again), 10**9)
    assert told(result) == told(whole)
    with pytest.raises(CakeError, match="not on the server any more"):
        Audit(**spec)


@pytest.mark.long
def test_a_line_up(store):
    """Its teachers and suspects of every kind, each cut in the middle."""
    config = {"data": {"name": "moons"}, "teachers": 2, "teacher_updates": 40, "updates": 40, "batches": 2, "nulls": 1}
    config |= {"device": "cpu", "probes": {"count": 10, "steps": 4}}
    spec = {"config": config, "kinds": ["cake", "aspkd", "scratch"], "suspects": 4}
    result, counts = lived(lambda: HideStudents(**spec), 25)
    assert len(counts) > 2
    assert not unfinished(store)
    for kept in store.glob("lineups/*"):
        kept.unlink()
    whole, _ = lived(lambda: HideStudents(**spec), 10**9)
    for found in (result, whole):
        del found["teachers"]  # the ids of their runs
    assert told(result) == told(whole)


@pytest.mark.parametrize(("name", "model"), [("moons", "mlp-norm"), ("digits", "lenet5")])
def test_a_teacher(store, monkeypatch, name, model):
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", -1.0)
    spec = {"data_config": {"name": name}, "model": model, "settings": {"updates": "50"}, "seed": 3}
    spec["device"] = "cpu"
    result, whole = same_however_often(store, lambda: TrainTeacher(**spec), 9)
    assert same_tensors(result, whole) == 1


def test_a_teacher_shows_the_curve_of_its_life_before(store, monkeypatch):
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", -1.0)
    monkeypatch.setattr(tasks, "MOST_POINTS", 16)
    spec = {"data_config": {"name": "moons"}, "model": "mlp", "settings": {"updates": "50"}, "seed": 3}
    spec["device"] = "cpu"
    first, shown = TrainTeacher(**spec), []
    for update in first:
        frame = first.frame(update, 0, False)
        shown += [frame] if frame else []
        if len(shown) == 40:
            break
    GRAVE.append(first)
    from cake_core.frames import decode

    second = TrainTeacher(**spec)
    past = [decode(m)[0] for m in second.past()]
    assert 8 <= len(past) <= 16
    before = {h["step"]: h for h in (decode(m)[0] for m in shown)}
    assert all(h["losses"] == before[h["step"]]["losses"] for h in past)
    for key in ("step", "t"):  # a view shows one picture of each time
        assert [h[key] for h in past] == sorted({h[key] for h in past})
    assert past[0]["step"] < 8
    steps = [u.training.update for u in second if u.training]
    assert 38 <= steps[0] <= 40
    assert past[-1]["step"] < steps[0]
    second.close()
    assert TrainTeacher(**spec).past() == []


# -- who may go on, and who has to clean up ---------------------------------------------------------------------------

TEACHER = {"data_config": {"name": "moons"}, "model": "mlp", "settings": {"updates": "30"}, "seed": 0, "device": "cpu"}


def steps_of(task: Task, most: int = 10**9) -> list[int]:
    found: list[int] = []
    for update in task:
        found += [update.training.update] if update.training else []
        if len(found) == most:
            break
    return found


def test_pieces_belong_to_owner_spec_and_code(store, monkeypatch):
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", -1.0)
    with runs.owned_by("one"):
        GRAVE.append(first := TrainTeacher(**TEACHER))
        steps_of(first, 10)
    with runs.owned_by("another"):
        assert steps_of(TrainTeacher(**TEACHER), 1) == [1]
    with runs.owned_by("one"):
        assert steps_of(TrainTeacher(**{**TEACHER, "seed": 1}), 1) == [1]
        with monkeypatch.context() as patched:
            patched.setattr(runs, "code", lambda: {"source": "another version"})
            assert steps_of(TrainTeacher(**TEACHER), 1) == [1]
        assert steps_of(TrainTeacher(**TEACHER), 1) == [10]


def test_what_is_stopped_leaves_nothing_and_what_is_put_away_goes_on(store, monkeypatch):
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", -1.0)
    task = TrainTeacher(**TEACHER)
    steps_of(task, 10)
    task.rest()
    task.close()
    assert unfinished(store)
    task = TrainTeacher(**TEACHER)
    assert steps_of(task, 5)[0] == 10
    task.close()
    assert not unfinished(store)
    assert steps_of(TrainTeacher(**TEACHER), 1) == [1]


def test_old_ones_are_removed(store):
    old, fresh = (Pieces.of("teacher", {"seed": k}) for k in range(2))
    for made in (old, fresh):
        made.put("it", {"number": 1})
    os.utime(old.folder, (0, 0))
    Pieces.of("teacher", {"seed": 2}).put("it", {})
    assert not old.folder.exists()
    assert fresh.get("it") == Piece({"number": 1})


def test_a_damaged_piece_is_made_again(store):
    made = Pieces.of("teacher", {})
    made.put("it", {"a": [1, None, 0.1]}, {"x": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)})
    (path,) = unfinished(store)
    content = path.read_bytes()
    found = made.get("it")
    assert found.values == {"a": [1, None, 0.1]}
    assert torch.equal(found.tensors["x"], torch.arange(6.0).view(2, 3))
    assert found.tensors["n"].shape == ()
    for spoilt in (content[:-5], b"", b"[]", content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]):
        path.write_bytes(spoilt)
        assert made.get("it") is None
    assert made.get("another") is None


def test_nowhere_keeps_nothing():
    NOWHERE.put("it", {"a": 1})
    NOWHERE.within("part").end()
    NOWHERE.end()
    assert NOWHERE.get("it") is NOWHERE.halfway("it") is NOWHERE.file("it") is None


def test_joined_pieces_come_apart():
    parts = {"a": Piece({"n": 1}, {"x/y": torch.ones(2)}), "b": Piece({"n": 2})}
    whole = joined(parts, {"more": True})
    assert whole.values["more"]
    assert whole.part("a").tensors["x/y"].sum() == 2
    assert whole.part("b") == parts["b"]


# -- trainings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("mlp-norm", {}),
        ("lenet5-half", {"shift": 1, "optimizer": "sgd"}),
        pytest.param("resnet4-half", {"crop": 2, "flip": True}, marks=pytest.mark.long),
    ],
)
def test_a_training_that_is_cut_gives_the_same_weights(tmp_path, monkeypatch, model, settings):
    """In the middle of an epoch and at its end, with the state of two optimisers, of layers and of random numbers."""
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", -1.0)
    digits = data.load(data.DataConfig(name="digits"))
    x, y = digits.train_x[:280], digits.train_y[:280]  # 18 batches make an epoch
    config = TrainConfig.from_dict({"updates": 40, "batch_size": 16, **settings})

    def training(halfway: Halfway | None) -> tuple[torch.nn.Module, Training]:
        network = models.build(model, digits.info.shape, 10, seed=1)
        return network, train(network, x, y, config, seed=2, inputs=digits.inputs, halfway=halfway)

    whole, steps = training(None)
    losses = [s.loss for s in steps]
    for stop in (1, 7, 18, 40):
        place = Pieces(tmp_path / str(stop))
        _, steps = training(place.halfway("it"))
        next(s for s in steps if s.update == stop)
        steps.store()
        GRAVE.append(steps)
        network, steps = training(place.halfway("it"))
        again = [(s.update, s.loss) for s in steps]
        assert again == list(enumerate(losses, start=1))[stop - 1 :]
        assert all(map(torch.equal, network.state_dict().values(), whole.state_dict().values()))
        assert not network.training
