"""Image sets of one's own: <folder>/{train,test}.npz, each with `images` and `labels`.

`images` is uint8 (N, H, W) or (N, H, W, channels) with one or three channels, `labels` whole numbers (N,) from 0.
`classes.txt`, where it is there, has one name per line. What a file claims is read from its headers and checked before
any array is; nothing is ever unpickled.
"""

from __future__ import annotations

import math
import re
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import CakeError
from .base import Dataset, DatasetInfo

if TYPE_CHECKING:
    from . import DataConfig

__all__ = ["describe", "discover", "is_here", "new_folder", "normalisation", "npy_values", "read", "write"]

MOST_BYTES = 4 * 2**30  # of one array, unpacked
SIDES = (4, 512)  # pixels
MOST_CLASSES = 1000
AT_ONCE = 2**26  # bytes that are unpacked at once
PARTS = ("train", "test")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def is_here(folder: Path) -> bool:
    """Whether a folder holds a set in this form."""
    return all((folder / f"{part}.npz").is_file() for part in PARTS)


def discover(root: Path, known: Container[str] = ()) -> tuple[list[DatasetInfo], dict[str, str]]:
    """The sets below a folder, each named as its own folder, and what is wrong with those that can't be used.

    Args:
        root: the folder.
        known: names that are taken; folders of these names are not looked into.
    """
    found, refused = [], {}
    inside = root.iterdir() if root.is_dir() else []
    folders = sorted(p for p in inside if p.name not in known and not p.name.startswith(".") and is_here(p))
    for folder in folders:
        if not NAME.fullmatch(folder.name):
            refused[folder.name] = f"A data set's folder has a name of a-z, 0-9, - and _; rename '{folder.name}'."
            continue
        try:
            shape, classes = describe(folder)
        except CakeError as error:
            refused[folder.name] = str(error)
            continue
        source = f"your own: {folder.name}/train.npz and test.npz"
        found.append(DatasetInfo(folder.name, folder.name, "images", shape, classes, source, _loader(folder)))
    return found, refused


def describe(folder: Path) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Shape (channels, height, width) and names of the classes, from headers and labels alone.

    Raises:
        CakeError: the files are damaged, or they hold something else.
    """
    shapes = {part: _headers(folder / f"{part}.npz") for part in PARTS}
    if shapes["train"] != shapes["test"]:
        texts = [" x ".join(map(str, shapes[part])) for part in PARTS]
        raise CakeError(f"{folder.name}: training images are {texts[0]}, test images {texts[1]}. Give both one size.")
    labels = {part: _labels(folder / f"{part}.npz") for part in PARTS}
    if len(np.unique(labels["train"])) < 2:
        raise CakeError(f"{folder.name}: all training labels are the same. A classifier needs at least two classes.")
    count = int(max(values.max() for values in labels.values())) + 1
    if count > MOST_CLASSES:
        raise CakeError(f"{folder.name}: labels go up to {count - 1}; at most {MOST_CLASSES} classes, counted from 0.")
    if missing := sorted(set(labels["test"].tolist()) - set(labels["train"].tolist())):
        raise CakeError(f"{folder.name}: class {missing[0]} is in test.npz but not in train.npz. Add examples of it.")
    names = folder / "classes.txt"
    if not names.is_file():
        return shapes["train"], tuple(map(str, range(count)))
    classes = tuple(
        line.strip() for line in names.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    )
    if len(classes) < count:
        raise CakeError(f"{folder.name}: classes.txt names {len(classes)} classes, the labels need {count}.")
    return shapes["train"], classes


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """One part: uint8 images (N, channels, H, W) and int64 labels (N,).

    Raises:
        CakeError: the file is damaged, or it holds something else.
    """
    path = folder / f"{part}.npz"
    _headers(path)
    x = torch.from_numpy(_array(path, "images"))
    x = x[:, None] if x.dim() == 3 else x.permute(0, 3, 1, 2).contiguous()
    return x, torch.from_numpy(_labels(path).astype(np.int64))


def new_folder(root: Path, name: str) -> Path:
    """Where a new set of this name would lie.

    Raises:
        CakeError: it can't have this name, or there is one already.
    """
    if not NAME.fullmatch(name):
        raise CakeError(f"A data set has a name of a-z, 0-9, - and _; '{name}' is not. Choose another one.")
    if (root / name).exists():
        raise CakeError(f"There is '{root / name}' already. Choose another name, or remove it first.")
    return root / name


def write(
    root: Path, name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: Sequence[str]
) -> Path:
    """Writes a set in this form, whole or not at all; the program finds it when it starts the next time.

    Args:
        root: the folder of all sets.
        name: of the new one.
        train, test: uint8 images (N, channels, H, W) and labels (N,) from 0.
        classes: names of the classes.

    Returns:
        Its folder.

    Raises:
        CakeError: it can't have this name, there is one already, or it can't be written.
    """
    folder = new_folder(root, name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=root, ignore_cleanup_errors=True) as place:
            part = Path(place) / name
            part.mkdir()
            for stem, (x, y) in zip(PARTS, (train, test), strict=True):
                images = x.permute(0, 2, 3, 1) if x.shape[1] == 3 else x[:, 0]
                np.savez_compressed(part / f"{stem}.npz", images=images.cpu().numpy(), labels=y.cpu().numpy())
            lines = [" ".join(line.split()) or str(k) for k, line in enumerate(classes)]
            (part / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            part.rename(folder)
    except OSError as error:
        raise CakeError(f"'{folder}' can't be written ({error.strerror}). Look at CAKE_DATA_DIR.") from None
    return folder


def normalisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (C, 1, 1), of uint8 images (N, C, H, W) taken from 0 to 1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = [x[:, c].flatten().bincount(minlength=256).double() for c in range(x.shape[1])]
    means = [(values * s).sum() / s.sum() for s in shares]
    deviations = [((values - m).square() * s).sum().div(s.sum()).sqrt() for s, m in zip(shares, means, strict=True)]
    mean, std = (torch.stack(v).float().view(-1, 1, 1) for v in (means, deviations))
    return mean, std.clamp(min=1 / 255)  # a channel that is all one colour


def _loader(folder: Path) -> Callable[[DataConfig], Dataset]:
    def load(config: DataConfig) -> Dataset:
        from . import info

        (train_x, train_y), (test_x, test_y) = (read(folder, part) for part in PARTS)
        mean, std = normalisation(train_x)
        return Dataset(info(config.name), train_x, train_y, test_x, test_y, mean, std)

    return load


# -- reading what others wrote ----------------------------------------------------------------------------------------


def _headers(path: Path) -> tuple[int, int, int]:
    """Checks what a file says it holds; returns the shape of an image (channels, H, W)."""
    where = f"{path.parent.name}/{path.name}"
    try:
        with zipfile.ZipFile(path) as archive:
            (shape, dtype), (labels, kind) = (_header(archive, name) for name in ("images", "labels"))
    except KeyError:
        raise CakeError(f"{where} must hold the two arrays 'images' and 'labels'; save it with numpy.savez.") from None
    except UNREADABLE as error:
        raise CakeError(f"{where} can't be read ({error}). Save it again with numpy.savez.") from None
    size = np.prod(shape, dtype=object) * dtype.itemsize
    if size > MOST_BYTES:
        raise CakeError(
            f"{where}: the images take {size / 2**30:,.1f} GiB; at most {MOST_BYTES >> 30} GiB can be read."
        )
    if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise CakeError(
            f"{where}: images must be uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), not {dtype} {shape}."
        )
    if not all(SIDES[0] <= side <= SIDES[1] for side in shape[1:3]):
        raise CakeError(
            f"{where}: images are {shape[1]} x {shape[2]} pixels; {SIDES[0]} to {SIDES[1]} a side can be used."
        )
    if kind.kind not in "iu" or len(labels) != 1 or labels[0] != shape[0] or not shape[0]:
        raise CakeError(f"{where}: labels must be {shape[0]} whole numbers, one for each image, not {kind} {labels}.")
    return (shape[3] if len(shape) == 4 else 1, *shape[1:3])


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """What an .npy file says that it holds: its shape, whether in Fortran's order, and its type. Then come the values.

    Args:
        file: at its beginning.

    Raises:
        ValueError: the header is damaged.
    """
    try:
        version = np.lib.format.read_magic(file)
        reading = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reading(file)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"its header is damaged: {str(error)[:200]}") from None
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"its header is damaged: {shape} is no shape")
    return shape, fortran, dtype


def npy_values(file: IO[bytes], size: int) -> np.ndarray:
    """The numbers of an .npy file. Pickles are never opened, and no more memory is taken than there are values.

    Args:
        file: at its beginning.
        size: bytes that it has, unpacked.

    Raises:
        ValueError: the file is damaged, or holds no numbers.
    """
    shape, fortran, dtype = npy_header(file)
    if dtype.kind not in "biufc" or dtype.subdtype:
        raise ValueError(f"it holds {dtype}, which are no numbers")
    promised, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if promised != there:
        raise ValueError(f"its header promises {promised:,} bytes of values, and there are {there:,}")
    values = np.empty(math.prod(shape), dtype)
    raw, at = memoryview(values).cast("B") if values.size else memoryview(b""), 0
    while at < len(raw) and (part := file.read(min(AT_ONCE, len(raw) - at))):
        raw[at : at + len(part)] = part
        at += len(part)
    if at < len(raw) or file.read(1):
        raise ValueError("it was cut short")
    return np.ascontiguousarray(values.reshape(shape, order="F" if fortran else "C"))


# What files of arrays raise that are damaged: theirs, and those of the zip files that they are.
UNREADABLE = (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
              IndexError, struct.error)  # fmt: skip


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Where an array lies, which is there once and packed as numpy does it."""
    found = archive.getinfo(f"{name}.npy")
    if archive.namelist().count(found.filename) > 1:
        raise ValueError(f"it holds '{name}' twice")
    if found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"'{name}' is packed in a rare way")
    return found


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    member = _member(archive, name)
    with archive.open(member) as f:
        shape, _, dtype = npy_header(f)
    return shape, dtype


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member := _member(archive, name)) as f:
            return npy_values(f, member.file_size)
    except UNREADABLE as error:
        raise CakeError(f"{path.parent.name}/{path.name} can't be read ({error}). Save it again.") from None


def _labels(path: Path) -> np.ndarray:
    labels = _array(path, "labels")
    if labels.min() < 0:
        raise CakeError(f"{path.parent.name}/{path.name}: labels are counted from 0; {labels.min()} is below it.")
    return labels
