"""Tables of points: what spreadsheets write is read, and what is wrong is a sentence that names the line."""

from __future__ import annotations

import random

import pytest
import torch

from cake_core import data
from cake_core.data import DataConfig, own, tables
from cake_core.errors import CakeError


def table(n: int = 30, *, header: str = "x,y,label", separator: str = ",", labels="ab", comma: bool = False) -> str:
    """n points, their classes in turn."""
    lines = [header.replace(",", separator)] if header else []
    for i in range(n):
        numbers = [f"{0.1 * i:.2f}", f"{(-1) ** i * i:.1e}"]
        numbers = [v.replace(".", ",") for v in numbers] if comma else numbers
        lines.append(separator.join([*numbers, labels[i % len(labels)]]))
    return "\n".join(lines) + "\n"


def values(examples) -> set[tuple[float, float, str]]:
    return {
        (round(a, 4), round(b, 4), examples.classes[c])
        for x, y in (examples.train, examples.test)
        for (a, b), c in zip(x.tolist(), y.tolist(), strict=True)
    }


EXPECTED = {(round(0.1 * i, 4), float((-1) ** i * i), "ab"[i % 2]) for i in range(30)}


@pytest.mark.parametrize(
    "content",
    [
        table().encode(),
        table(header="").encode(),
        table(header="X , Y,class").encode(),
        table(header="height,weight,sort").encode(),
        table(separator=";").encode(),
        table(separator=";", comma=True).encode(),
        table(separator="\t", header="").encode(),
        table().encode("utf-8-sig"),
        table().encode("utf-16"),
        table().replace("\n", "\r\n").encode(),
        table().replace("\n", "\r").encode(),
        table().replace("\n", "\n\n").replace(",", " , ").encode(),
        table().replace(",a", ',"a"').encode(),
        table().rstrip().encode(),
    ],
    ids=range(14),
)
def test_what_programs_write_is_read(content):
    examples = tables.read(content)
    assert (examples.kind, examples.shape, examples.classes) == ("points", (2,), ("a", "b"))
    assert values(examples) == EXPECTED
    assert examples.train[0].dtype == torch.float32


def test_columns_may_stand_in_any_order_where_they_are_named():
    lines = table().splitlines()[1:]
    turned = "\n".join(["Label,y,x", *(",".join(reversed(line.split(","))) for line in lines)])
    assert values(tables.read(turned.encode())) == EXPECTED


def test_labels():
    assert tables.read(table(labels=["ä", "é"]).encode("latin-1")).classes == ("ä", "é")
    assert tables.read(table(labels=["10", "9", "2"]).encode()).classes == ("2", "9", "10")
    assert tables.read(table(labels=["1", "1.0", "2"]).encode()).classes == ("1", "2")
    assert tables.read(table(labels=["1", "1.0", "two"]).encode()).classes == ("1", "1.0", "two")
    assert tables.read(table(labels=["-1", "1"]).encode()).classes == ("-1", "1")


def test_the_division_is_stratified_and_seeded():
    content = table(100, labels="aaab").encode()
    first, again, other = tables.read(content), tables.read(content), tables.read(content, seed=1)
    assert first.counts() == [("a", 60, 15), ("b", 20, 5)]
    assert torch.equal(first.train[0], again.train[0])
    assert not torch.equal(first.test[0], other.test[0])
    assert first.notes == ("20 % of each class, chosen by seed 0, are set aside for testing.",)


def test_stored_they_are_standardised_as_the_drawn_sets_are(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_UPLOADS_DIR", str(tmp_path))
    e = tables.read(table().encode())
    loaded = data.load(DataConfig(name=own.create("t", e.kind, e.shape, e.classes, train=e.train, test=e.test)))
    raw = e.train[0].double()
    expected = (raw - raw.mean(dim=0)) / raw.std(dim=0, correction=0)
    torch.testing.assert_close(loaded.inputs(loaded.train_x).double(), expected, atol=1e-5, rtol=0)


def test_far_from_the_origin_points_stay_apart():
    lines = [f"{1.7e9 + i},{i},{'ab'[i % 2]}" for i in range(40)]
    x = tables.read("\n".join(lines).encode()).train[0]
    assert len(x[:, 0].unique()) == 32
    assert (x[:, 0].max() - x[:, 0].min()) <= 39


def changed(line: int, text: str, **options) -> bytes:
    lines = table(**options).splitlines()
    lines[line - 1] = text
    return "\n".join(lines).encode()


WRONG = {
    "empty": (b"", "The file is empty"),
    "blank": (b" \n \n", "The file is empty"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00", "is not readable text"),
    "a zip": (b"PK\x03\x04\x14\x00", "is not readable text"),
    "UTF-16 without mark": (table().encode("utf-16-le"), "is not readable text"),
    "broken UTF-16": (table().encode("utf-16")[:-1], "is not readable text"),
    "broken UTF-8 with mark": (b"\xef\xbb\xbf\xff" + table().encode(), "is not readable text"),
    "prose": (b"Dear reader\nhow are you?\n", "The first line has one column. Put commas, semicolons or tabs"),
    "two columns": (
        changed(1, "x,y").replace(b",a", b"").replace(b",b", b""),
        "Line 1 has 2 column.s., separated by c",
    ),
    "four columns": (table().replace(",a", ",a,a").encode(), "Line 2 has 4 column"),
    "a column too few": (changed(7, "1,2"), "Line 7 has 2 column.s., separated by commas; there must be three"),
    "a column too many": (changed(7, "1,2,a,b"), "Line 7 has 4 column"),
    "NaN": (changed(7, "NaN,2,a"), "Line 7, x is 'NaN', which is no finite number"),
    "infinity": (changed(8, "1,-inf,a"), "Line 8, y is '-inf', which is no finite number"),
    "NaN at first": (table(header="").replace("0.00", "nan", 1).encode(), "Line 1, x is 'nan'"),
    "n/a": (changed(8, "1,#N/A,a"), "Line 8, y is '#N/A'"),
    "overflow": (changed(8, "1,1e400,a"), "Line 8, y is 1e400; values up to 1e.12"),
    "too large": (changed(8, "1,1e13,a"), "Line 8, y is 1e13"),
    "a word": (changed(9, "1,two,a"), "Line 9, y is 'two', which is no number"),
    "Python's number": (changed(9, "1,1_0,a"), "Line 9, y is '1_0', which is no number"),
    "formula": (changed(9, "=1+1,2,a"), "Line 9, x is '=1.1', which is no number"),
    "no x": (changed(9, ",2,a"), "Line 9, x is missing"),
    "no y": (changed(9, "1, ,a"), "Line 9, y is missing"),
    "no label": (changed(9, "1,2,"), "Line 9 has no label"),
    "half a header": (changed(1, "1,two,a"), "Line 1, y is 'two'"),
    "a second header": (changed(9, "x,y,label"), "Line 9, x is 'x', which is no number"),
    "one class": (table(labels="a").encode(), "All points have the label 'a'"),
    "eleven classes": (table(66, labels="abcdefghijk").encode(), "There are 11 different labels; at most 10"),
    "a rare class": (changed(9, "1,2,c"), "Class 'c' has 1 point.s.; each class needs at least 5"),
    "too few": (table(19).encode(), "The table has 19 points; 20 to 20,000"),
    "too many": (table(20_001).encode(), "The table has more than 20,000 points"),
    "too large a file": (b"1,2,a\n" * 900_000, "The file has 5.4 MB; at most 5 MB"),
    "a huge cell": (changed(9, "1,2," + "a" * 10_000), "Line 9 has 10,004 characters"),
    "flat": ("\n".join(f"1,{i},{'ab'[i % 2]}" for i in range(30)).encode(), "All values of x are the same"),
    "open quotes": (changed(9, '1,2,"a'), "can't be read .* Look at its quotation marks"),
    "odd quotes": (changed(9, '1,2,"a"b'), "Line 9 can't be read .* Look at its quotation marks"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_can_not_be_used_is_a_sentence(what):
    content, sentence = WRONG[what]
    with pytest.raises(CakeError, match=sentence) as caught:
        tables.read(content)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 250


def test_the_example_is_one(monkeypatch):
    monkeypatch.setattr(tables, "ROWS", (3, 3))
    monkeypatch.setattr(tables, "LEAST_PER_CLASS", 1)
    assert tables.read((tables.EXAMPLE + "1,1,flat\n").replace("0.31,1.20,round\n", "").encode()).classes == (
        "flat",
        "round",
    )


def test_anything_is_a_table_or_a_sentence():
    chance = random.Random(0)
    whole = table().encode()
    for _ in range(400):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        try:
            tables.read(bytes(broken))
        except CakeError as error:
            assert str(error).endswith(".")
