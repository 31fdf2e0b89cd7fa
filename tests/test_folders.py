"""Images in folders and zip files: what can be read is read pixel for pixel, what can't is a sentence."""

from __future__ import annotations

import io
import random
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cake_core.data.examples import divide, in_order
from cake_core.data.folders import Bounds, Conversion, ImageReading
from cake_core.errors import CakeError


def picture(seed: int = 0, size: tuple[int, int] = (28, 28), mode: str = "L") -> Image.Image:
    """Random pixels."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)


def file_of(image: Image.Image, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def a_set(n: int = 10, **options) -> dict[str, bytes]:
    """Two classes, n images each."""
    return {f"{c}/{i}.png": file_of(picture(10 * k + i, **options)) for k, c in enumerate("ab") for i in range(n)}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def read(source, *args, **options):
    reading = ImageReading(zipped(source) if isinstance(source, dict) else source, *args, **options)
    shares = list(reading)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    return reading.examples


def refused(source, sentence: str, *args, **options) -> None:
    with pytest.raises(CakeError, match=sentence) as caught:
        read(source, *args, **options)
    assert str(caught.value).endswith(".")


def everything(examples) -> dict[bytes, str]:
    """Each image's bytes with its class's name, of both parts."""
    found = {}
    for x, y in (examples.train, examples.test):
        found |= {x[i].numpy().tobytes(): examples.classes[y[i]] for i in range(len(y))}
    return found


# -- pixels ---------------------------------------------------------------------------------------------


def test_images_of_the_right_size_keep_their_pixels():
    files = a_set()
    examples = read(files)
    assert (examples.kind, examples.shape, examples.classes) == ("images", (1, 28, 28), ("a", "b"))
    assert examples.train[0].dtype == torch.uint8
    found = everything(examples)
    assert len(found) == 20
    for name, content in files.items():
        assert found[np.asarray(Image.open(io.BytesIO(content))).tobytes()] == name[0]


def test_colour_images_come_as_channels_first():
    files = a_set(size=(32, 32), mode="RGB")
    examples = read(files)
    assert examples.shape == (3, 32, 32)
    found = everything(examples)
    for name, content in files.items():
        pixels = np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1)
        assert found[np.ascontiguousarray(pixels).tobytes()] == name[0]


def test_one_colour_makes_all_of_them_colour():
    files = a_set(size=(40, 40)) | {"b/last.png": file_of(picture(99, (40, 40), "RGB"))}
    assert read(files).shape == (3, 32, 32)
    assert read(files, Conversion(colour="grey")).shape == (1, 28, 28)
    assert read(a_set(), Conversion(colour="colour", side=16)).shape == (3, 16, 16)
    same = {name: file_of(Image.open(io.BytesIO(c)).convert("RGB")) for name, c in a_set().items()}
    assert read(same).shape == (1, 28, 28)  # stored as colour, but grey


def test_crop_takes_the_middle_and_stretch_takes_all():
    wide = np.zeros((16, 48), np.uint8)
    wide[:, 16:32] = np.arange(16, dtype=np.uint8)
    wide[:, 32:] = 255
    files = {f"{c}/{i}.png": file_of(Image.fromarray(wide)) for c in "ab" for i in range(5)}
    cropped = read(files, Conversion(side=16)).train[0][0, 0]
    assert torch.equal(cropped, torch.from_numpy(wide[:, 16:32]))
    stretched = read(files, Conversion(side=16, fit="stretch")).train[0][0, 0]
    assert stretched[0, 0] == 0
    assert stretched[0, -1] == 255


def test_a_smaller_image_is_an_average_of_the_larger_one():
    rough = read(a_set(size=(64, 64)), Conversion(side=8)).train[0].float()
    assert rough.std() < 30  # of random pixels with 74: neighbours are averaged, not picked
    assert abs(rough.mean() - 127.5) < 5


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_formats(form):
    smooth = Image.fromarray(np.tile(np.arange(28, dtype=np.uint8) * 9, (28, 1)))
    ending = form.lower()
    files = {f"{c}/{i}.{ending.upper() if i else ending}": file_of(smooth, form) for c in "ab" for i in range(5)}
    x = read(files).train[0]
    assert x.shape == (8, 1, 28, 28)
    assert (x[0, 0].int() - torch.tensor(np.asarray(smooth)).int()).abs().max() <= 6


def test_unusual_modes():
    grey = np.tile(np.arange(28, dtype=np.uint16) * 2340, (28, 1))  # 16 bits, up to 63,180
    clear = Image.new("RGBA", (28, 28), (10, 10, 10, 0))
    clear.putpixel((3, 5), (10, 10, 10, 255))
    film = io.BytesIO()
    Image.new("L", (28, 28), 40).save(film, "GIF", save_all=True, append_images=[Image.new("L", (28, 28), 200)])
    turned = Image.fromarray(np.arange(28 * 28, dtype=np.uint16).reshape(28, 28) // 4).convert("L")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    cases = {
        "sixteen": file_of(Image.fromarray(grey)),
        "clear": file_of(clear),
        "palette": file_of(picture(1, mode="RGB").convert("P")),
        "bits": file_of(Image.new("1", (28, 28), 1)),
        "film": film.getvalue(),
        "print": file_of(picture(2, mode="RGB").convert("CMYK"), "JPEG"),
        "turned": file_of(turned, "PNG", exif=exif),
    }
    files = {f"{name}/{i}.png": content for name, content in cases.items() for i in range(5)}
    examples = read(files, Conversion(colour="grey"))
    x, y = examples.train
    first = {name: x[y == k][0, 0].int() for k, name in enumerate(examples.classes)}
    assert (first["sixteen"] - torch.from_numpy((grey >> 8).astype(np.int32))).abs().max() == 0
    assert first["clear"][5, 3] == 10
    assert first["clear"][0, 0] == 255  # transparent is white
    assert (first["bits"] == 255).all()
    assert ((first["film"] - 40).abs() <= 1).all()  # the first frame
    assert torch.equal(first["turned"], torch.from_numpy(np.asarray(turned).astype(np.int32)).flip(0, 1))


def test_large_photos():
    big = picture(0, (40, 30), "RGB").resize((2000, 1500), Image.Resampling.BICUBIC)
    files = {f"{c}/{i}.jpg": file_of(big, "JPEG", quality=95) for c in "ab" for i in range(5)}
    x = read(files).train[0][0].float()
    exact = np.asarray(big.crop((250, 0, 1750, 1500)).resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert (x - torch.from_numpy(exact.astype(np.float32))).abs().mean() < 4


# -- which image is what --------------------------------------------------------------------------------


def test_the_division_is_stratified_and_the_same_for_the_same_seed():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 5)
    train, test = divide(labels, seed=4)
    assert sorted(torch.cat([train, test]).tolist()) == list(range(65))
    assert labels[test].bincount().tolist() == [10, 2, 1]
    assert all(torch.equal(a, b) for a, b in zip((train, test), divide(labels, seed=4), strict=True))
    assert not torch.equal(test, divide(labels, seed=5)[1])
    assert labels[train].tolist() != sorted(labels[train].tolist())  # classes are mixed


def test_same_zip_same_division_whatever_the_order_of_its_files():
    files = a_set()
    turned = dict(reversed(files.items()))
    first, second, other = read(files), read(turned), read(files, seed=1)
    assert torch.equal(first.train[0], second.train[0])
    assert torch.equal(first.test[1], second.test[1])
    assert not torch.equal(first.train[0], other.train[0])
    assert "20 % of each class, chosen by seed 0, are set aside" in first.notes[0]


@pytest.mark.parametrize("root", ["", "my set/", "a/b/"])
@pytest.mark.parametrize("other", ["test", "Test", "val"])
def test_train_and_test_folders(root, other):
    files = {f"{root}train/{name}": c for name, c in a_set(8).items()}
    tested = {f"{root}{other}/{name}": c for name, c in a_set(11).items() if name[2:-4] >= "8"}
    examples = read(files | tested)
    assert len(examples.train[1]) == 16
    assert examples.counts() == [("a", 8, 2), ("b", 8, 2)]
    assert examples.notes == ("The folders train and test say which images are for what.",)
    assert not set(map(bytes, examples.test[0].numpy())) & set(map(bytes, examples.train[0].numpy()))


def test_a_spare_part_beside_a_test_part_is_learned_from():
    files = {f"{part}/{name}": c for part in ("train", "test", "val") for name, c in a_set(5).items()}
    assert read(files).counts() == [("a", 10, 5), ("b", 10, 5)]


def test_what_lies_deeper_belongs_to_its_class_and_junk_is_skipped():
    files = {f"top/{n[0]}/sub{n[2:]}/x.png": c for n, c in a_set(5).items()}
    junk = {"__MACOSX/top/a/._x.png": b"junk", "top/.DS_Store": b"junk", "top/a/._1.png": b"junk", "top/Thumbs.db": b""}
    examples = read(files | junk)
    assert examples.counts() == [("a", 4, 1), ("b", 4, 1)]
    assert len(examples.notes) == 1  # nothing was left out
    assert read(files | {"top/readme.txt": b"hello"}).notes[0] == "1 file(s) that are no images were left out."


def test_classes_come_in_the_order_people_expect():
    assert in_order(["10", "2", "b", "A", "2"]) == ["2", "10", "A", "b"]
    files = {f"{c}/{i}.png": file_of(picture(i)) for c in ("class 10", "class 9") for i in range(5)}
    assert read(files).classes == ("class 9", "class 10")


def test_a_folder_on_disk(tmp_path):
    for name, content in a_set().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "a" / "elsewhere.png").symlink_to(tmp_path / "b" / "0.png")
    first, second = read(tmp_path), read(a_set())
    assert torch.equal(first.train[0], second.train[0])
    assert torch.equal(first.train[1], second.train[1])
    zip_file = tmp_path / "x.zip"
    zip_file.write_bytes(zipped(a_set()))
    assert torch.equal(read(zip_file).test[0], second.test[0])
    refused(tmp_path / "nowhere", "There is no folder or zip file")


def test_nothing_is_written(tmp_path, monkeypatch):
    """Reading opens no file for writing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    read(a_set())
    assert list(tmp_path.iterdir()) == []


def test_reading_can_be_cancelled():
    reading = ImageReading(zipped(a_set(30)))
    next(reading)
    reading.close()
    assert list(reading) == []
    assert reading.examples is None


# -- refusals -------------------------------------------------------------------------------------------


def with_name(name: str, mode: int = 0) -> bytes:
    """A good zip with one more image of a bad name."""
    out = io.BytesIO(zipped(a_set()))
    with zipfile.ZipFile(out, "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = mode << 16
        info.create_system = 3
        archive.writestr(info, file_of(picture()))
    return out.getvalue()


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "../x.png", "a/../../x.png", "C:/x.png", "c:x.png", "a\\x.png", "\\\\host\\x.png"]
)
def test_names_that_lead_elsewhere(name):
    refused(with_name(name), "would lie outside of its folder")


def test_names_with_control_characters():
    refused(with_name("a/\x1b[2Jx.png"), "has no name, or control characters in it")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o666])
def test_links_and_special_files(mode):
    refused(with_name("a/x.png", mode), "is a link to something else")


@pytest.mark.parametrize("ending", [".zip", ".tar.gz", ".7z"])
def test_nested_archives(ending):
    refused(a_set() | {f"a/inner{ending}": zipped(a_set())}, "is an archive itself")


def test_encrypted():
    raw = bytearray(zipped(a_set()))
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        raw[raw.index(mark) + place] |= 1
    refused(bytes(raw), "is encrypted. Make one without a password")


def test_rare_compression():
    refused(zipped(a_set(), zipfile.ZIP_LZMA), "packed in a rare way")


@pytest.mark.parametrize("content", [b"", b"PK", b"hello" * 100, file_of(picture()), b"%PDF-1.7"])
def test_no_zip(content):
    refused(content, "is no zip file")


def test_truncated():
    whole = zipped(a_set())
    for length in (30, len(whole) // 2, len(whole) - 10):
        refused(whole[:length], "damaged or cut short")


def test_damaged_member():
    raw = bytearray(zipped(a_set(), zipfile.ZIP_STORED))
    raw[60] ^= 0xFF  # in the first image
    refused(bytes(raw), "'a/0.png' in the zip file is damaged")


def test_something_before_the_zip():
    refused(b"PK\x03\x04 something else " + zipped(a_set()), "something else in the file before")
    refused(zipped({"a/x.png": b"x"}) + zipped(a_set()), "something else in the file before")


def test_a_bomb_is_refused_by_what_it_says(monkeypatch):
    bomb = zipped(a_set() | {"a/big.png": bytes(25_000_000)})
    assert len(bomb) < 100_000
    plain = zipped(a_set())
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # refused before anything is unpacked
    refused(bomb, "Unpacked, the zip file would take 25 MB, .* times what it takes now")
    refused(plain, "at most 0 MB", bounds=Bounds(bytes=1000))


def test_a_bomb_that_lies_about_its_size():
    """It says 10,000 bytes and holds 25 million: what is read is what it said, and its checksum gives it away."""
    raw = bytearray(zipped({"a/big.png": bytes(25_000_000)} | a_set()))
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = raw.index(mark) + place
        raw[start : start + 4] = (10_000).to_bytes(4, "little")
    refused(bytes(raw), "'a/big.png' in the zip file")


def test_too_much_of_everything():
    refused(a_set(), "holds 20 files; at most 10", bounds=Bounds(files=10))
    refused(a_set(), "There are 20 images; at most 10", bounds=Bounds(images=10))
    refused(a_set(), "'a/0.png' has 0 MB; at most 0 MB", bounds=Bounds(file_bytes=100))
    refused(a_set(), "28 x 28 pixels; at most 0 million", bounds=Bounds(pixels=100))
    refused(a_set(), "All images together have more than", bounds=Bounds(all_pixels=5000))
    refused(a_set(), "Choose a smaller side, or fewer images", bounds=Bounds(tensor_bytes=5000))


def test_a_gigantic_image_is_refused_by_its_header(monkeypatch):
    """A PNG of 50 kB that would be 400 million pixels; nothing is decoded."""
    monkeypatch.setattr(Image.Image, "convert", None)
    for size in ((20_000, 20_000), (9000, 9000)):
        png = bytearray(file_of(Image.new("1", (8, 8))))
        png[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
        png[29:33] = zlib_crc(png[12:29])
        refused({"a/0.png": bytes(png)} | {f"{c}/{i}.png": b"" for c in "ab" for i in range(1, 9)}, "pixels")


def zlib_crc(raw: bytes) -> bytes:
    import zlib

    return zlib.crc32(raw).to_bytes(4, "big")


def test_images_that_are_none():
    for content in (b"", b"hello", b"<svg/>", b"\x89PNG\r\n\x1a\n", file_of(picture())[:-30], b"II*\x00" + bytes(50)):
        refused(a_set() | {"b/odd.png": content}, "'b/odd.png' is no image that can be read, or it is damaged")
    tiff = file_of(picture(), "TIFF")
    refused(a_set() | {"b/odd.png": tiff}, "'b/odd.png' is no image")  # not among those that are read


def test_an_image_and_an_archive_at_once():
    refused(a_set() | {"b/odd.png": file_of(picture()) + zipped({"evil.js": b"x"})}, "image and an archive at once")
    innocent = file_of(picture()) + b"PK\x05\x06 by chance"
    assert len(read(a_set() | {"b/odd.png": innocent}).train[1]) == 17


def test_folders_that_make_no_classes():
    pictures = a_set()
    refused({}, "There are no images in it")
    refused({"a/readme.txt": b"x"}, "There are no images in it")
    refused({"x.png": pictures["a/0.png"]} | pictures, "'x.png' lies in no class's folder")
    refused({f"train/{i}.png": c for i, c in enumerate(pictures.values())}, "All images lie in one folder, 'train'")
    refused({n: c for n, c in pictures.items() if n[0] == "a"}, "at least two classes: one folder for each")
    refused(a_set(4), "Class 'a' has 4 image.s. to learn from; each class needs at least 5")
    parts = {f"{part}/{n}": c for part in ("train", "test") for n, c in pictures.items()}
    refused({n: c for n, c in parts.items() if n[:7] != "train/b"}, "Class 'b' is in test but not in train")
    many = {f"{k}/x.png": b"" for k in range(1001)}
    refused(many, "There are 1,001 folders of classes; at most 1,000")


@pytest.mark.parametrize("wrong", [{"side": 7}, {"colour": "red"}, {"fit": "squash"}])
def test_conversions_that_can_not_be(wrong):
    with pytest.raises(CakeError):
        Conversion(**wrong)


def test_damaged_files_of_every_format_are_sentences():
    """Bytes changed at random: an image, or a sentence, never another exception."""
    chance = random.Random(0)
    good = a_set(5, size=(16, 16))
    for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        whole = file_of(picture(3, (16, 16), "RGB"), form)
        for _ in range(60):
            broken = bytearray(whole)
            for _ in range(chance.randint(1, 8)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            if chance.random() < 0.3:
                del broken[chance.randrange(len(broken)) :]
            try:
                read(good | {"a/odd.png": bytes(broken)}, Conversion(side=8))
            except CakeError as error:
                assert "'a/odd.png'" in str(error)


def test_damaged_zips_are_sentences():
    chance = random.Random(1)
    whole = zipped(a_set(5, size=(8, 8)))
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        try:
            read(bytes(broken), Conversion(side=8))
        except CakeError as error:
            assert str(error).endswith(".")


def test_a_path_to_a_zip_is_closed_again(tmp_path: Path):
    path = tmp_path / "x.zip"
    path.write_bytes(zipped(a_set()))
    reading = ImageReading(path)
    list(reading)
    assert reading._files.file.closed
