"""Input that somebody might bring to do harm or by mistake, and how it is fed to what reads it.

Each case is refused with a sentence, or taken where it is harmless; anything else is a fault. Shared by test_hostile.py
and benchmarks/hostile.py.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import random
import stat
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save

from cake_core import formats, models, onnx_network, weights
from cake_core.data import arrays, tables
from cake_core.data.folders import ImageReading
from cake_core.errors import CakeError
from cake_core.pipeline import Experiment, resolve_teacher

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
    for make in (safetensors_files, pickles, onnx_files, zips, csvs, npzs, links, messages):
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
    resolve_teacher(Experiment.from_query(case.content))


class _Stub:
    """A job that nothing reaches but what a viewer may ask for."""

    state = "running"

    def __init__(self):
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.asked.append(name)


def _message(case: Case) -> str:
    from pages._ui.routes import Client

    client = Client(None, _Stub(), None)
    client.obey(case.content)
    allowed = {"play", "pause", "step", "stop", "reset", "set", "pace", "look"}
    if not set(client.job.asked) <= allowed:
        raise AssertionError(f"a viewer reached {client.job.asked}")
    return " ".join(str(w) for w in client.words)


READERS: dict[str, Callable[[Case], str | None]] = {
    "teacher": _teacher,
    "zip": _zip,
    "table": _table,
    "arrays": _arrays,
    "link": _link,
    "message": _message,
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
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


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
