"""Foreign input that is changed piece by piece, for coverage-guided fuzzing.

Bytes changed at random stop at the first check: a length, a checksum, a bracket. Here a file is taken apart, one piece
of it is changed, and it is put together again with the right lengths and checksums, so that the change reaches the code
behind the check. What changes the bytes of a piece is given: libFuzzer's own mutator in benchmarks/fuzz.py, dice in the
tests.

Files that consist of several parts travel as one line of JSON, the head, and a body; folders as `folder` packs them.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import math
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save

from cake_core import frames, keeping, lessons, links, models, runs
from cake_core.data import drawing
from cake_core.few_call import FewCallConfig
from cake_core.lineup import LineUpConfig
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment

from . import hostile

__all__ = ["SURFACES", "Surface", "dice"]

Mutate = Callable[[bytes], bytes]  # changes some bytes, without knowing what they mean
Change = Callable[[bytes, random.Random, Mutate], bytes]

MOST_BYTES = 2**16  # of an input
ODD = (
    0, -1, 1, 2, 3, 4, 5, 8, 10, 16, 64, 100, 255, 256, 1000, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63,
    -(2**63), 2**64, 10**30, 10**400, 0.5, -0.5, 1.5, 1e-300, 1e300, math.nan, math.inf, -math.inf, True, False, None,
    "", "0", "1", "-1", "\u00b2", "\u0663", "nan", "1e999", "a", "self", "__class__", "\x00", "\ud800", "../x",
    "a" * 300,
    [], {}, [[]], [1], {"a": 1},
)  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """One place that reads foreign input.

    Attributes:
        reader: the key of what reads it (`hostile.READERS`).
        seeds: inputs to begin with.
        change: another input like the one given.
        content: what the reader is given for an input.
        file: what the file is called.
        words: what often stands in an input.
    """

    reader: str
    seeds: Callable[[], Iterator[bytes]]
    change: Change
    content: Callable[[bytes], Any] = bytes
    file: str = ""
    words: tuple[str, ...] = field(default=(), repr=False)

    def changed(self, given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
        """Another input like this one; what is so damaged that it can't be taken apart is changed as it is."""
        try:
            return self.change(given, rng, mutate)
        except Exception:
            return mutate(given)

    def case(self, given: bytes) -> hostile.Case:
        """The input as a case of the hostile corpus."""
        return hostile.Case(self.reader, "fuzzed", self.content(given), self.file)


def dice(rng: random.Random) -> Mutate:
    """Changes bytes by chance: what libFuzzer's mutator is to the fuzzer."""

    def mutate(given: bytes) -> bytes:
        changed = bytearray(given or b"\0")
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(changed))
            what = rng.randrange(4)
            if what == 0:
                changed[place] ^= 1 << rng.randrange(8)
            elif what == 1:
                changed[place:place] = rng.randbytes(rng.randint(1, 8))
            elif what == 2:
                changed[place] = rng.choice((0, 1, 127, 128, 255))
            elif len(changed) > 1:
                del changed[place : place + rng.randint(1, 8)]
                changed = changed or bytearray(b"\0")
        return bytes(changed)

    return mutate


@functools.cache
def _cases() -> tuple[hostile.Case, ...]:
    return tuple(
        c for c in hostile.cases() if not isinstance(c.content, bytes | str) or len(c.content) < MOST_BYTES // 2
    )


def _corpus(reader: str, starts: str = "") -> Iterator[bytes]:
    """The hand-made cases of a reader whose content is bytes or text, but for large ones."""
    for case in _cases():
        if case.surface == reader and case.name.startswith(starts):
            content = case.content.encode(errors="surrogatepass") if isinstance(case.content, str) else case.content
            if isinstance(content, bytes):
                yield content


# -- JSON -------------------------------------------------------------------------------------------------------------


def twisted(value: Any, rng: random.Random, words: tuple[str, ...] = ()) -> Any:
    """A JSON value with one to three places in it changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places or rng.random() < 0.02:
            return rng.choice(ODD)
        _twist(*rng.choice(places), places, rng, words)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All places in a value: what holds it, and its key or index there."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _twist(holder: Any, key: Any, places: list[tuple[Any, Any]], rng: random.Random, words: tuple[str, ...]) -> None:
    what, old = rng.randrange(8), holder[key]
    if what == 0:
        del holder[key]
    elif what == 1:
        other, place = rng.choice(places)
        if isinstance(other, dict) and place not in other:
            return  # it has just been taken out
        holder[key] = copy.deepcopy(other[place])
    elif what == 2 and isinstance(holder, dict):
        names = [k for h, k in places if isinstance(h, dict)] + [o for o in ODD if isinstance(o, str)]
        holder[rng.choice([*names, *words])] = holder.pop(key)
    elif what == 2:
        holder.insert(key, copy.deepcopy(old))
    elif what == 3 and isinstance(old, int | float) and math.isfinite(float(min(max(old, -1e300), 1e300))):
        holder[key] = rng.choice((old + 1, old - 1, -old, 2 * old))
    elif what == 3 and isinstance(old, str) and old:
        at = rng.randrange(len(old))
        holder[key] = old[:at] + rng.choice(("", "\u00b2", "9", "\x00", "\u202e", old)) + old[at + rng.randrange(2) :]
    elif what == 4 and words:
        holder[key] = rng.choice(words)
    elif what == 5:
        holder[key] = [old] if rng.random() < 0.5 else {str(key): old}
    else:
        holder[key] = rng.choice(ODD)


def _json(words: tuple[str, ...] = ()) -> Change:
    """Changes of a JSON text: now a place in what it says, now its letters."""

    def change(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
        try:
            value = json.loads(given)
        except (ValueError, RecursionError):
            return mutate(given)
        return mutate(given) if rng.random() < 0.1 else _dumped(twisted(value, rng, words))

    return change


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _headed(change_body: Change, words: tuple[str, ...] = ()) -> Change:
    """Changes of a head of JSON in the first line, or of the body behind it."""

    def change(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
        head, _, body = given.partition(b"\n")
        if rng.random() < 0.5:
            return _json(words)(head, rng, mutate).replace(b"\n", b" ") + b"\n" + body
        return head + b"\n" + change_body(body, rng, mutate)

    return change


def _split(given: bytes) -> dict[str, Any]:
    """Head and body of an input; a head that is none counts as an empty one."""
    head, _, body = given.partition(b"\n")
    try:
        found = json.loads(head)
    except (ValueError, RecursionError):
        found = {}
    return {"head": found if isinstance(found, dict) else {}, "body": body}


# -- text -------------------------------------------------------------------------------------------------------------


def _lines(words: tuple[str, ...]) -> Change:
    """Changes of a text by its lines."""

    def change(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
        lines = given.split(b"\n")
        at, what, word = rng.randrange(len(lines)), rng.randrange(8), rng.choice(words).encode(errors="replace")
        line = lines[at]
        if what == 0:
            del lines[at]
        elif what == 1:
            lines.insert(at, rng.choice(lines))
        elif what == 2:
            lines.insert(at, word)
        elif what == 3:
            lines[at] = mutate(line)
        elif what == 4:
            place = rng.randrange(len(line) + 1)
            lines[at] = line[:place] + word + line[place + rng.choice((0, 0, 1, 4)) :]
        elif what == 5:
            parts = line.split(b" ")
            parts[rng.randrange(len(parts))] = word
            lines[at] = b" ".join(parts)
        elif what == 6:
            for sign in (b",", b":", b"&", b"|"):
                if sign in line:
                    parts = line.split(sign)
                    parts[rng.randrange(len(parts))] = word
                    line = sign.join(parts)
                    break
            lines[at] = line
        else:
            return mutate(given)
        return b"\n".join(lines)

    return change


TABLE = ("x,y,label", ",", ";", "\t", '"', '""', "\r", "nan", "inf", "1e999", "-1e-300", "\u00b2", "1.5", "a", "=1",
         "0x10", "1,5", "label", " ", "\ufeff", "\u2028", "9" * 30, "1e308", "+.5", "5.")  # fmt: skip
LESSON = (
    "## Predict: A", "## Run: B", "## Explain: C", "- [ ] a", "- [x] b", "- goal: state = done | Done",
    "- goal: near_boundary >= 80 % and step < 3 | So", "- goal: set.sigma = 0.1 | So",
    "- goal: loss.a - a.step > 1 | S",
    "- preset: data=moons&method=lake", "- preset: kinds=kd&suspects=2", "- task: lineup", "- task: steal",
    "- task: distill", "- open: sigma", "- keep: a", "- show: data", "- hint: h", "- solution: sigma=0.1",
    "- solution: method=lake", "- words: teacher", "- links: images", "- methods: lake", "- students: mlp",
    "minutes: \u00b2", "minutes: 5", "---", "{{near_boundary}}", "{{a.step}}", "{{loss.x}}", "{{set.sigma}}",
    "{{state}}",
    "suspects=\u00b2", "[a](https://b)", "<b>", "`<b>`", "$x$", "nan", "1e999", "%", "points", "and", "|", "&", "=",
    "steps",
    "student.updates=5", "budget=3", "data.seed=\u00b2", "control.agreement", "gain",
)  # fmt: skip


def _table_seeds() -> Iterator[bytes]:
    yield hostile.good("table").content
    yield b"x;y;label\n" + "\n".join(f"{i},5;{-i};{'ab'[i % 2]}" for i in range(30)).encode()
    yield "\n".join(f'"{i}"\t{i * i}\t"{i % 3}"' for i in range(30)).encode("utf-16")
    yield from _corpus("table")


def _lesson_seeds() -> Iterator[bytes]:
    for folder in lessons.folders()[:1]:
        for path in sorted(folder.glob("*.md")):
            yield path.read_bytes()
    yield (
        b"---\ntitle: T\nabout: A.\nminutes: 3\npreset: data=moons\n---\n## Run: Go\n- preset: batches=1&samples=20\n"
        b"- goal: state = done | It is done\n"
    )
    yield from _corpus("lesson")


# -- addresses --------------------------------------------------------------------------------------------------------


@functools.cache
def settings() -> tuple[str, ...]:
    """The names of all settings that an address may hold, and words that are values of some."""
    found: dict[str, None] = dict.fromkeys(links.RESERVED)
    for config in (Experiment, FewCallConfig, LineUpConfig, *(m.Config for m in METHODS.values())):
        for name, info in config.model_fields.items():
            part = getattr(info.annotation, "model_fields", {})
            found |= dict.fromkeys([name, *(f"{name}.{inner}" for inner in part)])
        for p in config.params():
            found |= dict.fromkeys(map(str, p.choices))
    found |= dict.fromkeys(
        ("self", "cls", "info", "data.info", "student.info", "student.cls", "proxies.info", "data.self")
    )
    own = f"own-{'0' * 16}"
    return (*found, *METHODS, *models.MODELS, *links.PARTS, *links.SHOWN, "moons", "digits", "mnist", own)


def _change_link(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    pairs = [list(p) for p in parse_qsl(given.decode(errors="replace"), keep_blank_values=True)]
    for _ in range(rng.randint(1, 3)):
        odd = rng.choice([str(o) for o in ODD if o != 10**400] + ["1" + "0" * 400])
        pair = [rng.choice(settings()), rng.choice([odd, odd, rng.choice(settings()), "2"])]
        what = rng.randrange(5)
        if what == 0 or not pairs:
            pairs.append(pair)
        elif what == 1:
            pairs[rng.randrange(len(pairs))][1] = pair[1]
        elif what == 2:
            pairs[rng.randrange(len(pairs))][0] = pair[0]
        elif what == 3:
            del pairs[rng.randrange(len(pairs))]
        else:
            place = rng.choice(pairs)
            place[1] = mutate(place[1].encode(errors="replace")).decode(errors="replace")
    return urlencode(pairs, errors="replace").encode()


def _flat(given: bytes) -> dict[str, str]:
    return dict(parse_qsl(given.decode(errors="replace"), keep_blank_values=True))


def _link_seeds() -> Iterator[bytes]:
    yield urlencode(hostile.good("link").content).encode()
    for flat in (
        {
            "v": "2",
            "method": "lake",
            "show": "trails,data",
            "speed": "2",
            "lock": "all",
            "hide": "figures",
            "idle": "60",
        },
        {"v": "1", "data": "digits", "job": "x", "on": "cpu"},
        {"data": "digits", "method": "cake", "batches": "2", "student": "resnet4", "student.updates": "5"},
        {"data": "moons", "data.noise": "0.2", "seed": "3", "teacher": "moons/mlp", "device": "cpu"},
        {"budget": "4", "proxies.count": "3", "data.name": "digits"},
        {"teachers": "3", "data.name": "moons", "probes": "direct", "resemblance": "seed"},
    ):
        yield urlencode(flat).encode()
    for case in hostile.links():
        text = urlencode(case.content, errors="replace").encode()
        if len(text) < MOST_BYTES // 2:
            yield text


# -- safetensors ------------------------------------------------------------------------------------------------------

TYPES = ("F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "U64", "C64", "F4")


def _change_safetensors(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    length = int.from_bytes(given[:8], "little")
    text, payload = given[8 : 8 + length], given[8 + length :]
    try:
        entries = json.loads(text)
        tensors = {
            k: (e, payload[e["data_offsets"][0] : e["data_offsets"][1]]) for k, e in entries.items() if k[:2] != "__"
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return mutate(given)
    what = rng.randrange(8)
    if what == 0:
        text = mutate(text)
    elif what == 1:
        text = _dumped(twisted(entries, rng, (*TYPES, *tensors)))
    elif what == 2:
        payload = mutate(payload)
    elif what == 3:
        return mutate(given[:8]) + given[8:]
    elif tensors:
        return _sealed(_other_tensors(tensors, rng), entries.get("__metadata__"))
    return struct.pack("<Q", len(text)) + text + payload


def _other_tensors(tensors: dict[str, tuple[Any, bytes]], rng: random.Random) -> dict[str, tuple[str, Any, bytes]]:
    """The tensors of a file with one of them changed: name, type, shape or values."""
    found = {k: (e.get("dtype"), e.get("shape"), raw) for k, (e, raw) in tensors.items()}
    key, what = rng.choice(list(found)), rng.randrange(7)
    dtype, shape, raw = found[key]
    if what == 0:
        del found[key]
    elif what == 1:
        found[rng.choice(("w", "\u202ew", "head.weight.scale", key + ".scale", "module." + key))] = found.pop(key)
    elif what == 2:
        found[key] = (rng.choice(TYPES), shape, raw)
    elif what == 3 and isinstance(shape, list):
        found[key] = (dtype, twisted(shape, rng) if shape else [1], raw)
    elif what == 4:
        found[key] = (dtype, shape, raw[: len(raw) // 2])
    elif what == 5:
        kind = {"F32": np.float32, "F16": np.float16, "F64": np.float64}.get(dtype, np.uint8)
        values = np.frombuffer(raw[: len(raw) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind).copy()
        with np.errstate(all="ignore"):
            values[rng.randrange(len(values)) if len(values) else 0 :] = np.float64(
                rng.choice((math.nan, math.inf, 1e38, 0))
            )
        found[key] = (dtype, shape, values.tobytes())
    else:
        found[key + "2"] = found[key]
    return found


def _sealed(tensors: Mapping[str, tuple[str, Any, bytes]], about: Any) -> bytes:
    """A file with these tensors whose offsets are right."""
    entries, at = {} if about is None else {"__metadata__": about}, 0
    for key, (dtype, shape, raw) in tensors.items():
        entries[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = _dumped(entries)
    return struct.pack("<Q", len(text)) + text + b"".join(raw for *_, raw in tensors.values())


def _safetensors_seeds() -> Iterator[bytes]:
    state = models.build("resnet4", hostile.SHAPE, 10, seed=1).state_dict()
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        yield save({k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()})
    yield save(state, metadata={"a": "b"})
    yield from _corpus("teacher", "safetensors")


# -- ONNX -------------------------------------------------------------------------------------------------------------

OPERATORS = (
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Col2Im",
    "Compress", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "CumSum",
    "DepthToSpace", "DFT", "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike",
    "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "Greater",
    "GridSample", "GRU", "Hardmax", "HardSigmoid", "Identity", "ImageDecoder", "InstanceNormalization", "IsInf",
    "IsNaN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "LRN", "LSTM", "MatMul",
    "Max", "MaxPool", "MaxUnpool", "Mean", "Min", "Mod", "Mul", "Neg", "NonMaxSuppression", "NonZero", "Not",
    "OneHot", "Or", "Pad", "Pow", "PRelu", "QuantizeLinear", "Range", "Reciprocal", "ReduceMean", "ReduceProd",
    "ReduceSum", "RegexFullMatch", "Relu", "Reshape", "Resize", "ReverseSequence", "RNN", "RoiAlign", "Round",
    "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus",
    "SpaceToDepth", "Split", "Sqrt", "Squeeze", "STFT", "StringConcat", "StringSplit", "Sub", "Sum", "Tanh",
    "Tile", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze", "Where", "Xor",
)  # fmt: skip
SIZES = (0, 1, -1, 2, 3, 4, 8, 10, 64, -2, 1000, 10**6, 10**9, 2**31, 2**62)
WORDS = ("ij,jk->ik", "...a->a", "i->", "same", "SAME_UPPER", "VALID", "linear", "cubic", "reflect", "wrap", "(a+)+b",
         "RGB", "sum", "bilinear", "forward", "x", "")  # fmt: skip


def _change_onnx(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(given)
    except Exception:  # it is damaged already
        return mutate(given)
    for _ in range(rng.choice((1, 1, 2, 3))):
        what = rng.randrange(9)
        if what == 0:
            return mutate(model.SerializeToString())
        try:
            if what < 6 and model.graph.node:
                (_add_node, _add_node, _other_operator, _other_attribute, _other_tensor)[what - 1](model.graph, rng)
            else:
                _any_field(model, rng, mutate)
        except (TypeError, ValueError, IndexError, OverflowError):  # a field takes no such value
            continue
    return model.SerializeToString()


def _schema(op: str) -> Any:
    try:
        return onnx.defs.get_schema(op)
    except Exception:  # its name was changed
        return None


def _attributes(op: str, rng: random.Random) -> dict[str, Any]:
    """Some attributes that an operator may have, with values of the right type."""
    found = {}
    for name, a in _schema(op).attributes.items() if _schema(op) else ():
        if not a.required and rng.random() < 0.6:
            continue
        some = [rng.choice(SIZES) for _ in range(rng.randint(0, 5))]
        values = {"INT": rng.choice(SIZES), "INTS": some, "FLOAT": float(rng.choice(SIZES)),
                  "STRING": rng.choice(WORDS),
                  "FLOATS": [float(v) for v in some], "STRINGS": [rng.choice(WORDS)], "TENSOR": _tensor("",
                  rng)}  # fmt: skip
        kind = a.type.name if hasattr(a.type, "name") else str(a.type).rpartition(".")[2]
        if values.get(kind) is not None and values[kind] != []:
            found[name] = values[kind]
    return found


def _tensor(name: str, rng: random.Random) -> TensorProto:
    """A small tensor; as a shape or a place it says too much."""
    some = [rng.choice(SIZES) for _ in range(rng.randint(0, 5))]
    kind = rng.choice((np.int64, np.int64, np.float32, np.float64, np.bool_, np.int32, np.uint8, object))
    if kind is object:
        return helper.make_tensor(name, TensorProto.STRING, [1], [rng.choice(WORDS).encode() * rng.choice((1, 30))])
    with np.errstate(all="ignore"):
        values = np.array(some, np.float64).clip(-(2.0**60), 2.0**60).astype(kind)
    return numpy_helper.from_array(values.reshape(() if len(values) == 1 and rng.random() < 0.5 else -1), name)


def _add_node(graph: Any, rng: random.Random) -> None:
    """Puts a node between two others, or behind all."""
    op = rng.choice(OPERATORS)
    at = rng.randrange(len(graph.node) + 1)
    known = [i.name for i in graph.input] + [o for n in graph.node[:at] for o in n.output]
    stored = [t.name for t in graph.initializer]
    least, most = (_schema(op).min_input, _schema(op).max_input) if _schema(op) else (1, 1)
    inputs = []
    for k in range(rng.randint(least, max(least, min(most, 4)))):
        if k and rng.random() < 0.6:
            graph.initializer.append(_tensor(f"t{len(graph.initializer)}", rng))
            inputs.append(graph.initializer[-1].name)
        else:
            inputs.append(rng.choice(known if not k else [*known, *stored]))
    made = f"v{len(graph.node)}_{rng.randrange(1000)}"
    outputs = [made, *(f"{made}{k}" for k in range(1, _schema(op).min_output if _schema(op) else 1))]
    node = helper.make_node(op, inputs, outputs, **_attributes(op, rng))
    if at < len(graph.node) and inputs:
        later = graph.node[at]
        places = [k for k, name in enumerate(later.input) if name == inputs[0]] or list(range(len(later.input)))
        if places:
            later.input[rng.choice(places)] = made
    elif graph.output and graph.node:
        last = graph.node[-1]
        if graph.output[0].name in last.output:
            for k, name in enumerate(last.output):
                if name == graph.output[0].name:
                    last.output[k] = f"o{made}"
                    node.input[0:1] = [f"o{made}"]
            node.output[0] = graph.output[0].name
    graph.node.insert(at, node)


def _other_operator(graph: Any, rng: random.Random) -> None:
    node = rng.choice(graph.node)
    node.op_type = rng.choice(OPERATORS)
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(k, v) for k, v in _attributes(node.op_type, rng).items())


def _other_attribute(graph: Any, rng: random.Random) -> None:
    node = rng.choice(graph.node)
    for name, value in _attributes(node.op_type, rng).items():
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _other_tensor(graph: Any, rng: random.Random) -> None:
    tensor, what = rng.choice(graph.initializer), rng.randrange(5)
    if what == 0:
        tensor.CopyFrom(_tensor(tensor.name, rng))
    elif what == 1:
        tensor.data_type = rng.randrange(30)
    elif what == 2 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
    elif what == 3:
        values = numpy_helper.to_array(tensor).astype(rng.choice((np.float64, np.float16, np.int64, np.float32)))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    else:
        values = numpy_helper.to_array(tensor).copy()
        with np.errstate(all="ignore"):
            values.flat[rng.randrange(values.size) :] = rng.choice((math.nan, math.inf, 0, 1e30))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _any_field(message: Any, rng: random.Random, mutate: Mutate) -> None:
    """Changes one field somewhere in a message, whatever it means."""
    while True:
        fields = [f for f in message.DESCRIPTOR.fields if rng.random() < 0.5 or _filled(message, f)]
        f = rng.choice(fields)
        many = f.is_repeated if hasattr(f, "is_repeated") else f.label == f.LABEL_REPEATED
        value = getattr(message, f.name)
        if f.message_type is not None and rng.random() < 0.85:
            if many and len(value):
                message = rng.choice(value)
                continue
            if not many:
                message = value
                continue
        _set_field(message, f, many, value, rng, mutate)
        return


def _filled(message: Any, f: Any) -> bool:
    value = getattr(message, f.name)
    return bool(len(value)) if hasattr(value, "__len__") else bool(value)


def _set_field(message: Any, f: Any, many: bool, value: Any, rng: random.Random, mutate: Mutate) -> None:
    if many:
        what = rng.randrange(3)
        if what == 0 and len(value):
            del value[rng.randrange(len(value))]
        elif what == 1 and len(value):
            one = rng.choice(value)
            value.add().CopyFrom(one) if f.message_type is not None else value.append(one)
        elif f.message_type is not None:
            value.add()
        elif f.cpp_type == f.CPPTYPE_STRING:
            value.append(rng.choice(WORDS) if f.type == f.TYPE_STRING else mutate(b"a"))
        else:
            value.append(rng.choice(SIZES))
    elif f.message_type is not None:
        message.ClearField(f.name)
    elif f.type == f.TYPE_STRING:
        setattr(message, f.name, rng.choice((*WORDS, *OPERATORS[0], "ai.onnx", "z", "f", "w", "0", "\u202e")))
    elif f.type == f.TYPE_BYTES:
        setattr(message, f.name, mutate(value))
    elif f.cpp_type in (f.CPPTYPE_FLOAT, f.CPPTYPE_DOUBLE):
        setattr(message, f.name, rng.choice((math.nan, math.inf, 0.0, -1.0, 1e30)))
    else:
        setattr(message, f.name, rng.choice((*SIZES, rng.randrange(30))))


def _onnx_seeds() -> Iterator[bytes]:
    yield hostile.good("teacher").content
    w = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32), "w")
    k = numpy_helper.from_array(np.random.default_rng(1).normal(size=(1, 1, 3, 3)).astype(np.float32), "k")
    n = [numpy_helper.from_array(np.full(1, v, np.float32), name) for name, v in zip("abcd", (1, 0, 0, 1), strict=True)]
    node = helper.make_node
    yield hostile._onnx([
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]), node("BatchNormalization", ["c", *"abcd"], ["e"]),
        node("Relu", ["e"], ["r"]), node("Flatten", ["r"], ["f"]), node("Gemm", ["f", "w"], ["g"]),
        node("Softmax", ["g"], ["z"], axis=1),
    ], [w, k, *n])  # fmt: skip
    to = numpy_helper.from_array(np.array([-1, 64], np.int64), "to")
    yield hostile._onnx([
        node("MaxPool", ["x"], ["m"], kernel_shape=[1, 1]), node("Reshape", ["m", "to"], ["f"]),
        node("MatMul", ["f", "w"], ["u"]), node("Tanh", ["u"], ["t"]), node("Add", ["t", "u"], ["z"]),
    ], [w, to])  # fmt: skip
    yield from _corpus("teacher", "ONNX")


# -- zip files --------------------------------------------------------------------------------------------------------


def _members(given: bytes) -> list[tuple[zipfile.ZipInfo, bytes]]:
    with zipfile.ZipFile(io.BytesIO(given)) as archive:
        return [(m, archive.open(m).read(MOST_BYTES)) for m in archive.infolist()]


BROKEN_ZIP = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error,
              IndexError,
              struct.error, KeyError)  # fmt: skip


def _repacked(members: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in members:
            archive.writestr(member, content, member.compress_type)
    return out.getvalue()


def _zip(change_member: Callable[[str, bytes, random.Random, Mutate], bytes], names: tuple[str, ...]) -> Change:
    """Changes of a zip file: of a member, of its name or kind, or of the directory at its end."""

    def change(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
        try:
            members = _members(given)
            at = rng.randrange(len(members))
        except BROKEN_ZIP:
            return mutate(given)
        (member, content), what = members[at], rng.randrange(10)
        if what < 5:
            members[at] = (member, change_member(member.filename, content, rng, mutate))
        elif what == 5:
            member.filename = rng.choice((*names, member.filename + "/x.png", "c/" + member.filename))
        elif what == 6:
            kinds = {"external_attr": rng.choice((0o120777 << 16, 0o020777 << 16, 0x10, 2**32 - 1)),
                     "compress_type": rng.choice((0, 8, 12, 14)), "comment": b"PK\5\6",
                     "extra": b"\1\0\4\0\0\0\0\0"}  # fmt: skip
            setattr(member, name := rng.choice(list(kinds)), kinds[name])
        elif what == 7:
            members.insert(at, rng.choice(members))
        elif what == 8:
            del members[at]
        try:
            made = _repacked(members)
        except BROKEN_ZIP:
            return mutate(given)
        return _other_directory(made, rng, mutate) if what == 9 else made

    return change


def _other_directory(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """A zip file whose directory says something else about a member than is there."""
    places = [k for k in range(len(given) - 46) if given[k : k + 4] == b"PK\1\2"]
    ends = given.rfind(b"PK\5\6")
    if not places or ends < 0 or rng.random() < 0.2:
        return given[:ends] + mutate(given[ends:]) if ends > 0 else mutate(given)
    # Flags, method, checksum, packed and unpacked size, lengths of name, extra and comment, attributes, place.
    offset, size = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4)))
    at = rng.choice(places) + offset
    value = rng.choice(
        (0, 1, 2, 8, 9, 2**15, 2 ** (8 * size) - 1, 10**9, int.from_bytes(given[at : at + size], "little") + 1)
    )
    return given[:at] + (value % 2 ** (8 * size)).to_bytes(size, "little") + given[at + size :]


def _zip_seeds() -> Iterator[bytes]:
    yield hostile.good("zip").content
    few = list(_picture_seeds())
    yield hostile._zipped({f"set/{p}/{c}/{i}.{_ending(few[i % len(few)])}": few[i % len(few)]
                           for p in ("train", "test") for c in "ab" for i in range(12)})  # fmt: skip
    yield from _corpus("zip")


NAMES = ("../x.png", "/x.png", "a\\x.png", "C:x.png", "a/\x1b.png", "__MACOSX/x.png", "a/._x.png", "x.png",
         "a/b/c/x.png",
         "a/x.zip", "train/a/x.png", "test/c/x.png", "a/x.gif", "a/", "", "a//x.png", "a/\u202e.png",
         "val/a/x.png")  # fmt: skip

# -- pictures ---------------------------------------------------------------------------------------------------------


def _picture_seeds() -> Iterator[bytes]:
    """Small pictures of all kinds that are read."""
    noise = np.random.default_rng(0).integers(0, 255, (12, 9, 4), np.uint8)
    rgb = Image.fromarray(noise[:, :, :3])
    palette = rgb.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "PNG", {}), (Image.fromarray(noise), "PNG", {}), (rgb.convert("L"), "PNG", {"exif": exif}),
        (palette, "PNG", {"transparency": 3}), (rgb.convert("1"), "PNG", {}), (rgb.convert("LA"), "PNG", {}),
        (Image.fromarray(noise[:, :, 0].astype(np.uint16) * 255), "PNG", {}),
        (rgb, "PNG", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb, "JPEG", {"exif": exif}), (rgb.convert("L"), "JPEG", {"progressive": True}), (rgb.convert("CMYK"),
        "JPEG", {}),
        (palette, "GIF", {"save_all": True, "append_images": [palette], "transparency": 2}),
        (rgb, "WEBP", {"exif": exif}), (Image.fromarray(noise), "WEBP", {"save_all": True, "append_images": [rgb]}),
        (rgb, "BMP", {}), (palette, "BMP", {}),
    ]  # fmt: skip
    for image, kind, how in kinds:
        out = io.BytesIO()
        image.save(out, kind, **how)
        yield out.getvalue()


def _ending(content: bytes) -> str:
    beginnings = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif", b"RIFF": "webp"}
    return next((e for b, e in beginnings.items() if content.startswith(b)), "bmp")


def _change_picture(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """PNG by its chunks, with right checksums; WebP by its chunks; others by their bytes."""
    if rng.random() < 0.1:
        return mutate(given)
    if given[:4] == b"\x89PNG":
        return _change_png(given, rng, mutate)
    return _change_riff(given, rng, mutate) if given[:4] == b"RIFF" else mutate(given)


CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"iCCP", b"sRGB", b"tEXt", b"zTXt", b"iTXt", b"pHYs",
          b"eXIf",
          b"acTL", b"fcTL", b"fdAT", b"cHRM", b"bKGD", b"tIME")  # fmt: skip


def _change_png(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    chunks, at = [], 8
    while at + 8 <= len(given):
        length, kind = int.from_bytes(given[at : at + 4], "big"), given[at + 4 : at + 8]
        chunks.append((kind, given[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return mutate(given)
    n, what = rng.randrange(len(chunks)), rng.randrange(8)
    kind, content = chunks[n]
    if what == 0:
        del chunks[n]
    elif what == 1:
        chunks.insert(n, rng.choice(chunks))
    elif what == 2:
        chunks.insert(n, (rng.choice(CHUNKS), mutate(rng.choice((b"", b"a\0\0" + zlib.compress(b"b" * 99), content)))))
    elif what == 3:
        chunks[n] = (rng.choice(CHUNKS), content)
    elif kind == b"IHDR" and len(content) == 13 and what < 6:
        values = list(struct.unpack(">IIBBBBB", content))
        place = rng.randrange(7)
        values[place] = (
            rng.choice((0, 1, 9, 2**16, 2**31 - 1, 2**31)) if place < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16))
        )
        chunks[n] = (kind, struct.pack(">IIBBBBB", *values))
    elif kind == b"IDAT" and what < 6:
        try:
            chunks[n] = (kind, zlib.compress(mutate(zlib.decompress(content))))
        except zlib.error:
            chunks[n] = (kind, mutate(content))
    else:
        chunks[n] = (kind, mutate(content))
    made = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return given[:8] + b"".join(made)


def _change_riff(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    chunks, at = [], 12
    while at + 8 <= len(given):
        length = int.from_bytes(given[at + 4 : at + 8], "little")
        chunks.append((given[at : at + 4], given[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    if not chunks:
        return mutate(given)
    n = rng.randrange(len(chunks))
    chunks[n] = (chunks[n][0], mutate(chunks[n][1]))
    if rng.random() < 0.2:
        chunks.insert(n, rng.choice(chunks))
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for k, c in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# -- arrays -----------------------------------------------------------------------------------------------------------

NPY = (
    "|u1", "|i1", "<f4", "<f8", "<i8", "<i4", "<u8", ">i8", "|O", "<U3", "|S3", "|V8", "<M8[s]", "|b1", "<c16", "|u0",
    "<i16",
    "('u1', (2,))", "[('a', '<i8')]", "[('a', '|O')]", "[('a', '|u1', (1000000,))]",
)  # fmt: skip
SHAPES = ("()", "(0,)", "(20,)", "(-1,)", "(20, 8, 8)", "(20, 8, 8, 3)", "(1000000000, 8, 8)", "(20, -8, 8)", "(True,)",
          "(1.5,)", "20", "[20]", "(20, 8, 2**3)", "(9223372036854775807, 8, 8)", "(" + "1," * 100 + ")",
          "None")  # fmt: skip


def _change_npy(name: str, given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """An array in a file, with a header whose length is right."""
    wide = given[6:7] in (b"\2", b"\3")
    start = 12 if wide else 10
    length = int.from_bytes(given[8:start], "little")
    text, values = given[start : start + length], given[start + length :]
    if given[:6] != b"\x93NUMPY" or not text:
        return mutate(given)
    what, version = rng.randrange(7), given[6:8]
    try:
        about = dict(zip(("descr", "fortran_order", "shape"), _npy_header(text), strict=True))
    except (ValueError, IndexError):
        about, what = {}, rng.choice((0, 1, 2))
    if what == 0:
        text = mutate(text)
    elif what == 1:
        values = mutate(values)
    elif what == 2:
        version = rng.choice((b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\x09\x09"))
    else:
        about |= {3: {"descr": repr(d) if (d := rng.choice(NPY))[0] in "|<>" else d},
                  4: {"shape": rng.choice(SHAPES)}, 5: {"fortran_order": rng.choice(("True", "False", "1"))},
                  6: {"shape": rng.choice(SHAPES), "descr": repr(rng.choice(NPY[:8]))}}[what]  # fmt: skip
        text = f"{{{', '.join(f'{k!r}: {v}' for k, v in about.items())}, }}\n".encode()
    size = struct.pack("<I", len(text)) if version[0] in (2, 3) else struct.pack("<H", min(len(text), 65535))
    return given[:6] + version + size + text + values


def _npy_header(text: bytes) -> tuple[str, str, str]:
    """What stands behind the three words of a header, as it is written."""
    words = text.decode("latin-1")
    parts = [words.split(f"'{name}':", 1)[1] for name in ("descr", "fortran_order", "shape")]
    return (
        parts[0].split(", 'fortran", 1)[0].strip(),
        parts[1].split(",", 1)[0].strip(),
        parts[2].split(", }", 1)[0].strip(),
    )


def _arrays_seeds() -> Iterator[bytes]:
    yield hostile.good("arrays").content
    x = np.random.default_rng(0).integers(0, 255, (20, 4, 5, 3), np.uint8)
    for labels in (np.arange(20) % 3, (np.arange(20) % 2).astype(np.uint8), (np.arange(20) % 2).astype(">i4")):
        out = io.BytesIO()
        np.savez_compressed(out, images=np.asfortranarray(x), labels=labels)
        yield out.getvalue()
    yield from _corpus("arrays")


# -- messages and drawings --------------------------------------------------------------------------------------------

COMMANDS = ("play", "pause", "step", "stop", "reset", "set", "rate", "look", "seen", "op", "settings", "sample",
            "arrows",
            "anatomy", "sigma", "step_size", "steps", "self", "weight_contrast", "schedule", "cosine", "cls",
            "data")  # fmt: skip


def _message_seeds() -> Iterator[bytes]:
    for op in COMMANDS[:9]:
        yield _dumped({"op": op})
    yield _dumped({"op": "set", "settings": {"sigma": 0.1, "step_size": 1, "schedule": "cosine"}})
    yield _dumped({"op": "look", "sample": 3, "arrows": True, "anatomy": False})
    yield _dumped({"op": "rate", "rate": 30})
    yield from _corpus("message")


def _drawing_seeds() -> Iterator[bytes]:
    for many in (2, 3):
        yield _dumped([[round(math.cos(i), 3), round(math.sin(i), 3), i % many] for i in range(45)])
    yield _dumped([])
    yield from _corpus("drawing")


# -- a run's folder ---------------------------------------------------------------------------------------------------


def folder(files: Mapping[str, bytes | None]) -> bytes:
    """Files as one input: the lengths in a line of JSON, then what is in them; None for one that is missing."""
    lengths = [[k, None if v is None else len(v)] for k, v in files.items()]
    return _dumped(lengths) + b"\n" + b"".join(v or b"" for v in files.values())


def unfolded(given: bytes) -> dict[str, bytes | None]:
    """The inverse of `folder`; files of other names than a run's are left out."""
    head, _, body = given.partition(b"\n")
    files, at = {}, 0
    try:
        for name, length in json.loads(head):
            if name in FILES and length is None:
                files[name] = None
            elif name in FILES and type(length) is int and length >= 0:
                files[name], at = body[at : at + length], at + length
    except (ValueError, TypeError, RecursionError):
        pass
    return files


FILES = ("config.json", "run.json", "events.jsonl", "metrics.json", "marks.json", "share.json", "place.json",
         "study.json",
         "preferences.jsonl", "teacher.json", "index.json", "history.safetensors", "samples.safetensors",
         "student.safetensors")  # fmt: skip
KINDS_OF_RUNS = (
    "distill",
    "tune",
    "lineup",
    "steal",
    "compare",
    "edited",
    "snapshots",
    "settings",
    "finished",
    "own-" + "0" * 16,
)


def _small(name: str) -> bytes:
    """What stands in a file of a run to begin with."""
    made = {
        "marks.json": b'{"star": true, "note": "good"}', "share.json": b'{"pass": "abc", "since": 1.0}',
        "place.json": b'{"seen": 3, "stage": "synthesis"}', "preferences.jsonl": b"[1, 2]\n[2, 0]\n",
        "study.json": b'{"digest": "0", "config": {"data": {"name": "moons"}, "method": "cake"}}',
        "index.json": _dumped({"version": runs.INDEX_VERSION, "runs": {hostile.RUN: [10**18,
        asdict(runs.Entry(hostile.RUN))]}}),
    }  # fmt: skip
    return made[name] if name in made else hostile.run_files()[name]


def _change_run(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    files = unfolded(given)
    if not files or rng.random() < 0.1:
        name = rng.choice(FILES)
        files[name] = _small(name)
    name = rng.choice(list(files))
    if rng.random() < 0.02 or files[name] is None:
        return folder({**files, name: _small(name) if files[name] is None else None})
    content = files[name]
    if name.endswith(".safetensors"):
        content = _change_safetensors(content, rng, mutate)
    elif name.endswith(".jsonl"):
        lines = content.split(b"\n")
        at = rng.randrange(len(lines))
        lines[at] = _json(KINDS_OF_RUNS)(lines[at], rng, mutate)
        content = b"\n".join(lines)
    else:
        content = _json(KINDS_OF_RUNS)(content, rng, mutate)
    return folder({**files, name: content})


def _run_seeds() -> Iterator[bytes]:
    for name in FILES:
        yield folder({name: _small(name)})
    begun = json.loads(_small("config.json"))
    edited = b'{"time": 1.0, "event": "edited", "snapshots": 3, "settings": {"sigma": 0.2}}\n'
    yield folder({"events.jsonl": _small("events.jsonl") + edited})
    yield folder(
        {
            "events.jsonl": edited * 2,
            "config.json": _dumped({**begun, "planned": [[2, {"sigma": 1}]]}),
            "run.json": b"{",
        }
    )
    result = json.loads(_small("run.json"))
    result.pop("digests", None)
    for name in ("history.safetensors", "samples.safetensors", "student.safetensors", "teacher.json"):
        yield folder({"run.json": _dumped(result), name: _small(name)})
    yield folder({"config.json": _dumped({**begun, "kind": "tune"}), "study.json": _small("study.json")})
    yield folder({"run.json": None, "place.json": _small("place.json"), "events.jsonl": edited})
    yield folder({"config.json": None, "teacher.json": None, "metrics.json": None})


# -- what was to be seen of a run -------------------------------------------------------------------------------------


def _frames_content(given: bytes) -> dict[str, bytes]:
    return {"frames.bin": given}


def _change_frames(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """Messages with right lengths, of which one has another header or other arrays."""
    messages = list(keeping._messages(given))
    if not messages or rng.random() < 0.05:
        return mutate(given)
    n, what = rng.randrange(len(messages)), rng.randrange(6)
    try:
        header, arrays = frames.decode(messages[n])
    except Exception:  # it is damaged already
        messages[n] = mutate(messages[n])
        return _stacked(messages)
    if what == 0:
        messages.insert(n, rng.choice(messages))
    elif what == 1:
        messages[n] = mutate(messages[n])
    elif what == 2 and arrays:
        name = rng.choice(list(arrays))
        kind = rng.choice(("u1", "<u2", "<f4", "<f8", "<i8", "?"))
        shape = [rng.choice((0, 1, 2, 3, 10)) for _ in range(rng.randint(0, 4))]
        messages[n] = frames.encode(header, {**arrays, name: np.full(shape, rng.choice((0, 1, 200)), kind)})
    elif what == 3 and arrays:
        name = rng.choice(list(arrays))
        messages[n] = frames.encode(header, {k: v for k, v in arrays.items() if k != name})
    else:
        length = int.from_bytes(messages[n][4:8], "little")
        text = _dumped(twisted(json.loads(messages[n][8 : 8 + length]), rng, tuple(arrays)))
        text += b" " * (-len(text) % 4)
        messages[n] = frames.MAGIC + struct.pack("<I", len(text)) + text + messages[n][8 + length :]
    return _stacked(messages)


def _stacked(messages: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(m)) + m for m in messages)


def _frames_seeds() -> Iterator[bytes]:
    """A scene with a few frames, of points and of images."""
    surface = np.full((8, 8, 2), 128, np.uint8)
    base = {"type": "frame", "t": 1.0, "stage": "synthesis", "progress": 0.5, "version": 0, "step": 1, "total": 3,
            "batches": (0, 0), "losses": {"total": 1.5}, "values": {"near_boundary": 0.5,
            "forward_calls": 10}}  # fmt: skip
    scene = {"type": "scene", "kind": "points", "classes": ["a", "b"], "shape": [2], "half_width": 1.5, "reach": 4}
    arrays = {"xy": np.full((5, 2), 30000, "<u2"), "labels": np.array([0, 1, 0, 1, 0], "<u2")}
    line = {"teacher": surface, "boundary": np.zeros((3, 2, 2), "<f4"), "data": np.zeros((4, 2), "<u2"),
            "data_labels": np.zeros(4, np.uint8)}  # fmt: skip
    yield _stacked([frames.encode(scene, line), frames.encode(base, arrays),
                    frames.encode({**base, "step": 3, "progress": 1.0}, {**arrays, "student": surface})])  # fmt: skip
    scene = {"type": "scene", "kind": "images", "classes": ["a", "b"], "shape": [1, 8, 8], "near": 0.1}
    sheet = {"ids": np.arange(3, dtype="<u4"), "images": np.full((3, 1, 8, 8), 99, np.uint8),
             "range": np.tile(np.array([0, 1], "<f4"), (3, 1)), "labels": np.zeros(3, "<u2"),
             "probabilities": np.full((3, 2), 30000, "<u2"), "distance": np.zeros(3, "<f4")}  # fmt: skip
    head = {**base, "sheet": 3, "in_flight": 3, "each": 3, "group": 1, "contrast": False, "gradients": False}
    yield _stacked([frames.encode(scene), *(frames.encode({**head, "step": s}, sheet) for s in (1, 2, 3))])
    for case in _cases():
        if case.surface == "run" and "frames.bin" in case.content:
            yield case.content["frames.bin"]


# -- requests and answers ---------------------------------------------------------------------------------------------


def _request_seeds() -> Iterator[bytes]:
    npy = io.BytesIO()
    np.save(npy, np.zeros((2, 2), np.float32))
    yield b'{"content-type": "application/json"}\n' + _dumped({"inputs": [[0.1, 0.2], [1, 2]], "meant": [0, 1]})
    yield b'{"content-type": "application/x-npy", "accept": "application/x-npy", "x-meant": "0,1"}\n' + npy.getvalue()
    yield b'{"idempotency-key": "a", "authorization": "Bearer x"}\n' + _dumped({"inputs": [], "meant": []})


def _answer_seeds() -> Iterator[bytes]:
    npy = io.BytesIO()
    np.save(npy, np.full((3, 2), 0.5, np.float32))
    model = {"shape": [2], "classes": ["a", "b"], "answers": "soft"}
    usage = {"per_class": [3, 0], "budget": 10, "calls": 3}
    yield _dumped({"model": model, "usage": usage, "form": "json"}) + b"\n" + _dumped({"answers": [[0.5, 0.5]] * 3})
    yield _dumped({"model": model, "usage": usage, "form": "npy"}) + b"\n" + npy.getvalue()
    for status, wait in ((429, "1"), (402, ""), (503, "\u00b2"), (400, "")):
        yield _dumped({"model": model, "usage": usage, "status": status, "wait": wait}) + b'\n{"error": "spent"}'


def _json_or_npy(given: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    return _change_npy("", given, rng, mutate) if given[:6] == b"\x93NUMPY" else _json()(given, rng, mutate)


def _text(given: bytes) -> str:
    return given.decode(errors="replace")


def _drawn(given: bytes) -> str:
    """A browser sends JSON; what is none never arrives."""
    text = given.decode(errors="replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "null"
    return text


SURFACES: dict[str, Surface] = {
    "safetensors": Surface("teacher", _safetensors_seeds, _change_safetensors, file="net.safetensors", words=TYPES),
    "onnx": Surface("teacher", _onnx_seeds, _change_onnx, file="net.onnx", words=tuple(OPERATORS)),
    "zip": Surface("zip", _zip_seeds, _zip(lambda _, c, r, m: _change_picture(c, r, m), NAMES), file="set.zip"),
    "picture": Surface("picture", _picture_seeds, _change_picture, words=tuple(c.decode() for c in CHUNKS)),
    "table": Surface("table", _table_seeds, _lines(TABLE), file="points.csv", words=TABLE),
    "arrays": Surface(
        "arrays", _arrays_seeds, _zip(_change_npy, ("images.npy", "labels.npy", "x.npy", "images")), file="a.npz"
    ),
    "link": Surface("link", _link_seeds, _change_link, _flat, words=("&", "=", ".")),
    "message": Surface("message", _message_seeds, _json(COMMANDS), _text, words=COMMANDS),
    "lesson": Surface("lesson", _lesson_seeds, _lines(LESSON), words=LESSON),
    "drawing": Surface("drawing", _drawing_seeds, _json(tuple(drawing.CLASSES)), _drawn),
    "run": Surface("run", _run_seeds, _change_run, unfolded, words=KINDS_OF_RUNS),
    "frames": Surface("run", _frames_seeds, _change_frames, _frames_content),
    "request": Surface("request", _request_seeds, _headed(_json_or_npy, ("application/x-npy", "0,1")), _split),
    "answer": Surface("answer", _answer_seeds, _headed(_json_or_npy, ("npy", "json", "soft", "hard")), _split),
}
