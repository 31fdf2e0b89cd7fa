"""Data sets that people bring while the program runs: one folder each, found by a name that can't be guessed.

A folder holds `data.safetensors` (raw examples and labels) and `meta.json` (everything else, the owner too), which is
written last: a folder without it is no data set. Any process finds a set by its name at any time. Pages find one for
its owner, and for whoever has the pass of a link that its owner shares (`share.json`); see `cake_core.access`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import access, runs
from ..errors import CakeError
from .arrays import MOST_CLASSES, SIDES, normalisation
from .base import Dataset, DatasetInfo

if TYPE_CHECKING:
    from . import DataConfig

__all__ = [
    "create",
    "delete",
    "find",
    "folder",
    "is_own",
    "names",
    "owner",
    "share",
    "shared",
    "unshare",
    "used_bytes",
]

NAME = re.compile(r"own-[0-9a-f]{16}")
PARTS = ("train", "test")
TINY = 8  # pixels a side, up to which the presets of scikit-learn's digits suit better than those of MNIST
LONGEST_TITLE = 60  # characters

Part = tuple[Tensor, Tensor]  # raw examples and labels


def folder() -> Path:
    """Where these sets lie: the environment variable CAKE_UPLOADS_DIR, or a folder of this user."""
    return Path(os.environ.get("CAKE_UPLOADS_DIR") or platformdirs.user_data_path("cake-lab") / "uploads")


def is_own(name: str) -> bool:
    """Whether a name has the form of those that `create` gives."""
    return NAME.fullmatch(name) is not None


def create(
    title: str,
    kind: Literal["points", "images"],
    shape: Sequence[int],
    classes: Sequence[str],
    *,
    train: Part | None = None,
    test: Part | None = None,
    mean: Sequence[float] | Tensor | None = None,
    std: Sequence[float] | Tensor | None = None,
) -> str:
    """Stores a data set, whole or not at all, for whoever runs are made for here and now (`runs.owned_by`).

    Args:
        title: for people.
        kind: "points" or "images".
        shape: of one example: (2,) or (channels, height, width).
        classes: names of the classes.
        train, test: raw examples, uint8 (N, C, H, W) or float32 (N, 2), and whole labels (N,) from 0. Without both,
            the set has no examples: it only says what a teacher that nobody has the data of takes and answers.
        mean, std: normalisation, one number per channel (of pixels in [0, 1]) or per feature. Left out: those of the
            training examples; without examples 0 and 1, which change nothing.

    Returns:
        Its name, "own-" and 16 hexadecimal digits that can't be guessed.

    Raises:
        CakeError: shape, classes, examples and labels do not fit together, or the disk is full.
    """
    shape, classes = tuple(map(int, shape)), [_tidy(c) or f"class {i}" for i, c in enumerate(classes)]
    if (train is None) != (test is None):
        raise CakeError("Examples are needed both to train and to test on. Give both, or none.")
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise CakeError(f"A classifier tells 2 to {MOST_CLASSES} classes apart, not {len(classes)}.")
    _check_shape(kind, shape)
    raw: dict[str, Tensor] = {}
    for part, examples in zip(PARTS, (train, test), strict=True):
        if examples is not None:
            raw[f"{part}_x"], raw[f"{part}_y"] = _checked(part, kind, shape, len(classes), examples)
    ours = _normalisation(kind, shape[0], raw.get("train_x"))
    wanted = [_numbers(given, own, shape[0]) for given, own in zip((mean, std), ours, strict=True)]
    if min(wanted[1]) <= 0:
        raise CakeError("A standard deviation must be above 0. Give those of the training examples.")
    meta = {
        "title": _tidy(title) or "My data",
        "kind": kind,
        "shape": shape,
        "classes": classes,
        "mean": wanted[0],
        "std": wanted[1],
        "owner": runs.owner(),
        "has_examples": train is not None,
        "examples": len(raw["train_y"]) if raw else 0,
    }
    name = f"own-{secrets.token_hex(8)}"
    place = folder() / name
    place.mkdir(parents=True)
    try:
        if raw:
            save_file(raw, place / "data.safetensors")
        runs.write_json(place / "meta.json", meta)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise CakeError(f"The data can't be stored on the server ({error}). Free some space and try again.") from None
    return name


def find(name: str) -> DatasetInfo | None:
    """The description of a set of this name; None where the name is none of ours, the set has gone, or whoever asks
    may not see it."""
    meta = _meta(name)
    if meta is None or not access.may_see(meta.get("owner", ""), shared(name), access.reader()):
        return None
    place = folder() / name
    return DatasetInfo(
        name,
        meta["title"],
        meta["kind"],
        tuple(meta["shape"]),
        tuple(meta["classes"]),
        "brought by somebody who uses this app",
        _loader(place, meta),
        examples=meta["examples"],
        like="digits" if meta["kind"] == "images" and max(meta["shape"][1:]) <= TINY else "",
        has_examples=meta["has_examples"],
    )


def used_bytes(key: str | None = None) -> int:
    """What all sets together take on the disk, or those that an owner has brought (see `runs.key_of`)."""
    found = [f for f in folder().glob("own-*/*") if f.is_file()]
    if key is not None:
        whose = {p: runs.read_json(p / "meta.json").get("owner") for p in {f.parent for f in found}}
        found = [f for f in found if whose[f.parent] == key]
    return sum(f.stat().st_size for f in found)


def delete(name: str) -> None:
    """Removes a set and all that is stored of it; nothing happens where there is none.

    Raises:
        CakeError: it is somebody else's.
    """
    if is_own(name) and (folder() / name).exists():
        if access.reader() is not None:
            _changeable(name)
        shutil.rmtree(folder() / name, ignore_errors=True)


# -- whose it is ------------------------------------------------------------------------------------------------------


def owner(name: str) -> str:
    """The key of a set's owner; empty where it is nobody's, or has gone."""
    if name not in _owners and (meta := _meta(name)) is not None:
        _owners[name] = meta.get("owner", "")
    return _owners.get(name, "")


_owners: dict[str, str] = {}  # by a set's name, for which it never changes


def names(key: str) -> list[str]:
    """The sets of an owner, the oldest first."""
    places = [p for p in folder().glob("own-*") if key and owner(p.name) == key]
    return [p.name for p in sorted(places, key=lambda p: p.stat().st_mtime)]


def share(name: str) -> str:
    """Opens a set to everybody who has its pass, which the link holds; one that is shared keeps the pass it has.

    Raises:
        CakeError: it is somebody else's, or has gone.
    """
    place = _changeable(name)
    if not (known := shared(name)):
        known = access.new_pass()
        runs.write_json(place / "share.json", {"pass": known})
    return known


def unshare(name: str) -> None:
    """Closes a set again: links to it open nothing any more.

    Raises:
        CakeError: it is somebody else's, or has gone.
    """
    (_changeable(name) / "share.json").unlink(missing_ok=True)


def shared(name: str) -> str:
    """The pass of a set; empty where it is not shared."""
    return runs.read_json(folder() / name / "share.json").get("pass", "") if is_own(name) else ""


def _changeable(name: str) -> Path:
    asks = access.reader()
    if find(name) is None or (asks is not None and owner(name) not in ("", asks.key)):
        raise CakeError("These data belong to somebody else, or have been removed.")
    return folder() / name


def _meta(name: str) -> dict[str, Any] | None:
    if not is_own(name):
        return None
    try:
        return json.loads((folder() / name / "meta.json").read_text())
    except (OSError, ValueError):
        return None


# -- inside -----------------------------------------------------------------------------------------------------------


def _loader(place: Path, meta: dict[str, Any]) -> Callable[[DataConfig], Dataset]:
    def load(config: DataConfig) -> Dataset:
        from . import info

        if meta["has_examples"]:
            try:
                raw = load_file(place / "data.safetensors")
            except (OSError, SafetensorError):
                raise CakeError(
                    f"The data of '{meta['title']}' can't be read any more. Bring the file once more."
                ) from None
        else:
            dtype = torch.uint8 if meta["kind"] == "images" else torch.float32
            none = (torch.zeros(0, *meta["shape"], dtype=dtype), torch.zeros(0, dtype=torch.int64))
            raw = {f"{part}_{what}": t for part in PARTS for what, t in zip("xy", none, strict=True)}
        # Per channel (C, 1, 1) for images, per feature (2,) for points.
        each = (-1, 1, 1) if meta["kind"] == "images" else (-1,)
        mean, std = (torch.tensor(meta[k], dtype=torch.float32).view(each) for k in ("mean", "std"))
        return Dataset(info(config.name), *(raw[k] for k in ("train_x", "train_y", "test_x", "test_y")), mean, std)

    return load


def _check_shape(kind: str, shape: tuple[int, ...]) -> None:
    if kind == "points" and shape != (2,):
        raise CakeError(f"Points have two coordinates; these examples have the shape {shape}.")
    fits = len(shape) == 3 and shape[0] in (1, 3) and all(SIDES[0] <= side <= SIDES[1] for side in shape[1:])
    if kind == "images" and not fits:
        raise CakeError(f"Images have one or three channels and {SIDES[0]} to {SIDES[1]} pixels a side, not {shape}.")


def _checked(part: str, kind: str, shape: tuple[int, ...], classes: int, examples: Part) -> Part:
    x, y = examples
    dtype = torch.uint8 if kind == "images" else torch.float32
    if x.dtype != dtype or tuple(x.shape[1:]) != shape or y.shape != x.shape[:1] or not len(x):
        raise CakeError(
            f"The {part} part must hold {dtype} examples of shape {shape} with a label each, not {x.dtype} "
            f"{tuple(x.shape)} and {len(y)} labels."
        )
    if x.is_floating_point() and not x.isfinite().all():
        raise CakeError(f"The {part} part holds values that are no finite numbers. Take them out.")
    if y.is_floating_point() or not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise CakeError(f"Labels of the {part} part must be whole numbers from 0 to {classes - 1}.")
    # Copies: safetensors refuses parts that share memory.
    return torch.clone(x.cpu(), memory_format=torch.contiguous_format), y.to("cpu", torch.int64, copy=True).contiguous()


def _normalisation(kind: str, features: int, x: Tensor | None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of raw examples, one number per channel or feature."""
    if x is None:
        return [0.0] * features, [1.0] * features
    if kind == "images":
        mean, std = normalisation(x)
    else:
        # As for the sets drawn here; a feature that never changes is left as it is.
        std, mean = torch.std_mean(x.double(), dim=0, correction=0)
        std = torch.where(std > 0, std, 1.0)
    return mean.flatten().tolist(), std.flatten().tolist()


def _numbers(given: Sequence[float] | Tensor | None, own: list[float], count: int) -> list[float]:
    if given is None:
        return own
    numbers = torch.as_tensor(given, dtype=torch.float64).flatten()
    if len(numbers) == 1:
        numbers = numbers.expand(count)
    if len(numbers) != count or not numbers.isfinite().all():
        raise CakeError(f"The normalisation must be {count} finite number(s), one for each channel or feature.")
    return numbers.tolist()


def _tidy(text: str) -> str:
    """One line of printable characters, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line[:LONGEST_TITLE].strip()
