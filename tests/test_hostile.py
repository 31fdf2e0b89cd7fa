"""A corpus of hostile input: every case is refused with a sentence, or is harmless; nothing breaks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from . import hostile

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
