"""What a file is: by its bytes and its name; pickles in every disguise are refused, and never opened."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from cake_core import formats
from cake_core.errors import CakeError

ROOT = Path(__file__).parents[1]


class Bomb:
    """Opening a pickle of this ends the tests."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was opened')",))


def torch_zip() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(3), "bomb": Bomb()}, buffer)
    return buffer.getvalue()


def torch_legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(3), "bomb": Bomb()}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        content = pickle.dumps(Bomb())
        entry = tarfile.TarInfo("pickle")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def keras() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.zeros(3))
    return buffer.getvalue()


def write(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


GOOD = save({"w": torch.zeros(2, 3), "b": torch.ones(3)})

REFUSED = [
    ("zip of torch.save", torch_zip(), "a pickle inside a zip archive"),
    ("torch before 1.6", torch_legacy(), "torch.save wrote it before torch 1.6"),
    *((f"protocol {p}", pickle.dumps({"w": [1, 2]}, p), "is a pickle") for p in range(6)),
    ("protocol 0 of a list", pickle.dumps([1, 2], 0), "is a pickle"),
    ("protocol 1 of a class", pickle.dumps(Bomb, 1), "is a pickle"),
    ("tar", tar(), "a tar archive"),
    ("keras", keras(), "a zip archive of Keras"),
    ("npz", npz(), "a zip archive"),
    ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file, as Keras writes it"),
    ("numpy", b"\x93NUMPY\x01\x00" + bytes(600), "a NumPy array"),
    ("gzip", b"\x1f\x8b" + bytes(600), "a compressed file (gzip)"),
    ("git lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    ("tflite", b"\x1c\0\0\0TFL3" + bytes(600), "a file of TensorFlow Lite"),
    ("web page", b"\n<!DOCTYPE html><html></html>", "is a web page"),
    ("picture", b"\x89PNG\r\n\x1a\n" + bytes(600), "is a picture"),
    ("nothing", b"", "is empty"),
]


@pytest.mark.parametrize("ending", ["safetensors", "onnx", "pt", "bin"])
@pytest.mark.parametrize(("content", "sentence"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_content_is_recognised_whatever_the_name(tmp_path, content, sentence, ending):
    path = write(tmp_path, f"teacher.{ending}", content)
    with pytest.raises(CakeError) as refused:
        formats.recognise(path)
    assert sentence.replace("(", "").lower() in str(refused.value).replace("(", "").lower()
    assert str(refused.value).startswith(f"teacher.{ending}")


@pytest.mark.parametrize("content", [torch_zip(), torch_legacy(), pickle.dumps({}, 4), tar()])
def test_a_refused_pickle_comes_with_the_reason_and_the_way_out(tmp_path, content):
    with pytest.raises(CakeError) as refused:
        formats.recognise(write(tmp_path, "teacher.pt", content))
    text = str(refused.value)
    assert "runs whatever code its author put there" in text
    assert 'safetensors.torch.save_file(model.state_dict(), "teacher.safetensors")' in text
    assert "torch.onnx.export(model," in text


@pytest.mark.parametrize("ending", [".pt", ".pth", ".pkl", ".bin", ".ckpt", ".joblib", ".PTH"])
def test_an_ending_of_pickles_is_refused_whatever_is_inside(tmp_path, ending):
    with pytest.raises(CakeError, match="hold pickles"):
        formats.recognise(write(tmp_path, f"teacher{ending}", bytes(range(8, 200))))
    with pytest.raises(CakeError, match="rename it"):  # what is inside would do, were it called so
        formats.recognise(write(tmp_path, f"good{ending}", GOOD))


def test_good_files_are_what_they_say(tmp_path):
    assert formats.recognise(write(tmp_path, "a.safetensors", GOOD)) == "safetensors"
    assert formats.recognise(write(tmp_path, "a.SAFETENSORS", GOOD)) == "safetensors"
    assert formats.recognise(write(tmp_path, "upload", GOOD), "a.safetensors") == "safetensors"
    assert formats.recognise(write(tmp_path, "a.onnx", b"\x08\x0a\x12\x07pytorch")) == "onnx"
    with pytest.raises(CakeError, match="does not begin like a safetensors file"):
        formats.recognise(write(tmp_path, "b.safetensors", b"\x08\x0a\x12\x07pytorch"))
    with pytest.raises(CakeError, match="neither a safetensors nor an ONNX file"):
        formats.recognise(write(tmp_path, "weights.dat", b"\x08\x0a\x12\x07pytorch"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(tmp_path, protocol):
    """0x80 and the protocol are also the first bytes of a header of 640, 896, 1152 or 1408 bytes."""
    length = 0x80 + 256 * protocol
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    content = length.to_bytes(8, "little") + text.ljust(length) + bytes(4)
    path = write(tmp_path, "a.safetensors", content)
    assert content[0] == 0x80 and content[1] == protocol
    assert formats.recognise(path) == "safetensors"
    assert formats.header(path)["w"].shape == (1,)


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as f:
        f.truncate(2 * 2**30)  # takes no room
    with pytest.raises(CakeError, match="huge.safetensors has 2,048 MB; at most 300 MB"):
        formats.recognise(path)


def test_the_browser_is_told_the_same_limit():
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["maxUploadSize"] * 2**20 == formats.MOST_BYTES


def test_judging_bytes_is_judging_the_file(tmp_path):
    for _, content, _ in REFUSED:
        path = write(tmp_path, "x.onnx", content)
        with pytest.raises(CakeError) as one:
            formats.recognise(path)
        with pytest.raises(CakeError) as other:
            formats.judge("x.onnx", len(content), content[: formats.HEAD], content[-formats.TAIL :])
        assert str(one.value) == str(other.value)


# -- headers of safetensors --------------------------------------------------------------------------------------------


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(**changes) -> dict:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def test_a_good_header(tmp_path):
    found = formats.header(write(tmp_path, "a.safetensors", GOOD))
    assert found == {"w": formats.Tensor("F32", (2, 3)), "b": formats.Tensor("F32", (3,))}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD[:40], "cut short: its header alone"),
        (GOOD[:-1], "cut short: its tensors take 36 bytes, and 35 are there"),
        (GOOD + b"x", "holds 1 bytes that belong to no tensor"),
        (raw({}), "holds no tensors"),
        (raw({"__metadata__": {"format": "pt"}}), "holds no tensors"),
        (raw(b"{" + b" " * 40), "header is damaged"),
        (raw(b"{" * 5000), "header is damaged"),
        (raw(b'{"a": ' * 30_000), "header is damaged"),
        (raw({"w": 3}), "header is damaged"),
        (raw({"w": {"dtype": "F32"}}), "header is damaged"),
        (raw(one(shape=[-2])), "header is damaged"),
        (raw(one(shape=[True, 2]), bytes(8)), "header is damaged"),
        (raw(one(shape=[10**30])), "header is damaged"),
        (raw(one(data_offsets=[8, 0])), "header is damaged"),
        (raw(one(dtype="Q4"), bytes(8)), "type Q4, which is not known"),
        (raw(one(shape=[3]), bytes(8)), "does not go with its shape"),
        (raw(one(data_offsets=[8, 16]), bytes(16)), "overlap or leave gaps"),
        (raw(one() | {"v": one()["w"]}, bytes(8)), "overlap or leave gaps"),
        (raw(b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "w": 1}', bytes(8)), "header is damaged"),
        ((2**24).to_bytes(8, "little") + b"{" + bytes(2**24), "at most 10,485,760 are read"),
    ],
)  # fmt: skip
def test_damaged_headers_get_a_sentence(tmp_path, content, sentence):
    path = write(tmp_path, "a.safetensors", content)
    assert formats.recognise(path) == "safetensors"
    with pytest.raises(CakeError, match=sentence):
        formats.header(path)


def test_names_are_shown_without_folders_and_marks():
    assert formats.plain("C:\\me\\teacher.pt") == "teacher.pt"
    assert formats.plain("../../etc/[x](http:y)`*.pt") == "_x_(http_y)__.pt"
    assert len(formats.plain("x" * 500 + ".onnx")) <= 60
    assert formats.plain("") == "the file"
