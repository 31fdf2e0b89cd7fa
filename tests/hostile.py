"""Input that somebody might bring to do harm or by mistake, and how it is fed to what reads it.

Each case is refused with a sentence, or taken where it is harmless; anything else is a fault. Shared by test_hostile.py
and benchmarks/hostile.py.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import math
import os
import pickle
import random
import stat
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save

from cake_core import (
    black_box,
    export,
    film,
    formats,
    imports,
    journal,
    keeping,
    lessons,
    models,
    onnx_network,
    run_figures,
    runs,
    service,
    studies,
    weights,
)
from cake_core import links as addresses
from cake_core.data import arrays, drawing, folders, tables
from cake_core.data.folders import ImageReading
from cake_core.errors import CakeError
from cake_core.few_call import FewCallConfig
from cake_core.frames import encode
from cake_core.history import History
from cake_core.jobs import Job
from cake_core.lineup import LineUpConfig
from cake_core.pipeline import Distillation, Experiment, resolve_teacher
from cake_core.tasks import find

from .waiting import apart

__all__ = ["READERS", "Case", "Outcome", "cases", "feed", "good"]

SHAPE = (1, 8, 8)


@dataclass(frozen=True)
class Case:
    """Something to feed.

    Attributes:
        surface: what reads it.
        name: what is wrong with it.
        content: bytes, text or a mapping.
        file: what it is called, where it is a file.
        harmless: whether it may also be taken.
    """

    surface: str
    name: str
    content: Any
    file: str = ""
    harmless: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a case: "refused", "taken", or "broke" with the exception; and the seconds it took."""

    what: str
    said: str
    seconds: float


def feed(case: Case) -> Outcome:
    """Gives a case to what reads it."""
    start = time.perf_counter()
    try:
        said = READERS[case.surface](case)
        what = "refused" if said else "taken"
    except CakeError as error:
        what, said = "refused", str(error)
    except Exception as error:  # a fault, which the caller counts
        what, said = "broke", f"{type(error).__name__}: {error}"
    return Outcome(what, said or "", time.perf_counter() - start)


def cases() -> Iterator[Case]:
    """All of them, always the same."""
    for make in (safetensors_files, pickles, onnx_files, zips, csvs, npzs, links, messages, pictures, lesson_files,
                 drawings, requests, answers, damaged_runs):  # fmt: skip
        yield from make()


def good(surface: str) -> Case:
    """What a reader takes."""
    w = numpy_helper.from_array(np.ones((64, 10), np.float32), "w")
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8), np.uint8)
    arrays_file = io.BytesIO()
    np.savez(arrays_file, images=images, labels=np.arange(20) % 2)
    content: dict[str, tuple[Any, str]] = {
        "teacher": (
            _onnx([helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["z"])], [w]),
            "net.onnx",
        ),
        "zip": (_zipped({f"{c}/{i}.png": _png(13 * i + k) for k, c in enumerate("ab") for i in range(12)}), "set.zip"),
        "table": ("\n".join(f"{math.cos(i)},{math.sin(i)},{'ab'[i % 2]}" for i in range(40)).encode(), "points.csv"),
        "arrays": (arrays_file.getvalue(), "train.npz"),
        "link": ({"data": "moons", "method": "lake", "steps": "12"}, ""),
        "message": ('{"op": "play"}', ""),
        "picture": (_png(7), "one.png"),
        "lesson": (LESSON.encode(), "01-lesson.md"),
        "drawing": (json.dumps([[math.cos(i), math.sin(i), i % 2] for i in range(45)]), ""),
        "run": ({name: run_files()[name] for name in ("run.json", "history.safetensors")}, ""),
        "request": ({"head": {}, "body": json.dumps({"inputs": [[0.1, 0.2]], "meant": [1]}).encode()}, ""),
        "answer": ({"head": TEACHER, "body": json.dumps({"answers": [[0.5, 0.5]] * 3}).encode()}, ""),
    }
    return Case(surface, "good", *content[surface])


# -- what reads them ----------------------------------------------------------------------------------------------


def _teacher(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(case.content)
        if formats.recognise(path, case.file) == "safetensors":
            weights.read(path, "resnet4", SHAPE, 10, case.file)
        else:
            network = onnx_network.convert(path, SHAPE, case.file)
            onnx_network.check(network, SHAPE, 10, case.file)


def _zip(case: Case) -> None:
    for _ in ImageReading(case.content):
        pass


def _table(case: Case) -> None:
    tables.read(case.content)


def _arrays(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for part in arrays.PARTS:
            (Path(folder) / f"{part}.npz").write_bytes(case.content)
        arrays.describe(Path(folder))
        for part in arrays.PARTS:
            arrays.read(Path(folder), part)


def _link(case: Case) -> None:
    flat = addresses.read(case.content).flat
    for config in (FewCallConfig, LineUpConfig):  # whose pages read the address too
        with contextlib.suppress(CakeError):
            config.from_query(flat)
    resolve_teacher(Experiment.from_query(flat))


class _Stub:
    """A job that nothing reaches but what a viewer may ask for; it can be called as a real one can."""

    state = "running"

    def __init__(self):
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> None:
            self.asked.append(name)
            inspect.signature(getattr(Job, name)).bind(self, *args, **kwargs)
            if name == "set":  # what becomes of it in the compute process
                with contextlib.suppress(CakeError):
                    Distillation(Experiment()).edit(**json.loads(json.dumps(kwargs)))

        return call


def _message(case: Case) -> str:
    from pages._ui.routes import Client

    client = Client(None, _Stub(), None)
    client.obey(case.content)
    allowed = {"play", "pause", "step", "stop", "reset", "set", "pace", "look"}
    if not set(client.job.asked) <= allowed:
        raise AssertionError(f"a viewer reached {client.job.asked}")
    return " ".join(str(w) for w in client.words)


def _picture(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(case.content)
        for shape in (SHAPE, (3, 8, 8)):
            with contextlib.suppress(CakeError):  # it takes fewer kinds than the other reader
                imports.example(path, None, shape)
    folders._Shelf(folders.Conversion(), 1, folders.Bounds()).put(0, "a/picture", case.content)


def _lesson(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "01-lesson.md"
        path.write_bytes(case.content)
        for step in lessons.read(path).steps:
            lessons.written(step.text, {})
            for goal in step.goals:
                goal.met({}), goal.standing({"near_boundary": 0.1})


def _drawing(case: Case) -> None:
    drawing.read(json.loads(case.content))


RUN = "20260101-120000-0123456789abcdef"


@functools.cache
def run_files() -> dict[str, bytes]:
    """The files of a small finished run, as the engine writes them."""
    settings = {"data": "moons", "method": "naive", "batches": "1", "samples": "10", "steps": "3"}
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, CAKE_RUNS_DIR=folder):
        task = find("distill")(experiment=Experiment.from_query({**settings, "student.updates": "5"}).to_dict())
        for update in task:
            task.frame(update, 0, update.progress >= 1)
        made = runs.find(task.finish()["run"])
        return {path.name: path.read_bytes() for path in sorted(made.iterdir()) if path.is_file()}


def _run(case: Case) -> str:
    """All that pages read of a run. What refuses one must not hide the others: lists may not even raise a sentence."""
    said: list[str] = []

    def try_(read: Callable[[], Any]) -> None:
        try:
            read()
        except CakeError as error:
            said.append(str(error))

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, CAKE_RUNS_DIR=folder):
        place = Path(folder) / RUN
        place.mkdir()
        for name, content in {**run_files(), **case.content}.items():
            if content is not None:
                (place.parent if name == "index.json" else place).joinpath(name).write_bytes(content)
        if set(case.content) == {"frames.bin"}:
            try_(functools.partial(_frames, RUN))
            return "" if not said else said[0]
        os.utime(place, (1e9, 1e9))  # so that what the index says of it counts
        try:
            found = runs.entries()
            runs.shared(RUN), runs.belongs_to(RUN, "somebody"), runs.stored_bytes("somebody")
            studies.like(mock.Mock(digest=lambda: "0"))
            _listed(found)
        except CakeError as error:
            raise AssertionError(f"one run hides all others: {error}") from error
        reads = [runs.entry, runs.begun, runs.events, runs.edits, runs.metrics, _curves, studies.preferences,
                 journal.resumable]  # fmt: skip
        reads += [studies.config_of] if "study.json" in case.content else []
        reads += [runs.read, runs.check, _stored] if (place / "run.json").exists() else [keeping.Kept.read]
        for read in reads:
            try_(functools.partial(read, RUN))
        try_(lambda: History.load(place))
        if any(name.endswith(".safetensors") or name in ("run.json", "teacher.json") for name in case.content):
            try_(lambda: Distillation.restore(RUN))
    return "" if not said else said[0]


def _listed(found: list[runs.Entry]) -> None:
    """What the page Runs makes of its list."""
    from pages._ui import run_panels

    for sort in run_panels.SORTS:
        run_panels.fitting(found, "moons", "all", False, sort)
    for e in found:
        run_panels.title_of(e), time.localtime(e.created), run_panels._percent(e.accuracy), e.bytes / 1e6


def _curves(run: str) -> None:
    run_figures.curves({"a": runs.metrics(run)["curves"]})


def _stored(run: str) -> None:
    stored = export.Stored(run)
    stored.title, stored.edits, stored.threads, stored.in_flight, stored.flat, stored.curves, export._core(stored)


def _frames(run: str) -> None:
    messages = keeping.read_frames(runs.find(run) / "frames.bin")
    for message in messages[1:]:
        lessons.frame_facts(message)
    film.strip(messages[0] if messages else None, messages[1:])


@functools.cache
def _service() -> Any:
    teacher = black_box.LocalBlackBox(models.build("mlp", (2,), 2, seed=1).eval(), (2,), "ab", budget=10**9)
    return service.application(teacher)


def _request(case: Case) -> str:
    """A request to a teacher that is served over HTTP."""
    head, sent = case.content["head"], []
    names = ("content-type", "accept", "x-meant", "idempotency-key", "authorization")
    headers = [(k.encode(), str(head[k]).encode("latin-1", "replace")) for k in names if k in head]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/answers", "raw_path": b"",
             "query_string": b"", "root_path": "", "scheme": "http", "headers": headers, "client": ("127.0.0.1", 1),
             "server": ("127.0.0.1", 1)}  # fmt: skip
    body = iter([{"type": "http.request", "body": case.content["body"], "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(body, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    apart(_service()(scope, receive, send))  # browser tests leave a loop running in this thread
    content = b"".join(m.get("body", b"") for m in sent)
    if sent[0]["status"] >= 500:
        raise AssertionError(f"status {sent[0]['status']}: {content[:100]}")
    return json.loads(content)["error"] if sent[0]["status"] >= 400 else ""


def _answer(case: Case) -> None:
    """What somebody else's server answers."""
    head, waited = case.content["head"], []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/answers":
            headers = {"retry-after": str(head.get("wait", "")).encode("latin-1", "replace")}
            return httpx.Response(_status(head), headers=headers, content=case.content["body"])
        return httpx.Response(200, content=json.dumps(head.get(request.url.path.rpartition("/")[2])).encode())

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if sum(waited) > 600:
            raise AssertionError(f"waits {sum(waited):,.0f} s because the other says so")

    client = functools.partial(httpx.Client, transport=httpx.MockTransport(answer))
    with mock.patch.object(black_box.httpx, "Client", client), mock.patch.object(black_box.time, "sleep", sleep):
        remote = black_box.RemoteBlackBox("http://elsewhere", form=head.get("form", "json"))
        answers = remote.ask(torch.zeros(3, *remote.shape))
        if answers.shape != (3, len(remote.classes)) or not answers.isfinite().all():
            raise AssertionError(f"answers {tuple(answers.shape)} for 3 inputs and {len(remote.classes)} classes")
        remote.usage().to_dict()


def _status(head: Mapping[str, Any]) -> int:
    return head["status"] if head.get("status") in range(200, 600) else 200


READERS: dict[str, Callable[[Case], str | None]] = {
    "teacher": _teacher,
    "zip": _zip,
    "table": _table,
    "arrays": _arrays,
    "link": _link,
    "message": _message,
    "picture": _picture,
    "lesson": _lesson,
    "drawing": _drawing,
    "run": _run,
    "request": _request,
    "answer": _answer,
}


# -- weights ------------------------------------------------------------------------------------------------------


def _raw(header: Any, payload: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


def _entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def safetensors_files() -> Iterator[Case]:
    """Headers that lie, tensors that do not fit, files that were cut or changed."""
    state = models.build("resnet4", SHAPE, 10, seed=1).state_dict()
    good = save(state)

    def case(name: str, content: bytes, harmless: bool = False) -> Case:
        return Case("teacher", f"safetensors: {name}", content, "net.safetensors", harmless)

    for name, header, payload in [
        ("header is a list", [], b""),
        ("header is a number", b"{" + b"1", b""),
        ("header is empty", {}, b""),
        ("only metadata", {"__metadata__": {"a": "b"}}, b""),
        ("entry is a list", {"w": []}, b""),
        ("no offsets", {"w": {"dtype": "F32", "shape": [2]}}, b"\0" * 8),
        ("negative shape", _entry(shape=(-2,)), b"\0" * 8),
        ("negative offsets", _entry(offsets=(-8, 0)), b"\0" * 8),
        ("offsets backwards", _entry(offsets=(8, 0)), b"\0" * 8),
        ("offsets beyond the end", _entry(shape=(2000,), offsets=(0, 8000)), b"\0" * 8),
        ("a quadrillion values", _entry(shape=(10**15,), offsets=(0, 4 * 10**15)), b"\0" * 8),
        ("a shape that overflows", _entry(shape=(2**32, 2**32), offsets=(0, 8)), b"\0" * 8),
        ("a shape of fractions", _entry(shape=(1.5,)), b"\0" * 8),
        ("a shape of truth values", _entry(shape=(True, 2)), b"\0" * 8),
        ("a hundred dimensions", _entry(shape=[1] * 100 + [2]), b"\0" * 8),
        ("unknown type", _entry(dtype="PICKLE"), b"\0" * 8),
        ("type is a number", _entry(dtype=7), b"\0" * 8),
        ("offsets are text", _entry(offsets=("0", "8")), b"\0" * 8),
        ("not a number as a shape", b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', b"\0" * 8),
        ("tensors overlap", {**_entry(), "v": _entry()["w"]}, b"\0" * 8),
        ("a gap", {**_entry(), "v": _entry(offsets=(16, 24))["w"]}, b"\0" * 24),
        ("bytes left over", _entry(), b"\0" * 80),
        ("a name twice", b'{"w":' + json.dumps(_entry()["w"]).encode() + b',"w":1}', b"\0" * 8),
        ("no JSON", b"{" + b"\xff" * 50, b""),
        ("nested a hundred thousand deep", b"{" + b'"a":{' * 100_000, b""),
        ("names of control characters", {"\x1b[2J\u202e": _entry()["w"]}, b"\0" * 8),
        ("a name of a megabyte", {"w" * 2**20: _entry()["w"]}, b"\0" * 8),
        ("names that format text", {"`<script>alert(1)</script>`": _entry()["w"]}, b"\0" * 8),
    ]:
        yield case(name, _raw(header, payload))
    for name, length in [("0", 0), ("2^63", 2**63), ("2^64 - 1", 2**64 - 1), ("a gigabyte", 2**30), ("one less", None)]:
        text = json.dumps(_entry()).encode()
        yield case(f"header's length {name}", _raw(text, b"\0" * 8, len(text) - 1 if length is None else length))
    for share in (0, 1, 4, 8, 9, 100, len(good) // 2, len(good) - 1):
        yield case(f"cut after {share:,} bytes", good[:share])
    for fill in (math.nan, math.inf, -math.inf):
        broken = {k: torch.full_like(v, fill) if v.is_floating_point() else v for k, v in state.items()}
        yield case(f"all weights {fill}", save(broken))
    yield case("weights beyond float32", save({k: v.double() * 1e300 for k, v in state.items() if v.dim() > 1}))
    yield case("another network's", save(models.build("lenet5", SHAPE, 10).state_dict()))
    yield case("of other classes", save(models.build("resnet4", SHAPE, 7).state_dict()))
    yield case("whole numbers for weights", save({k: v.to(torch.int64) for k, v in state.items()}))
    yield case("transposed", save({k: v.mT.contiguous() if v.dim() == 2 else v for k, v in state.items()}))
    draws = random.Random(1)
    head = 8 + int.from_bytes(good[:8], "little")
    for n in range(24):
        place, mask = draws.randrange(head), draws.randrange(1, 256)
        changed = bytearray(good)
        changed[place] ^= mask
        # A changed name or a changed order of offsets can't go unnoticed; white space in the header's padding may.
        yield case(f"byte {place} of the header changed by {mask} ({n})", bytes(changed), harmless=True)


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was opened')",))


def pickles() -> Iterator[Case]:
    """Pickles under every name, and other files that are no weights."""
    saved = io.BytesIO()
    torch.save({"w": torch.zeros(3), "bomb": _Bomb()}, saved)
    old = io.BytesIO()
    torch.save({"w": torch.zeros(3), "bomb": _Bomb()}, old, _use_new_zipfile_serialization=False)
    archive = io.BytesIO()
    np.savez(archive, w=np.zeros(3))
    contents = {
        "torch.save": saved.getvalue(),
        "torch.save before 1.6": old.getvalue(),
        **{f"pickle protocol {p}": pickle.dumps({"bomb": _Bomb()}, p) for p in range(6)},
        "numpy.savez": archive.getvalue(),
    }
    for name, content in contents.items():
        for file in ("net.pt", "net.safetensors", "net.onnx", "net.bin"):
            yield Case("teacher", f"{name} as {file}", content, file)
    polyglot = _raw(_entry(), b"\0" * 8)
    yield Case("teacher", "safetensors with a pickle behind it", polyglot + pickle.dumps(_Bomb()), "net.safetensors")
    yield Case("teacher", "safetensors with a zip behind it", polyglot + saved.getvalue(), "net.safetensors")
    for name, content in [
        ("empty", b""), ("zeros", b"\0" * 1000), ("a web page", b"<!doctype html><script>alert(1)</script>"),
        ("a program", b"\x7fELF" + b"\0" * 100), ("a shell script", b"#!/bin/sh\nrm -rf /\n"),
        ("gzip", b"\x1f\x8b\x08" + b"\0" * 50), ("HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 50), ("text", b"hello " * 50),
    ]:  # fmt: skip
        for file in ("net.safetensors", "net.onnx", "../../etc/net.safetensors"):
            yield Case("teacher", f"{name} as {file}", content, file)


def _onnx(nodes: list, weights: list = (), output=("z",), inputs=(("x", ["N", *SHAPE]),)) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 10]) for name in output]
    graph = helper.make_graph(nodes, "g", values, outputs, list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def onnx_files() -> Iterator[Case]:
    """Graphs that are damaged, reach outside of the file, take all memory, or are no classifier."""
    flat = helper.make_node("Flatten", ["x"], ["f"])
    w = numpy_helper.from_array(np.ones((64, 10), np.float32), "w")
    good = _onnx([flat, helper.make_node("MatMul", ["f", "w"], ["z"])], [w])

    def case(name: str, content: bytes, harmless: bool = False) -> Case:
        return Case("teacher", f"ONNX: {name}", content, "net.onnx", harmless)

    for share in (1, 10, len(good) // 2, len(good) - 1):
        yield case(f"cut after {share} bytes", good[:share], harmless=share == len(good) - 1)
    outside = onnx.load_from_string(good)
    outside.graph.initializer[0].ClearField("raw_data")
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    for place in ("weights.bin", "/etc/passwd", "../../../etc/passwd"):
        del outside.graph.initializer[0].external_data[:]
        outside.graph.initializer[0].external_data.add(key="location", value=place)
        yield case(f"weights in {place}", outside.SerializeToString())
    lying = onnx.load_from_string(good)
    lying.graph.initializer[0].dims[:] = [10**9, 10**9]
    yield case("a tensor of 10^18 values with a few bytes", lying.SerializeToString())
    negative = onnx.load_from_string(good)
    negative.graph.initializer[0].dims[:] = [-64, 10]
    yield case("negative dimensions", negative.SerializeToString())
    for name, op, domain in [
        ("an unknown operator", "Explode", ""), ("a foreign domain", "Gelu", "com.microsoft"),
        ("a Python operator", "PythonOp", "ai.onnx.contrib"), ("a random operator", "RandomNormalLike", ""),
    ]:  # fmt: skip
        node = helper.make_node(op, ["f"], ["g"], domain=domain)
        yield case(name, _onnx([flat, node, helper.make_node("MatMul", ["g", "w"], ["z"])], [w]))
    huge = numpy_helper.from_array(np.array([10**6, 10**6], np.int64), "size")
    yield case(
        "a constant of 10^12 values",
        _onnx([helper.make_node("ConstantOfShape", ["size"], ["c"]), flat,
               helper.make_node("MatMul", ["f", "w"], ["m"]),
               helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0), helper.make_node("Add", ["m", "s"], ["z"])],
              [w, huge]),
    )  # fmt: skip
    repeats = numpy_helper.from_array(np.array([1, 10**9], np.int64), "times")
    yield case(
        "an input tiled a billion times",
        _onnx([flat, helper.make_node("Tile", ["f", "times"], ["t"]), helper.make_node("ReduceSum", ["t"], ["z"])],
              [repeats]),
    )  # fmt: skip
    yield case("no nodes", _onnx([], output=("x",)))
    yield case(
        "two inputs",
        _onnx([flat, helper.make_node("Add", ["f", "y"], ["z"])], inputs=(("x", ["N", *SHAPE]), ("y", ["N", 64]))),
    )
    yield case("another input size", _onnx([flat], output=("f",), inputs=(("x", ["N", 3, 32, 32]),)))
    yield case("too many outputs", _onnx([flat], output=("f",)))
    nan = numpy_helper.from_array(np.full((64, 10), np.nan, np.float32), "w")
    yield case("weights that are no numbers", _onnx([flat, helper.make_node("MatMul", ["f", "w"], ["z"])], [nan]))
    yield case(
        "no gradient",
        _onnx([flat, helper.make_node("MatMul", ["f", "w"], ["m"]), helper.make_node("Sign", ["m"], ["z"])], [w]),
    )
    # Found by fuzzing: each ended in another error than a sentence.
    for name, to in (("whole numbers", TensorProto.INT64), ("truth values", TensorProto.BOOL)):
        cast = helper.make_node("Cast", ["m"], ["z"], to=to)
        yield case(f"answers that are {name}", _onnx([flat, helper.make_node("MatMul", ["f", "w"], ["m"]), cast], [w]))
    yield case("a name that is no UTF-8", good.replace(b"MatMul", b"Mat\x80ul"))
    far = helper.make_node("Gather", ["f", "one"], ["g"], axis=2**62)
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    yield case("an axis of 2^62", _onnx([flat, far, helper.make_node("MatMul", ["g", "w"], ["z"])], [w, one]))
    words = helper.make_tensor("words", TensorProto.STRING, [1], [b"a" * 60])
    slow = helper.make_node("RegexFullMatch", ["words"], ["r"], pattern="(a+)+b")
    more = [helper.make_node("Cast", ["r"], ["c"], to=1), helper.make_node("Add", ["m", "c"], ["z"])]
    graph = onnx.load_from_string(_onnx([slow, flat, helper.make_node("MatMul", ["f", "w"], ["m"]), *more], [w, words]))
    graph.opset_import[0].version = 20
    yield case("a regular expression that takes years", graph.SerializeToString())
    functions = onnx.load_from_string(good)
    functions.functions.add(name="F", domain="own", input=["a"], output=["b"])
    functions.functions[0].opset_import.add(domain="own", version=1)
    functions.functions[0].node.add(op_type="F", domain="own", input=["a"], output=["b"])
    functions.opset_import.add(domain="own", version=1)
    functions.graph.node[0].CopyFrom(helper.make_node("F", ["x"], ["f"], domain="own"))
    yield case("a function that calls itself", functions.SerializeToString())
    functions.functions[0].node[0].CopyFrom(helper.make_node("Flatten", ["a"], ["b"]))
    functions.graph.node[0].input.append("w")
    yield case("a function that is given too much", functions.SerializeToString())
    cycle = onnx.load_from_string(good)
    cycle.graph.node[0].input[0] = "z"
    yield case("a graph that runs in a circle", cycle.SerializeToString())
    draws = random.Random(2)
    for n in range(16):
        changed = bytearray(good)
        place = draws.randrange(min(len(changed), 200))
        changed[place] ^= 1 << draws.randrange(8)
        yield case(f"byte {place} changed ({n})", bytes(changed), harmless=True)


# -- data ---------------------------------------------------------------------------------------------------------


def _png(value: int, size: tuple[int, int] = (16, 16)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, value % 256).save(out, "PNG")
    return out.getvalue()


def _zipped(files: Mapping[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def zips() -> Iterator[Case]:
    """Archives that unpack to more than they say, outside of their folder, or to something else."""
    images = {f"{c}/{i}.png": _png(13 * i + k) for k, c in enumerate("ab") for i in range(12)}
    good = _zipped(images)

    def case(name: str, content: bytes, harmless: bool = False) -> Case:
        return Case("zip", f"zip: {name}", content, "set.zip", harmless)

    for path in ("../../a/x.png", "/etc/x.png", "a/../../x.png", "C:\\a\\x.png", "a\\..\\x.png", "..\\x.png"):
        yield case(f"a path {path}", _zipped({**images, path: _png(1)}))
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    yield case("a symbolic link", _zipped({**images, link: b"/etc/passwd"}))
    device = zipfile.ZipInfo("a/device.png")
    device.external_attr = (stat.S_IFCHR | 0o777) << 16
    yield case("a device", _zipped({**images, device: b""}))
    yield case("a bomb of zeros", _zipped({**images, "a/zeros.png": b"\0" * 200_000_000}))
    yield case("ten thousand small bombs", _zipped({f"a/{i}.png": b"\0" * 30_000 for i in range(10_000)}))
    yield case("an archive inside", _zipped({**images, "a/more.zip": good}))
    yield case("a million names", _zipped({f"a/{i}.png": b"" for i in range(120_000)}, zipfile.ZIP_STORED))
    yield case("control characters in a name", _zipped({**images, "a/\x1b[2J.png": _png(1)}))
    yield case("text that turns around in a name", _zipped({**images, "a/\u202egnp.exe": _png(1)}))
    nameless = bytearray(good)  # found by fuzzing
    first = nameless.find(b"PK\1\2")
    nameless[first + 28 : first + 34] = bytes(2) + bytes((len("a/0.png"), 0)) + bytes(2)  # its name counts as an extra
    yield case("a member without a name", bytes(nameless))
    yield case("one class only", _zipped({f"a/{i}.png": _png(i) for i in range(20)}))
    yield case("no folders", _zipped({f"{i}.png": _png(i) for i in range(20)}))
    yield case("nothing in it", _zipped({}))
    yield case("no images", _zipped({f"{c}/{i}.txt": b"hello" for c in "ab" for i in range(20)}))
    yield case("an image of a gigapixel", _zipped({**images, "a/huge.png": _header_of(40_000, 40_000)}))
    yield case("an image of no pixels", _zipped({**images, "a/none.png": _header_of(0, 0)}))
    yield case("a web page as an image", _zipped({**images, "a/page.png": b"<html><script>alert(1)</script>"}))
    svg = b'<svg><image href="file:///etc/passwd"/></svg>'
    yield case("an SVG that reads a file", _zipped({**images, "a/x.svg": svg}), harmless=True)  # passed over
    yield case("an image with a zip behind it", _zipped({**images, "a/poly.png": _png(3) + good}))
    yield case("half an image", _zipped({**images, "a/half.png": _png(3)[:40]}))
    yield case("rare packing", _zipped(images, zipfile.ZIP_LZMA))
    yield case("a pickle", pickle.dumps(_Bomb()))
    yield case("a picture before it", _png(0) + good)
    for share in (4, 30, len(good) // 2, len(good) - 10):
        yield case(f"cut after {share} bytes", good[:share])
    draws = random.Random(3)
    for n in range(16):
        changed = bytearray(good)
        place = draws.randrange(len(changed))
        changed[place] ^= 1 << draws.randrange(8)
        yield case(f"byte {place} changed ({n})", bytes(changed), harmless=True)


def _header_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size) + _chunk(b"IDAT", zlib.compress(b"\0")) + _chunk(b"IEND", b"")


def csvs() -> Iterator[Case]:
    """Tables with formulas, giant rows, odd encodings and no points."""
    rows = [f"{math.cos(i)},{math.sin(i)},{'ab'[i % 2]}" for i in range(40)]
    good = "x,y,label\n" + "\n".join(rows)

    def case(name: str, text: str | bytes, harmless: bool = False) -> Case:
        content = text.encode() if isinstance(text, str) else text
        return Case("table", f"CSV: {name}", content, "points.csv", harmless)

    for formula in ('=cmd|"/c calc"!A0', "=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(1)"):
        yield case(f"a formula as a coordinate: {formula}", good + f"\n{formula},1,a")
        label = formula.replace('"', "")
        yield case(f"a formula as a label: {label}", good + f"\n1,1,{label}" * 6)
    yield case("a row of a megabyte", good + "\n" + "1" * 2**20)
    yield case("a million columns", good + "\n" + "1," * 2**20)
    yield case("a million rows", good + "\n1,1,a" * 10**6)
    yield case("six megabytes", b"x" * 6_000_000)
    yield case("nan", good + "\nnan,1,a")
    yield case("infinity", good + "\ninf,1,a")
    yield case("beyond float32", good + "\n1e300,1,a")
    yield case("10^999", good + "\n1e999,1,a")
    yield case("a number of a hundred digits", good + "\n" + "9" * 100 + ",1,a")
    yield case("no label", good + "\n1,1,")
    yield case("two columns", "1,2\n" * 40)
    yield case("one class", "1,2,a\n2,3,a\n" * 20)
    yield case("a thousand classes", "\n".join(f"{i},{i},{i}" for i in range(1000)))
    yield case("nothing", "")
    yield case("white space", " \n\t\n" * 20)
    yield case("zeros", b"\0" * 1000)
    yield case("UTF-16 without its mark", good.encode("utf-16-le"))
    yield case("UTF-16 with its mark", good.encode("utf-16"), harmless=True)
    yield case("half of a UTF-16 character", good.encode("utf-16")[:-1])
    yield case("UTF-32", good.encode("utf-32"))
    yield case("a pickle", pickle.dumps(_Bomb()))
    yield case("a zip file", _zipped({"a": b"b"}))
    yield case("a quotation mark that never ends", good + '\n"1,1,a')
    yield case("all points the same", "1,2,a\n1,2,b\n" * 20)
    yield case("text that turns around in a label", good + "\n1,1,\u202egnirts" * 6, harmless=True)
    yield case("a script as a label", good + "\n1,1,<script>alert(1)</script>" * 6, harmless=True)


def npzs() -> Iterator[Case]:
    """Arrays with pickled objects, wrong shapes, and headers that promise too much."""

    def case(name: str, harmless: bool = False, **members: np.ndarray) -> Case:
        out = io.BytesIO()
        np.savez_compressed(out, **members)
        return Case("arrays", f"npz: {name}", out.getvalue(), "train.npz", harmless)

    x, y = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    yield case("objects", images=np.array([_Bomb()] * 20, object), labels=y)
    yield case("labels that are objects", images=x, labels=np.array([_Bomb()] * 20, object))
    yield case("no labels", images=x)
    yield case("fractions for pixels", images=x.astype(np.float32), labels=y)
    yield case("fewer labels than images", images=x, labels=y[:-1])
    yield case("negative labels", images=x, labels=y - 1)
    yield case("labels that are fractions", images=x, labels=y + 0.5)
    yield case("labels of 2^40", images=x, labels=y + 2**40)
    yield case("one class", images=x, labels=0 * y)
    yield case("five channels", images=np.zeros((20, 8, 8, 5), np.uint8), labels=y)
    yield case("no pixels", images=np.zeros((20, 0, 8), np.uint8), labels=y)
    yield case("no images", images=x[:0], labels=y[:0])
    yield case("complex numbers for labels", images=x, labels=y + 1j)
    yield case("dates for labels", images=x, labels=y.astype("M8[s]"))
    labels = io.BytesIO()
    np.save(labels, y)
    for name, text in [
        (
            "that promises more than there is",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 32, 32, 3), }",
        ),
        ("with a bracket that never closes", "{'descr': '|u1', 'fortran_order': False, 'shape': (20, 8, 8, }"),
        (
            "nested five hundred deep",
            "{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 500 + ")" * 500 + ", }",
        ),
        ("with a shape of truth values", "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 8, 8), }"),
        ("with a negative shape", "{'descr': '|u1', 'fortran_order': False, 'shape': (-20, 8, -8), }"),
        ("with a type inside of a type", "{'descr': ('|u1', (8, 8)), 'fortran_order': False, 'shape': (20,), }"),
    ]:
        content = _zipped({"images.npy": _npy(text, x.tobytes()), "labels.npy": labels.getvalue()})
        yield Case("arrays", f"npz: a header {name}", content, "train.npz")
    stored = {f"{k}.npy": black_box.packed(v) for k, v in (("images", x), ("labels", y))}
    yield Case("arrays", "npz: rarely packed", _zipped(stored, zipfile.ZIP_LZMA), "train.npz")
    twice = io.BytesIO()  # found by fuzzing: one of them was checked, and the other one was read
    with zipfile.ZipFile(twice, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("images.npy", "images.npy", "labels.npy"):
            archive.writestr(name, stored[name])
    yield Case("arrays", "npz: the same name twice", twice.getvalue(), "train.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 32, 32, 3)})
    yield Case("arrays", "npz: a header of three terabytes", _zipped({"images.npy": header.getvalue()}), "train.npz")
    yield Case("arrays", "npz: a member outside of it", _zipped({"../images.npy": b"\x93NUMPY"}), "train.npz")
    yield Case("arrays", "npz: a pickle", pickle.dumps(_Bomb()), "train.npz")
    yield Case("arrays", "npz: empty", b"", "train.npz")


# -- links and messages -------------------------------------------------------------------------------------------


def links() -> Iterator[Case]:
    """Addresses that are old, cut, oversized, out of bounds, or say nothing that is known."""
    for name, flat in [
        ("unknown key", {"frobnicate": "1"}),
        ("unknown method", {"method": "magic"}),
        ("unknown data", {"data": "cats"}),
        ("a path as data", {"data": "../../etc/passwd"}),
        ("data of somebody else", {"data": "own-0000000000000000"}),
        ("a null byte in data", {"data": "moons\0"}),
        ("a path as a teacher", {"teacher": "run:../../../etc/passwd"}),
        ("unknown device", {"device": "tpu"}),
        ("unknown precision", {"precision": "int1"}),
        ("unknown student", {"student": "gpt"}),
        ("a student for images", {"student": "lenet5"}),
        ("negative steps", {"steps": "-1"}),
        ("no steps", {"steps": ""}),
        ("too many steps", {"steps": "99999999999"}),
        ("steps that are text", {"steps": "many"}),
        ("steps that are a fraction", {"steps": "1.5"}),
        ("a weight that is no number", {"weight_contrast": "nan"}),
        ("an infinite weight", {"weight_contrast": "inf"}),
        ("10^400", {"weight_contrast": "1e400"}),
        ("a seed of a hundred digits", {"seed": "9" * 100}),
        ("a negative seed", {"seed": "-5"}),
        ("a megabyte of digits", {"seed": "1" * 2**20}),
        ("a million samples in a million mini-batches", {"samples": "1000000", "batches": "1000000"}),
        ("an empty key", {"": "1"}),
        ("a key of a megabyte", {"a" * 2**20: "1"}),
        ("a part of nothing", {"student.": "1"}),
        ("an unknown part", {"teacher.weights": "1"}),
        ("an attribute of Python", {"__class__": "1"}),
        ("an attribute of a part", {"data.__init__": "1"}),
        ("a parameter of Python", {"cls": "1"}),
        ("a parameter of a part's", {"student.info": "1"}),
        ("another parameter", {"self": "1", "student.cls": "1"}),
        ("settings as a whole", {"settings": "{}"}),
        ("markup", {"method": "<script>alert(1)</script>"}),
        ("text that turns around", {"method": "\u202eekac"}),
        ("full-width digits", {"steps": "\uff11\uff10"}),
        ("hexadecimal", {"steps": "0x10"}),
        ("underscores", {"seed": "1__0"}),
        ("truth for a number", {"steps": "true"}),
        ("a thousand unknown keys", {f"k{i}": "1" for i in range(1000)}),
    ]:
        yield Case("link", f"link: {name}", flat, harmless=name in ("full-width digits", "settings as a whole"))


def messages() -> Iterator[Case]:
    """What a socket may be sent by somebody who does not use our page."""
    deep = "[" * 2000 + "]" * 2000
    for name, text in [
        ("nothing", ""), ("no JSON", "play"), ("a number", "7"), ("null", "null"), ("a list", "[]"),
        ("a list of commands", '[{"op": "stop"}]'), ("no op", "{}"), ("op is null", '{"op": null}'),
        ("op is a list", '{"op": ["play"]}'),
        ("op is an object", '{"op": {"a": 1}}'), ("unknown op", '{"op": "explode"}'),
        ("an attribute of Python", '{"op": "__class__"}'), ("a method of jobs", '{"op": "subscribe"}'),
        ("another method of jobs", '{"op": "runner"}'), ("forget", '{"op": "forget"}'),
        ("settings are a list", '{"op": "set", "settings": [1]}'), ("no settings", '{"op": "set"}'),
        ("settings are text", '{"op": "set", "settings": "steps"}'), ("rate is text", '{"op": "rate", "rate": "fast"}'),
        ("rate is negative", '{"op": "rate", "rate": -1}'), ("rate is huge", '{"op": "rate", "rate": 1e300}'),
        ("rate is no number", '{"op": "rate", "rate": NaN}'), ("rate is infinite", '{"op": "rate", "rate": Infinity}'),
        ("no rate", '{"op": "rate"}'), ("sample is negative", '{"op": "look", "sample": -1}'),
        ("sample is huge", '{"op": "look", "sample": 99999999999999999999}'),
        ("sample is text", '{"op": "look", "sample": "1"}'),
        ("sample is a truth value", '{"op": "look", "sample": true}'),
        ("sample is a fraction", '{"op": "look", "sample": 1.5}'),
        ("five thousand characters", '{"op": "' + "a" * 5000 + '"}'),
        ("nested two thousand deep", deep), ("half a message", '{"op": "pl'), ("a lone surrogate", '{"op": "\\ud800"}'),
        ("twice the same key", '{"op": "play", "op": "explode"}'), ("control characters", '{"op": "\\u0000"}'),
        ("digits without end", '{"op": "rate", "rate": ' + "9" * 3000 + "}"),
    ]:  # fmt: skip
        yield Case("message", f"message: {name}", text)
    for name in ("self", "cls", "settings", "version"):  # names of Python's, or of the program's own
        yield Case(
            "message", f"message: a setting {name!r}", json.dumps({"op": "set", "settings": {name: 5}}), harmless=True
        )


# -- pictures, lessons, drawings --------------------------------------------------------------------------------------


def pictures() -> Iterator[Case]:
    """Pictures that are cut, changed or something else. (Those in zip files go the same way.)"""

    def case(name: str, content: bytes, harmless: bool = False) -> Case:
        return Case("picture", f"picture: {name}", content, "one.png", harmless)

    good = _png(7)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        out = io.BytesIO()
        Image.new("RGB", (16, 16), (200, 9, 9)).save(out, kind)
        yield case(f"half a {kind}", out.getvalue()[: len(out.getvalue()) // 2], harmless=kind in ("GIF", "BMP"))
    # Found by fuzzing: a profile whose name never ends.
    yield case("a colour profile without an end", good[:33] + _chunk(b"iCCP", b"\xff" * 19) + good[33:])
    yield case("a text that unpacks to a gigabyte", good[:33] + _chunk(b"zTXt", b"a\0\0" + _bomb()) + good[33:], True)
    yield case("an image of a gigapixel", _header_of(40_000, 40_000))
    yield case("an image of no pixels", _header_of(0, 0))
    for name, content in (("nothing", b""), ("a web page", b"<html>"), ("a pickle", pickle.dumps(_Bomb()))):
        yield case(name, content)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@functools.cache
def _bomb() -> bytes:
    """A megabyte of zlib's that is a gigabyte."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(2**10)) + packer.flush()


LESSON = (
    "---\ntitle: T\nabout: A.\nminutes: 3\npreset: data=moons\n---\n## Run: Go\n- preset: batches=1&samples=20&steps=5"
    "\n- goal: near_boundary >= 80 % and state = done | It is done\n\nOnly {{near_boundary}} of them.\n"
)


def lesson_files() -> Iterator[Case]:
    """Files of lessons that bring something into the page, or say what makes no sense."""
    for name, old, new in [
        ("no head", "---\n", ""), ("a script in the title", "title: T", "title: <script>alert(1)</script>"),
        ("an image from elsewhere", "Only", "![a](https://x/y.png) Only"),
        ("a link that runs", "Only", "[a](javascript:b)"),
        ("a link by its name", "Only", "[a]: data:text/html,b\nOnly"), ("a comment", "Only", "<!-- a --> Only"),
        ("minutes in other digits", "minutes: 3", "minutes: \u00b2"),
        ("minutes without end", "minutes: 3", "minutes: " + "9" * 5000),
        ("half a minute", "minutes: 3", "minutes: 0.5"), ("no minutes", "minutes: 3\n", ""),
        ("a preset of another's data", "data=moons", "data=../../etc/passwd"),
        ("an unknown setting", "steps=5", "cls=5"),
        ("a preset out of bounds", "steps=5", "steps=99999999999"),
        ("an unknown fact", "near_boundary >=", "__class__ >="),
        ("a condition that is none", "near_boundary >= 80 %", "import os"),
        ("an unknown number", "{{near_boundary}}", "{{x.y}}"),
        ("an unknown task", "- goal", "- task: shell\n- goal"),
        ("suspects in other digits", "- preset: batches=1&samples=20&steps=5",
         "- task: lineup\n- preset: suspects=\u00b2"), ("an unknown item", "- goal", "- run: rm\n- goal"),
        ("a step of no kind", "## Run", "## Exec"), ("no step", "## Run: Go", "Go"),
        ("a name with a path", "- goal", "- keep: ../a\n- goal"),
        ("an unknown page", "- goal", "- links: ../../x\n- goal"),
        ("a lesson of sixty thousand lines", "Only", "a\n" * 60_000),
        ("fifty steps", "## Run", "## Explain: A\n\n" * 50 + "## Run"),
    ]:  # fmt: skip
        yield Case("lesson", f"lesson: {name}", LESSON.replace(old, new).encode(), "01-lesson.md")
    for name, content in (("nothing", b""), ("zeros", bytes(1000)), ("no UTF-8", LESSON.encode("utf-16")),
                          ("a megabyte", b"a" * 2**20), ("a pickle", pickle.dumps(_Bomb()))):  # fmt: skip
        yield Case("lesson", f"lesson: {name}", content, "01-lesson.md")


def drawings() -> Iterator[Case]:
    """What a drawing board may be made to send."""
    points = json.loads(good("drawing").content)
    for name, sent in [
        ("nothing", None), ("a word", "points"), ("a number", 7), ("an object", {"0": [0, 0, 0]}), ("no points", []),
        ("a point of words", [*points, ["0", "0", "0"]]), ("a point without a class", [*points, [0, 0]]),
        ("a point that is none", [*points, math.nan]), ("not a number", [*points, [math.nan, 0, 0]]),
        ("infinity", [*points, [math.inf, 0, 0]]), ("10^400", [*points, [10**400, 0, 0]]),
        ("outside", [*points, [1.1, 0, 0]]),
        ("a class that is none", [*points, [0, 0, 3]]), ("a class below", [*points, [0, 0, -1]]),
        ("a class of truth", [*points, [0, 0, True]]), ("a class of a fraction", [*points, [0, 0, 0.5]]),
        ("a class of 10^400", [*points, [0, 0, 10**400]]), ("a hundred thousand points", [[0, 0, 0]] * 10**5),
        ("one shape", [[x, y, 0] for x, y, _ in points]), ("all at one spot", [[0, 0, i % 2] for i in range(50)]),
        ("lists in lists", [[[[]]]] * 50),
    ]:  # fmt: skip
        yield Case("drawing", f"drawing: {name}", json.dumps(sent))


# -- a teacher that is served, and one that others serve --------------------------------------------------------------


def _npy(text: str, values: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + values


def requests() -> Iterator[Case]:
    """Requests to a teacher that is served over HTTP."""
    for name, body in [
        ("nothing", b""), ("no JSON", b"{"), ("a list", b"[]"), ("no inputs", b'{"meant": [0]}'),
        ("no classes", b'{"inputs": [[0, 0]]}'),
        ("nested deep", b"[" * 100_000), ("a class of 10^30", b'{"inputs": [[0, 0]], "meant": [1' + b"0" * 30 + b"]}"),
        ("a class of a fraction", b'{"inputs": [[0, 0]], "meant": [0.5]}'),
        ("a class alone", b'{"inputs": [[0, 0]], "meant": 0}'),
        ("a class that is none", b'{"inputs": [[0, 0]], "meant": [2]}'),
        ("a negative class", b'{"inputs": [[0, 0]], "meant": [-1]}'),
        ("words", b'{"inputs": [["a", "b"]], "meant": [0]}'), ("not a number", b'{"inputs": [[NaN, 0]], "meant": [0]}'),
        ("10^400", b'{"inputs": [[1' + b"0" * 400 + b', 0]], "meant": [0]}'),
        ("ragged inputs", b'{"inputs": [[0, 0], [0]], "meant": [0, 0]}'),
        ("a single number", b'{"inputs": 1, "meant": [0]}'),
        ("inputs of another shape", b'{"inputs": [[0]], "meant": [0]}'),
    ]:  # fmt: skip
        yield Case("request", f"request: {name}", {"head": {}, "body": body})
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
    for name, text, meant in [
        ("a header of sixty gigabytes", header.replace("1, 2", "1000000000, 8, 8"), "0"),
        ("a bracket that never closes", header.replace("(1", "((1"), "0"),
        ("objects", header.replace("<f4", "|O"), "0"),
        ("no classes", header, ""), ("a class in other digits", header, "\u00b2"),
        ("a class of 10^30", header, "1" + "0" * 30),
        ("half of the values", header.replace("1, 2", "2, 2"), "0,0"), ("words", header.replace("<f4", "<U2"), "0"),
    ]:  # fmt: skip
        head = {"content-type": "application/x-npy", "x-meant": meant}
        yield Case("request", f"npy request: {name}", {"head": head, "body": _npy(text, bytes(8))})


TEACHER = {
    "model": {"shape": [2], "classes": ["a", "b"], "answers": "soft"},
    "usage": {"per_class": [3, 0], "budget": 10},
}


def answers() -> Iterator[Case]:
    """What a server may answer that is no teacher's, or that means harm."""

    def case(name: str, body: bytes = b'{"answers": [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]}', **head: Any) -> Case:
        return Case("answer", f"answer: {name}", {"head": {**TEACHER, **head}, "body": body})

    model = TEACHER["model"]
    for name, told in [
        ("nothing", None), ("a list", []), ("no shape", {"classes": ["a", "b"]}),
        ("a shape of words", {**model, "shape": ["2"]}),
        ("a shape of 10^12", {**model, "shape": [10**6, 10**6]}), ("a negative shape", {**model, "shape": [-2]}),
        ("a hundred dimensions", {**model, "shape": [1] * 100}), ("no classes", {**model, "classes": []}),
        ("classes that are a number", {**model, "classes": 2}), ("answers of no kind", {**model, "answers": "none"}),
    ]:  # fmt: skip
        yield case(f"a model of {name}", model=told)
    for name, body in [
        ("nothing", b""), ("a web page", b"<html>"), ("no UTF-8", b"\xff\xfe"), ("nested deep", b"[" * 100_000),
        ("a list", b"[]"),
        ("too few", b'{"answers": [[0.5, 0.5]]}'), ("other classes", b'{"answers": [[1], [1], [1]]}'),
        ("words", b'{"answers": "soft"}'),
        ("not a number", b'{"answers": [[NaN, 0], [0, 0], [0, 0]]}'),
        ("10^400", b'{"answers": [[1' + b"0" * 400 + b", 0]]}"),
        ("ragged", b'{"answers": [[0.5, 0.5], [1]]}'),
    ]:  # fmt: skip
        yield case(name, body)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"
    yield case(
        "npy that promises sixty gigabytes", _npy(header.replace("3, 2", "1000000000, 8, 8"), bytes(24)), form="npy"
    )
    yield case("npy of objects", _npy(header.replace("<f4", "|O"), bytes(24)), form="npy")
    yield case("JSON where npy was asked for", form="npy")
    yield case("a usage of nothing", usage=None)
    yield case("a usage of words", usage={"per_class": "many", "budget": "none"})
    yield case("wait for eleven days", status=429, wait="999999")
    yield case("wait in other digits", status=503, wait="\u00b2")
    yield case("spent, and no reason", b"", status=402)
    yield case("refused, for a list of reasons", b'{"error": [1, 2]}', status=400)


# -- what is left of a run --------------------------------------------------------------------------------------------


def damaged_runs() -> Iterator[Case]:
    """Folders of runs in which something else stands than what the engine writes."""
    files = run_files()
    config, result = (json.loads(files[name]) for name in ("config.json", "run.json"))

    def case(name: str, **content: Any) -> Case:
        packed = {
            k.replace("__", "."): v if isinstance(v, bytes | None) else json.dumps(v).encode()
            for k, v in content.items()
        }
        return Case("run", f"run: {name}", packed, harmless=True)  # what is spoilt may also be left out

    yield case("settings are a number", config__json={**config, "experiment": 7}, run__json=None)
    yield case("data are a number", config__json={**config, "experiment": {"data": 7}}, run__json=None)
    yield case("settings are a word", run__json={**result, "experiment": {"settings": "a"}, "begun": None})
    yield case("numbers are words", run__json={**result, "outcome": {"student_accuracy": "high", "samples": "many"}})
    yield case(
        "numbers beyond all bounds", run__json={**result, "outcome": {"student_accuracy": 10**400, "samples": 1e300}}
    )
    batches = {"batches": "a", "samples": [1]}
    yield case("batches are a word", config__json={**config, "experiment": {"settings": batches}}, run__json=None)
    yield case("made in the year 10^9", config__json={**config, "created": 3e16})
    yield case("made at no time", config__json={**config, "created": "today", "kind": 5, "owner": ["a"]})
    yield case("an owner that can't be written", config__json={**config, "owner": "\ud800"})
    yield case("results are a list", run__json=[1])
    yield case("digests are a list", run__json={**result, "digests": ["a"]})
    yield case("digests of files elsewhere", run__json={**result, "digests": {"../../../etc/passwd": "a"}})
    yield case("nested deep", run__json=b'{"a":' * 100_000, config__json=b"[" * 100_000, events__jsonl=b"[" * 100_000)
    yield case("edits without settings", events__jsonl={"event": "edited", "time": 1.0})
    yield case("edits of words", events__jsonl={"event": "edited", "time": 1.0, "snapshots": "a", "settings": "b"})
    yield case("events of no kind", events__jsonl={"event": ["edited"], "time": math.inf})
    yield case(
        "planned edits of words", run__json=None, config__json={**config, "planned": ["a", [1], 5], "every": "a"}
    )
    yield case("seen as a word", run__json=None, place__json={"seen": "a"})
    yield case(
        "losses are a word", metrics__json={"curves": {"synthesis": "a", "student": {"step": [1], "loss": "high"}}}
    )
    yield case("a pass that is a list", share__json={"pass": ["a"]}, marks__json={"note": 5, "star": []})
    yield case("a study without settings", study__json={"digest": "0"})
    yield case("a study that is a list", study__json=[1])
    yield case("preferences of words", preferences__jsonl=b'["a", "b"]\n[Infinity, {}]\n\xe0\n[1, 2]')
    yield case("an index of words", index__json={"version": runs.INDEX_VERSION, "runs": {RUN: [10**18, {"run": 5}]}})
    yield case("an index that is a list", index__json={"version": runs.INDEX_VERSION, "runs": [1]})
    older = {k: v for k, v in result.items() if k != "digests"}
    for name in ("history", "samples", "student"):
        cut = {f"{name}__safetensors": files[f"{name}.safetensors"][:50]}
        yield case(f"{name} cut, of an older version", run__json=older, **cut)
        yield case(
            f"{name} of something else", run__json=older, **{f"{name}__safetensors": save({"w": torch.zeros(2)})}
        )
    card = json.loads(files["teacher.json"])
    for name, wrong in (("data", 7), ("data", {}), ("format", "../x"), ("accuracy", [1]), ("extra", 1)):
        yield case(f"a teacher's card with {name} = {wrong!r}", teacher__json={**card, name: wrong})
    frames = files["frames.bin"]
    yield case("frames that are cut", frames__bin=frames[: len(frames) // 3])
    yield case("frames of nothing", frames__bin=b"")
    yield case("frames of four gigabytes", frames__bin=b"\xff\xff\xff\xff" + frames)
    for name, header, arrays_ in [
        (
            "a scene without arrays",
            {"type": "scene", "kind": "points", "classes": ["a"], "shape": [2], "half_width": 1},
            {},
        ),
        ("a scene of no kind", {"type": "scene", "kind": "a"}, {}),
        ("a sheet of 10^9 images", {"type": "scene", "kind": "images", "classes": ["a"], "shape": [1, 8, 8]}, {}),
    ]:
        frame = {"type": "frame", "t": 0, "stage": "synthesis", "progress": 0, "step": 1, "total": 1, "batches": [0, 0],
                 "sheet": 10**9, "in_flight": 1, "each": 1}  # fmt: skip
        sheet = {"images": np.zeros((1, 1, 8, 8), np.uint8), "ids": np.zeros(1, "<u4"), "labels": np.zeros(1, "<u2"),
                 "range": np.zeros((1, 2), "<f4")}  # fmt: skip
        messages = (encode(header, arrays_), encode(frame, sheet), encode({**frame, "losses": {"a": "b"}}, sheet))
        yield case(name, frames__bin=b"".join(struct.pack("<I", len(m)) + m for m in messages))
