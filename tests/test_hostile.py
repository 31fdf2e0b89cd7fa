"""A corpus of hostile input: every case is refused with a sentence, or is harmless; nothing breaks."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import os
import random
import re
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from cake_core.errors import CakeError

from . import fuzzing, hostile

CASES = list(hostile.cases())


def test_the_corpus_is_large_and_each_case_has_a_name_of_its_own():
    assert len(CASES) >= 300
    assert max(Counter((c.surface, c.name) for c in CASES).values()) == 1
    assert set(hostile.READERS) == {c.surface for c in CASES}


@pytest.mark.parametrize("surface", hostile.READERS)
def test_what_is_good_is_taken(surface):
    """So that a reader which refuses everything would be noticed."""
    assert hostile.feed(hostile.good(surface)).what == "taken"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name[:60])
def test_refused_or_harmless(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = hostile.feed(case)
    assert outcome.what in (("refused", "taken") if case.harmless else ("refused",)), outcome.said
    if outcome.what == "refused":
        assert outcome.said.rstrip('"}').endswith((".", "`", ")", "`.")), outcome.said  # a sentence, with what to do
        assert len(outcome.said) < 1500
        assert "Traceback" not in outcome.said
    assert list(Path(tmp_path).iterdir()) == []  # nothing was written beside its folder


# -- as benchmarks/fuzz.py does it for minutes, with dice instead of libFuzzer ----------------------------------------

CHANGES = {"safetensors": 15, "onnx": 40, "zip": 30, "picture": 60, "run": 12, "frames": 12, "arrays": 40}  # others: 60


@pytest.mark.parametrize("name", fuzzing.SURFACES)
def test_changed_inputs_break_nothing_and_get_behind_the_first_check(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    surface, rng = fuzzing.SURFACES[name], random.Random(name)
    pool, said = list(itertools.islice(surface.seeds(), 2)), Counter()
    for _ in range(CHANGES.get(name, 60)):
        pool.append(surface.changed(rng.choice(pool), rng, fuzzing.dice(rng)))
        outcome = hostile.feed(surface.case(pool[-1]))
        assert outcome.what in ("refused", "taken"), (pool[-1], outcome.said)
        said[re.sub(r"\W+|\d+|the file", " ", outcome.said)[-24:] or outcome.what] += 1
    assert len(said) >= 2, said  # not all at one and the same check
    assert list(Path(tmp_path).iterdir()) == []


def test_what_is_put_together_again_fits_together():
    """Lengths and checksums are right, so that a change reaches what stands behind them."""
    rng, whole = random.Random(5), Counter()
    mutate = fuzzing.dice(rng)
    for _ in range(40):
        for name in ("zip", "arrays"):
            with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError):
                content = fuzzing.SURFACES[name].changed(next(fuzzing.SURFACES[name].seeds()), rng, mutate)
                whole[name] += zipfile.ZipFile(io.BytesIO(content)).testzip() is None
        content = fuzzing.SURFACES["picture"].changed(next(fuzzing.SURFACES["picture"].seeds()), rng, mutate)
        with contextlib.suppress(Exception), Image.open(io.BytesIO(content)) as image:
            image.verify()
            whole["picture"] += 1
    assert whole["zip"] > 25
    assert whole["arrays"] > 25
    assert whole["picture"] > 8


def test_the_fuzzer_notices_what_it_is_there_to_notice(tmp_path, monkeypatch):
    """Its judge, without atheris: an error, a case that takes too long or too much, and one that strays."""
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parents[1] / "benchmarks" / "fuzz.py")
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    for part in ("faults", "tmp"):
        (tmp_path / part).mkdir()
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    judge = fuzz.Judge(tmp_path)

    def busy(case: hostile.Case) -> None:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    def stray(case: hostile.Case) -> None:
        with contextlib.suppress(OSError):  # as a reader might that catches what goes wrong with files
            judge._event("open", (str(tmp_path.parent / "x"), "w", os.O_WRONLY))

    def inside(case: hostile.Case) -> None:
        judge._event("open", (str(tmp_path / "tmp" / "x"), "w", os.O_WRONLY))
        judge._event("open", ("/etc/hosts", "r", os.O_RDONLY))

    def refuse(case: hostile.Case) -> None:
        raise CakeError("No.")

    readers = {"error": lambda case: int("a"), "busy": busy, "stray": stray, "inside": inside, "refuse": refuse}
    monkeypatch.setattr(judge, "readers", readers)
    for name in readers:
        for given in (b"long", b"s"):
            judge(lambda name=name: hostile.Case(name, "", b""), given)
    found = {p.stem.split("-")[0]: p.read_bytes() for p in (tmp_path / "faults").glob("*.bin")}
    assert found == {"ValueError": b"s", "slow": b"s", "strayed": b"s"}  # each kind once, by its smallest input
