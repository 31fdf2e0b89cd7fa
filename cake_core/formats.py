"""What a file that somebody brings is, by its content and its name, before anything believes it.

Only bytes and the header of safetensors are read here. Nothing is ever unpickled.

References: | the format safetensors | https://huggingface.co/docs/safetensors
            | why a pickle is never opened | https://docs.python.org/3/library/pickle.html
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import CakeError

__all__ = ["HEAD", "MOST_BYTES", "TAIL", "Format", "Tensor", "header", "judge", "plain", "recognise", "some"]

MOST_BYTES = 300 * 2**20  # as much as .streamlit/config.toml lets a browser send
HEAD, TAIL = 512, 2**16
MOST_HEADER = 10 * 2**20
Format = Literal["safetensors", "onnx"]

HOW = (
    'For an architecture listed here: `safetensors.torch.save_file(model.state_dict(), "teacher.safetensors")`. '
    'For any other: `torch.onnx.export(model, (example,), "teacher.onnx", external_data=False, '
    'dynamic_shapes=({0: "batch"},))`.'
)
NEVER = f"Opening a pickle runs whatever code its author put there, so CAKE Lab never does. {HOW}"

# What a file begins with, and what that says.
BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes it",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file of a language model",
    b"\x1f\x8b": "a compressed file (gzip)",
    b"BZh": "a compressed file (bzip2)",
    b"\xfd7zXZ": "a compressed file (xz)",
    b"\x28\xb5\x2f\xfd": "a compressed file (zstd)",
    b"7z\xbc\xaf": "a compressed file (7z)",
    b"Rar!": "a compressed file (rar)",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF document",
    b"MZ": "a program",
    b"\x7fELF": "a program",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (fetch it with `git lfs pull`)",
}
TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # before torch 1.6
OLD_PICKLE = re.compile(rb"[(\]}]+(?:[dlt]p?\d?|q\x00)|c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n")  # protocols 0 and 1
PICKLE_ENDINGS = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".pt2", ".npz")
WHOLE_ENDINGS = {".h5": "Keras", ".hdf5": "Keras", ".keras": "Keras", ".pb": "TensorFlow", ".tflite": "TensorFlow Lite"}


def recognise(path: Path, name: str = "") -> Format:
    """The format of a file: its content and the ending of its name must say the same.

    Args:
        path: where it lies.
        name: what it was called where it comes from (empty: as it is called now).

    Raises:
        CakeError: it is too large, or neither safetensors nor ONNX; it says what it is instead, and what to do.
    """
    size = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(HEAD)
        f.seek(max(0, size - TAIL))
        return judge(name or path.name, size, head, f.read())


def judge(name: str, size: int, head: bytes, tail: bytes) -> Format:
    """As `recognise`, for a file that is not on a disk.

    Args:
        name: what it was called.
        size: in bytes.
        head: its first `HEAD` bytes.
        tail: its last `TAIL` bytes.
    """
    name = plain(name)
    if size > MOST_BYTES:
        raise CakeError(f"{name} has {size / 2**20:,.0f} MB; at most {MOST_BYTES >> 20} MB can be taken.")
    if not size:
        raise CakeError(f"{name} is empty. Save the teacher again.")
    ending = Path(name).suffix.lower()
    if _begins_as_safetensors(head):
        if ending != ".safetensors":
            raise CakeError(
                f"{name} begins like a safetensors file, but its name does not end in .safetensors. If that is what "
                "it is, rename it."
            )
        return "safetensors"
    if pickled := _pickled(head, head + tail):
        raise CakeError(f"{name} is {pickled}. {NEVER}")
    for beginning, what in BEGINNINGS.items():
        if head.startswith(beginning):
            raise CakeError(f"{name} is {what}, not a teacher's weights. {HOW}")
    if head[4:8] == b"TFL3" or ending in WHOLE_ENDINGS:
        maker = WHOLE_ENDINGS.get(ending, "TensorFlow Lite")
        raise CakeError(f"{name} is a file of {maker}, which can't be read here. Convert it to ONNX, with tf2onnx.")
    if head.lstrip()[:1] == b"<" or head.lstrip()[:9].lower() == b"<!doctype":
        raise CakeError(f"{name} is a web page, not a file of weights. Download the file itself.")
    if ending in PICKLE_ENDINGS:
        raise CakeError(f"{name}: files that end in {ending} hold pickles. {NEVER}")
    if ending == ".safetensors":
        raise CakeError(f"{name} does not begin like a safetensors file. It is damaged, or it was renamed. {HOW}")
    if ending != ".onnx":
        raise CakeError(f"{name} is neither a safetensors nor an ONNX file. {HOW}")
    return "onnx"  # it has no mark of its own at its beginning: whether it is one shows when it is read


def plain(name: str) -> str:
    """A file's name without its folders, fit to be shown: printable, not too long, without signs that format text."""
    base = re.split(r"[/\\]", str(name))[-1]
    base = re.sub(r"[^\w. ()+-]", "_", base).strip() or "the file"
    return base if len(base) <= 60 else f"{base[:28]}...{base[-28:]}"


def some(names: list[str], most: int = 3) -> str:
    """A few names, then how many more there are."""
    shown = ", ".join(f"`{plain(n)}`" for n in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


# -- safetensors ------------------------------------------------------------------------------------------------------

SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """What a header says about one tensor: its type, as safetensors calls it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def header(path: Path, name: str = "") -> dict[str, Tensor]:
    """The tensors that a safetensors file says it holds, checked against the file's size.

    The file is an 8-byte length (little-endian), a JSON header of that length, and the tensors' bytes, which the
    header's offsets must divide without a gap.

    Args:
        path: where it lies.
        name: what to call it.

    Raises:
        CakeError: the header is damaged, or promises more or less than there is.
    """
    name = plain(name or path.name)
    size = path.stat().st_size
    with path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if length > size - 8:
            raise CakeError(f"{name} was cut short: its header alone takes {length:,} bytes, the file has {size:,}.")
        if length > MOST_HEADER:
            raise CakeError(f"{name}: its header takes {length:,} bytes; at most {MOST_HEADER:,} are read.")
        text = f.read(length)
    damaged = CakeError(f"{name}: its header is damaged. Save it again with safetensors.")
    try:
        entries = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(entries, dict):
        raise damaged
    entries.pop("__metadata__", None)
    if not entries:
        raise CakeError(f"{name} holds no tensors. Save the teacher's state_dict.")
    places = []
    for key, entry in entries.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)]}:
                pass
            case _:
                raise damaged
        if dtype not in SIZES:
            raise CakeError(f"{name}: {some([key])} is of type {plain(dtype)}, which is not known here. {HOW}")
        if not all(type(n) is int and 0 <= n <= size for n in shape) or not 0 <= start <= stop or len(shape) > 16:
            raise damaged
        if stop - start != math.prod(shape) * SIZES[dtype]:
            raise CakeError(f"{name}: the size of {some([key])} does not go with its shape {tuple(shape)}. {AGAIN}")
        places.append((start, stop))
    reached = 0
    for start, stop in sorted(places):
        if start != reached:
            raise CakeError(f"{name}: the tensors in it overlap or leave gaps. {AGAIN}")
        reached = stop
    there = size - 8 - length
    if reached > there:
        raise CakeError(
            f"{name} was cut short: its tensors take {reached:,} bytes, and {there:,} are there. Copy it again."
        )
    if reached < there:
        raise CakeError(f"{name} holds {there - reached:,} bytes that belong to no tensor. {AGAIN}")
    return {key: Tensor(entry["dtype"], tuple(entry["shape"])) for key, entry in entries.items()}


AGAIN = "It is damaged: save it again with safetensors."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands there twice")
    return values


def _begins_as_safetensors(head: bytes) -> bool:
    """An 8-byte length, then "{". No pickle looks like that: the zeros of the length are none of its operations."""
    return len(head) > 8 and head[8:9] == b"{" and head[4:8] == b"\0\0\0\0"


def _pickled(head: bytes, ends: bytes) -> str:
    """What kind of pickle a file is; empty where it is none."""
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        if b"data.pkl" in ends:
            return "a pickle inside a zip archive, as torch.save writes it"
        if b"model.weights.h5" in ends:
            return "a zip archive of Keras; convert it to ONNX with tf2onnx. Other zip archives hold pickles"
        return "a zip archive, as torch.save and numpy.savez write it around pickles"
    if head.startswith(TORCH_MAGIC):
        return "a pickle, as torch.save wrote it before torch 1.6"
    if head[:1] == b"\x80" and head[1:2] in (b"\1", b"\2", b"\3", b"\4", b"\5"):
        return f"a pickle (protocol {head[1]})"
    if head[257:262] == b"ustar":
        return "a tar archive, as the first versions of torch.save wrote it around pickles"
    if OLD_PICKLE.match(head):
        return "a pickle (protocol 0 or 1)"
    return ""
