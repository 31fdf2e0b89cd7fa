"""Files that wait for their task: private, found by their names alone, and gone afterwards."""

from __future__ import annotations

import os
import tempfile
import time

import pytest

from cake_core import inbox
from cake_core.errors import CakeError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_kept_found_and_dropped(folder):
    name = inbox.keep(b"weights")
    path = inbox.find(name)
    assert path.read_bytes() == b"weights"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    inbox.drop(name)
    assert not list(folder.iterdir())
    with pytest.raises(CakeError, match="not on the server any more"):
        inbox.find(name)


@pytest.mark.parametrize("name", ["", "..", "../x", "cake-inbox-../x", "cake-inbox-abc/../../x", "cake-inbox-nope"])
def test_other_names_lead_nowhere(folder, name):
    outside = folder.parent / "x"
    outside.mkdir(exist_ok=True)
    (outside / "file").touch()
    with pytest.raises(CakeError, match="Send it once more"):
        inbox.find(name)
    inbox.drop(name)
    assert (outside / "file").exists()


def test_what_was_left_behind_is_swept(folder):
    old, new = inbox.keep(b"old"), inbox.keep(b"new")
    long_ago = time.time() - 3600 * (inbox.HOURS + 1)
    os.utime(folder / old, (long_ago, long_ago))
    inbox.keep(b"next")
    assert not (folder / old).exists()
    assert (folder / new).exists()
