"""Images in folders, one folder for each class: from a disk or from a zip file, which is read in memory.

What comes from others is judged before it is used: names and sizes of a zip's members before any is unpacked, the
bytes of a member while it is, the size of an image before it is decoded. Nothing is ever written to disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import CakeError
from .arrays import MOST_CLASSES
from .examples import LEAST_PER_CLASS, TEST_SHARE, Examples, divide, in_order, rarest, shuffled

__all__ = ["SIDES", "Bounds", "Conversion", "ImageReading"]

SIDES = (8, 16, 28, 32, 64)  # pixels
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".jar")
JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
TRAIN, TEST, SPARE = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")
TINT = 8  # of 255
SUSPICIOUS_RATIO = 200  # images hardly shrink in a zip
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # how a zip file begins; the second one is empty


# What Pillow's readers, and those of zip files, raise at damaged files.
BROKEN = (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error,
          zlib.error, OverflowError)  # fmt: skip


@dataclass(frozen=True)
class Bounds:
    """What is read at most.

    Attributes:
        files: files, images or not.
        images: images.
        bytes: of all files, unpacked.
        file_bytes: of one file.
        pixels: of one image.
        all_pixels: of all images, as they are before they are made small.
        tensor_bytes: of all images, after they were made small.
    """

    files: int = 60_000
    images: int = 20_000
    bytes: int = 300_000_000
    file_bytes: int = 30_000_000
    pixels: int = 40_000_000
    all_pixels: int = 1_000_000_000
    tensor_bytes: int = 100_000_000

    @classmethod
    def generous(cls) -> Bounds:
        """For one's own files on one's own machine."""
        return cls(
            files=2_000_000,
            images=1_000_000,
            bytes=500 * 2**30,
            file_bytes=200_000_000,
            pixels=80_000_000,
            all_pixels=10**13,
            tensor_bytes=4 * 2**30,
        )


@dataclass(frozen=True)
class Conversion:
    """What images are turned into.

    Attributes:
        side: pixels a side; None for 28 where all images are grey and 32 otherwise.
        colour: "grey" or "colour"; "auto" for grey where all images are.
        fit: "crop" takes the largest square around the centre, "stretch" squeezes the whole image into a square.
    """

    side: int | None = None
    colour: Literal["auto", "grey", "colour"] = "auto"
    fit: Literal["crop", "stretch"] = "crop"

    def __post_init__(self) -> None:
        if self.side not in (None, *SIDES):
            raise CakeError(f"Images can be made {', '.join(map(str, SIDES))} pixels a side, not {self.side}.")
        for name, choices in (("colour", ("auto", "grey", "colour")), ("fit", ("crop", "stretch"))):
            if getattr(self, name) not in choices:
                raise CakeError(f"'{name}' must be one of {', '.join(choices)}; {getattr(self, name)!r} is not.")


class ImageReading(Iterator[float]):
    """Reads images, one class in each folder; yields the share done. When it is exhausted, `examples` holds them.

    `train/` and `test/` may stand above the folders of the classes. Where they do not, `TEST_SHARE` of each class is
    set aside for testing.

    Args:
        source: a zip file (as bytes or opened), or the path of a zip file or a folder.
        conversion: what the images are turned into.
        seed: which images are set aside for testing.
        bounds: what is read at most.

    Raises:
        CakeError: the source is not what it should be; the sentence names the file.
    """

    def __init__(
        self,
        source: bytes | BinaryIO | Path,
        conversion: Conversion | None = None,
        *,
        seed: int = 0,
        bounds: Bounds | None = None,
    ):
        self.examples: Examples | None = None
        self._conversion, self._seed, self._bounds = conversion or Conversion(), seed, bounds or Bounds()
        self._files = _open(source, self._bounds)
        self._steps = self._loop()

    def __next__(self) -> float:
        return next(self._steps)

    def close(self) -> None:
        """Cancels the reading."""
        self._steps.close()

    def _loop(self) -> Iterator[float]:
        with contextlib.closing(self._files):
            layout = _Layout.of(self._files.names(), self._bounds)
            shelf = _Shelf(self._conversion, len(layout.images), self._bounds)
            for number, image in enumerate(layout.images):
                shelf.put(number, image.name, self._files.read(image.name))
                if number % 20 == 0:
                    yield number / len(layout.images)
        x = torch.from_numpy(shelf.result())
        number_of = {name: number for number, name in enumerate(layout.classes)}
        y = torch.tensor([number_of[image.label] for image in layout.images])
        tested = torch.tensor([image.tested for image in layout.images])
        notes = list(layout.notes)
        if tested.any():
            train, test = (shuffled(part.nonzero().flatten(), self._seed) for part in (~tested, tested))
            notes.append("The folders train and test say which images are for what.")
        else:
            train, test = divide(y, self._seed)
            share = f"{100 * TEST_SHARE:.0f} %"
            notes.append(f"{share} of each class, chosen by seed {self._seed}, are set aside for testing.")
        parts = ((x[index], y[index]) for index in (train, test))
        self.examples = Examples("images", tuple(x.shape[1:]), layout.classes, *parts, tuple(notes))
        yield 1.0


# -- where files come from --------------------------------------------------------------------------------------------


class _Files(ABC):
    """Files by name; the parts of a name are divided by "/"."""

    @abstractmethod
    def names(self) -> list[str]:
        """All files that are no junk; refused here where one should not be there."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of what is open."""


def _open(source: bytes | BinaryIO | Path, bounds: Bounds) -> _Files:
    if isinstance(source, Path):
        if source.is_dir():
            return _Folder(source, bounds)
        if not source.is_file():
            raise CakeError(f"There is no folder or zip file '{source}'.")
        return _Zip(source.open("rb"), bounds)
    return _Zip(io.BytesIO(source) if isinstance(source, bytes) else source, bounds)


class _Folder(_Files):
    """A folder of this machine; links in it are not followed.

    Args:
        root: the folder.
        bounds: what is read at most.
    """

    def __init__(self, root: Path, bounds: Bounds):
        self.root, self.bounds = root, bounds

    def names(self) -> list[str]:
        found = []
        for place, folders, files in os.walk(self.root):
            folders[:] = sorted(f for f in folders if not _is_junk(f))
            inside = Path(place).relative_to(self.root).as_posix().removeprefix(".").removeprefix("/")
            found += [f"{inside}/{f}".removeprefix("/") for f in sorted(files) if not _is_junk(f)]
            if len(found) > self.bounds.files:
                raise CakeError(f"There are more than {self.bounds.files:,} files in '{self.root.name}'.")
        return [n for n in found if (self.root / n).is_file() and not (self.root / n).is_symlink()]

    def read(self, name: str) -> bytes:
        try:
            size = (self.root / name).stat().st_size
            _check_size(name, size, self.bounds)
            return (self.root / name).read_bytes()
        except OSError as error:
            raise CakeError(f"'{name}' can't be read ({error.strerror}). Look at its permissions.") from None

    def close(self) -> None:
        pass


class _Zip(_Files):
    """A zip file, judged by what it says about itself before anything in it is unpacked.

    Args:
        file: opened; it is closed in the end.
        bounds: what is read at most.
    """

    def __init__(self, file: BinaryIO, bounds: Bounds):
        self.file, self.bounds = file, bounds
        file.seek(0)
        if file.read(4) not in ZIP:
            raise CakeError(
                "The file is no zip file. Put one folder for each class into a folder, and make a zip file of it."
            )
        try:
            self.archive = zipfile.ZipFile(file)
        except (*BROKEN, zipfile.BadZipFile, NotImplementedError):
            raise CakeError("The zip file is damaged or cut short. Make it, or load it up, once more.") from None
        self.members: dict[str, zipfile.ZipInfo] = {}
        self._judge(self.archive.infolist())

    def names(self) -> list[str]:
        return sorted(self.members)

    def read(self, name: str) -> bytes:
        member = self.members[name]
        try:
            with self.archive.open(member) as f:
                content = f.read(member.file_size + 1)  # never more than it said
        except (*BROKEN, zipfile.BadZipFile, NotImplementedError, RuntimeError):
            raise CakeError(f"'{_short(name)}' in the zip file is damaged. Make the zip file once more.") from None
        if len(content) != member.file_size:
            raise CakeError(f"'{_short(name)}' has another size than the zip file says. Make the zip file once more.")
        return content

    def close(self) -> None:
        self.archive.close()
        self.file.close()

    def _judge(self, members: Sequence[zipfile.ZipInfo]) -> None:
        if len(members) > self.bounds.files:
            raise CakeError(f"The zip file holds {len(members):,} files; at most {self.bounds.files:,} can be read.")
        unpacked, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
        if unpacked > self.bounds.bytes or (unpacked > 10**7 and unpacked > SUSPICIOUS_RATIO * packed):
            raise CakeError(
                f"Unpacked, the zip file would take {unpacked / 1e6:,.0f} MB, {unpacked / max(1, packed):,.0f} times "
                f"what it takes now; at most {self.bounds.bytes / 1e6:,.0f} MB and {SUSPICIOUS_RATIO} times can be "
                "read. Use fewer or smaller images."
            )
        # Where something stands before the first member, the file is (also) something else.
        if min((m.header_offset for m in members), default=0) != 0:
            raise CakeError("There is something else in the file before the zip file begins. Make a plain zip file.")
        for member in members:
            if self._is_image_or_other(member):
                self.members[member.filename] = member

    def _is_image_or_other(self, member: zipfile.ZipInfo) -> bool:
        """Whether a member is a file that counts; refused where it should not be there."""
        name = member.orig_filename
        where = f"'{_short(name)}' in the zip file"
        if not member.filename or not all(c.isprintable() for c in name):
            raise CakeError(f"{where} has no name, or control characters in it. Rename the file.")
        if "\\" in name or name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
            raise CakeError(f"{where} would lie outside of its folder. Make the zip file from one plain folder.")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise CakeError(f"{where} is a link to something else. Put in the file itself.")
        if member.is_dir() or any(_is_junk(part) for part in name.split("/")):
            return False
        if member.flag_bits & 0x1:
            raise CakeError("The zip file is encrypted. Make one without a password.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CakeError(f"{where} is packed in a rare way. Make the zip file with the usual compression (deflate).")
        if name.lower().endswith(ARCHIVES):
            raise CakeError(f"{where} is an archive itself. Unpack it, and put its folders in directly.")
        _check_size(name, member.file_size, self.bounds)
        return True


def _check_size(name: str, size: int, bounds: Bounds) -> None:
    if size > bounds.file_bytes:
        raise CakeError(
            f"'{_short(name)}' has {size / 1e6:,.0f} MB; at most {bounds.file_bytes / 1e6:.0f} MB an image can be read."
        )


def _is_junk(name: str) -> bool:
    """Files that systems leave behind."""
    return name in JUNK or name.startswith("._")


def _short(name: str) -> str:
    """A name for a sentence."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= 80 else f"…{shown[-79:]}"


# -- which image belongs where ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """An image: its file's name, its class, and whether it is for testing."""

    name: str
    label: str
    tested: bool


@dataclass(frozen=True)
class _Layout:
    """All images with their classes, and what is to be said about them."""

    images: list[_Place]
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, names: Sequence[str], bounds: Bounds) -> _Layout:
        """Reads classes and parts from the names of the folders."""
        shown = [name for name in names if name.lower().endswith(ENDINGS)]
        if not shown:
            raise CakeError("There are no images in it. PNG, JPEG, WebP, BMP and GIF can be read.")
        if len(shown) > bounds.images:
            raise CakeError(f"There are {len(shown):,} images; at most {bounds.images:,} can be used. Leave some out.")
        notes = []
        if other := len(names) - len(shown):
            notes.append(f"{other:,} file(s) that are no images were left out.")
        paths = [name.split("/") for name in shown]
        # A folder around everything says nothing.
        while all(len(p) > 2 for p in paths) and len({p[0] for p in paths}) == 1:
            paths = [p[1:] for p in paths]
        parts = {p[0].lower() for p in paths if len(p) > 1}
        divided = parts <= {*TRAIN, *TEST, *SPARE} and parts & {*TRAIN} and parts & {*TEST, *SPARE}
        testing = TEST if parts & {*TEST} else SPARE
        images = []
        for name, path in zip(shown, paths, strict=True):
            inner = path[1:] if divided else path
            if len(inner) < 2:
                raise CakeError(f"'{_short(name)}' lies in no class's folder. Put each image into one.")
            images.append(_Place(name, inner[0], bool(divided) and path[0].lower() in testing))
        classes = tuple(in_order(image.label for image in images))
        _check_classes(images, classes)
        return cls(images, classes, notes)


def _check_classes(images: Sequence[_Place], classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise CakeError(
            f"All images lie in one folder, '{_short(classes[0])}'. A classifier needs at least two classes: "
            "one folder for each."
        )
    if len(classes) > MOST_CLASSES:
        raise CakeError(f"There are {len(classes):,} folders of classes; at most {MOST_CLASSES:,} can be used.")
    trained = [image.label for image in images if not image.tested]
    if missing := set(classes) - set(trained):
        name = in_order(missing)[0]
        raise CakeError(f"Class '{_short(name)}' is in test but not in train. Add images of it, or leave it out.")
    least, count = rarest(trained)
    if count < LEAST_PER_CLASS:
        raise CakeError(
            f"Class '{_short(least)}' has {count} image(s) to learn from; each class needs at least {LEAST_PER_CLASS}. "
            "Add some, or leave the class out."
        )


# -- from a file's bytes to pixels ------------------------------------------------------------------------------------


class _Shelf:
    """Takes one image after the other, made small at once.

    As long as nobody has said whether the images are grey, both forms are kept; the first colour decides.

    Args:
        conversion: what the images are turned into.
        count: how many will come.
        bounds: what is read at most.
    """

    def __init__(self, conversion: Conversion, count: int, bounds: Bounds):
        self.conversion, self.bounds, self.pixels = conversion, bounds, 0
        sides = {"L": conversion.side or 28, "RGB": conversion.side or 32}
        modes = {"auto": ("L", "RGB"), "grey": ("L",), "colour": ("RGB",)}[conversion.colour]
        for mode in modes:
            size = count * len(mode) * sides[mode] ** 2
            if size > bounds.tensor_bytes:
                raise CakeError(
                    f"{count:,} images of {sides[mode]} x {sides[mode]} pixels take {size / 1e6:,.0f} MB; at most "
                    f"{bounds.tensor_bytes / 1e6:,.0f} MB can be kept. Choose a smaller side, or fewer images."
                )
        self._kept = {m: np.zeros((count, len(m), sides[m], sides[m]), np.uint8) for m in modes}

    def put(self, number: int, name: str, content: bytes) -> None:
        """Decodes an image and keeps it at a position."""
        image = self._decoded(name, content)
        if len(self._kept) == 2 and not _is_grey(image):
            del self._kept["L"]
        for mode, kept in self._kept.items():
            side = kept.shape[-1]
            small = self._fitted(image.convert(mode), side)
            kept[number] = np.asarray(small).reshape(side, side, -1).transpose(2, 0, 1)

    def result(self) -> np.ndarray:
        """All images, uint8 (N, C, H, W)."""
        return next(iter(self._kept.values()))

    def _fitted(self, image: Image.Image, side: int) -> Image.Image:
        if self.conversion.fit == "crop":
            return ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
        return image.resize((side, side), Image.Resampling.BILINEAR)

    def _decoded(self, name: str, content: bytes) -> Image.Image:
        """An image upright and without transparency, its mode L or RGB."""
        where = f"'{_short(name)}'"
        if _holds_archive(content):
            raise CakeError(f"{where} is an image and an archive at once. Save the image once more.")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                self._count(where, *image.size)
                image.verify()
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            side = max(kept.shape[-1] for kept in self._kept.values())
            image.draft(None, (4 * side, 4 * side))  # a large photo is decoded at a fraction of its size
            image.seek(0)
            return _plain(ImageOps.exif_transpose(image))
        except Image.DecompressionBombError:
            raise CakeError(f"{where} has far too many pixels. Save it smaller.") from None
        except BROKEN:
            raise CakeError(
                f"{where} is no image that can be read, or it is damaged. Save it once more as PNG, or take it out."
            ) from None

    def _count(self, where: str, width: int, height: int) -> None:
        if width * height > self.bounds.pixels:
            raise CakeError(
                f"{where} has {width:,} x {height:,} pixels; at most {self.bounds.pixels / 1e6:.0f} million can be "
                "read. Save it smaller."
            )
        self.pixels += width * height
        if self.pixels > self.bounds.all_pixels:
            raise CakeError(
                f"All images together have more than {self.bounds.all_pixels / 1e6:,.0f} million pixels. "
                "Save them smaller; 64 pixels a side are enough."
            )


def _plain(image: Image.Image) -> Image.Image:
    """Any mode as L or RGB: 16 bits become 8, what is transparent becomes white."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _is_grey(image: Image.Image) -> bool:
    """Whether all channels are the same, but for the tint that lossy formats give to grey."""
    if image.mode == "L":
        return True
    pixels = np.asarray(image)
    return int((pixels.max(axis=2) - pixels.min(axis=2)).max()) <= TINT


def _holds_archive(content: bytes) -> bool:
    """Whether a zip file hides behind an image: other programs would unpack what we take for a picture."""
    if b"PK\x05\x06" not in content:
        return False
    try:
        zipfile.ZipFile(io.BytesIO(content)).close()
    except (*BROKEN, zipfile.BadZipFile, NotImplementedError):
        return False
    return True
