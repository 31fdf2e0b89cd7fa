"""The teacher that only answers, in this process and behind a real server, with everything that goes wrong there."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import torch
from torch import nn

from cake_core.black_box import PER_REQUEST, BudgetSpent, LocalBlackBox, RemoteBlackBox, Unavailable, packed
from cake_core.errors import CakeError
from cake_core.service import Terms, serving

NAMES = ("a", "b", "c")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 3)


def box(**more) -> LocalBlackBox:
    return LocalBlackBox(network(), (2,), NAMES, **more)


def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr("cake_core.black_box.LONGEST_WAIT", 0.05)


def test_soft_and_hard_answers():
    x, meant = inputs(5)
    wanted = network()(x).softmax(dim=1)
    assert torch.equal(box().ask(x, meant), wanted)
    hard = box(answers="hard").ask(x, meant)
    assert hard.tolist() == [[float(k == p.argmax()) for k in range(3)] for p in wanted]


def test_calls_are_counted_by_the_class_they_are_meant_for():
    teacher = box(budget=4)
    teacher.ask(torch.zeros(3, 2), torch.tensor([0, 0, 2]))
    assert teacher.usage().to_dict() == {"per_class": (2, 0, 1), "budget": 4, "calls": 3}


def test_the_budget_is_kept_and_a_refused_request_costs_nothing():
    teacher = box(budget=2)
    teacher.ask(torch.zeros(2, 2), torch.tensor([1, 1]))
    with pytest.raises(BudgetSpent, match="2 calls for class 'b'"):
        teacher.ask(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert teacher.usage().per_class == (0, 2, 0)


def test_what_fails_is_asked_again_and_counted_once():
    x, meant = inputs(4 * PER_REQUEST)
    shaky = box(errors=0.5, seed=3)
    assert torch.equal(shaky.ask(x, meant), box().ask(x, meant))
    assert shaky.failures > 0
    assert shaky.usage().calls == len(x)


def test_a_key_that_was_answered_is_not_counted_again():
    teacher, (x, meant) = box(), inputs(3)
    first = teacher.request(x, meant, "k")
    assert torch.equal(teacher.request(x, meant, "k"), first)
    assert teacher.usage().calls == 3


def test_a_teacher_that_never_answers_is_given_up():
    with pytest.raises(CakeError, match="did not answer in 10 attempts"):
        box(errors=1.0).ask(*inputs(1))


@pytest.mark.parametrize(
    ("x", "meant", "says"),
    [
        (torch.zeros(1, 3), torch.tensor([0]), "inputs of 2"),
        (torch.zeros(2, 2), torch.tensor([0]), "one class for each"),
        (torch.full((1, 2), float("nan")), torch.tensor([0]), "not finite"),
        (torch.zeros(1, 2), torch.tensor([3]), "from 0 to 2"),
    ],
)
def test_bad_inputs_are_refused_here_and_there(x, meant, says):
    with pytest.raises(CakeError, match=says):
        box().request(x, meant, "k")
    with serving(box()) as url, pytest.raises(CakeError, match=says):
        RemoteBlackBox(url).request(x, meant, "k")


@pytest.mark.parametrize("form", ["npy", "json"])
def test_over_http_the_answers_are_the_same_bit_for_bit(form):
    x, meant = inputs(PER_REQUEST + 3)
    teacher = box()
    with serving(teacher) as url:
        remote = RemoteBlackBox(url, form=form)
        assert (remote.shape, remote.classes, remote.answers) == ((2,), NAMES, "soft")
        assert torch.equal(remote.ask(x, meant), box().ask(x, meant))
        assert remote.usage() == teacher.usage()
        remote.close()


def test_errors_limits_and_dropped_connections_change_nothing():
    x, meant = inputs(8 * PER_REQUEST)
    teacher = box(errors=0.1, seed=1)
    with serving(teacher, Terms(dropped=0.4, rate=8.0)) as url:
        remote = RemoteBlackBox(url)
        assert torch.equal(remote.ask(x, meant), box().ask(x, meant))
        assert remote.failures > 2
        assert teacher.usage().calls == len(x)


def test_the_budget_is_kept_on_the_other_side_too():
    teacher = box(budget=1)
    with serving(teacher) as url:
        remote = RemoteBlackBox(url)
        remote.ask(torch.zeros(1, 2), torch.tensor([2]))
        with pytest.raises(BudgetSpent, match="for class 'c' is spent"):
            remote.ask(torch.zeros(1, 2), torch.tensor([2]))
    assert teacher.usage().calls == 1


def test_without_the_key_nothing_is_told():
    with serving(box(), Terms(key="cherry")) as url:
        assert httpx.get(f"{url}/v1/model").status_code == 401
        with pytest.raises(CakeError, match=r"status 401\): This service needs its API key"):
            RemoteBlackBox(url, "plum")
        assert RemoteBlackBox(url, "cherry").classes == NAMES


def test_status_codes():
    with serving(box(), Terms(most_bytes=2000)) as url, httpx.Client(base_url=url) as client:
        assert client.post("/v1/answers", content=b"{").status_code == 400
        assert client.post("/v1/answers", json={"inputs": [[1, 2]]}).status_code == 400
        assert client.post("/v1/answers", json={"inputs": [[1], [2, 3]], "meant": [0, 0]}).status_code == 400
        large = client.post("/v1/answers", json={"inputs": [[0.5, 0.5]] * 400, "meant": [0] * 400})
        assert (large.status_code, "2,000 bytes" in large.json()["error"]) == (413, True)
        headers = {"content-type": "application/x-npy", "x-meant": "0"}
        pickled = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(128)
        assert client.post("/v1/answers", content=pickled, headers=headers).status_code == 400
        good = client.post("/v1/answers", content=packed(np.zeros((1, 2), np.float32)), headers=headers)
        assert np.asarray(good.json()["answers"]).shape == (1, 3)
        assert client.get("/v1/answers").status_code == 405


def test_too_many_requests_are_told_when_to_come_again():
    with serving(box(), Terms(rate=1.0)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/usage").status_code == 200
        second = client.get("/v1/usage")
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")


def test_nobody_there():
    with pytest.raises(CakeError, match="Nobody answers at http://127.0.0.1:9"):
        RemoteBlackBox("http://127.0.0.1:9")
    with pytest.raises(CakeError, match="can't be asked"):
        RemoteBlackBox("cherry pie")


def test_unavailable_keeps_what_the_teacher_asks_for():
    assert Unavailable("busy", 2.0).wait == 2.0
