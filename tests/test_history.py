"""The history of a run: it follows the samples it names, stays small, and changes nothing."""

from __future__ import annotations

import pytest
import torch

from cake_core import history
from cake_core.history import History, Recorder, evenly
from cake_core.methods import METHODS, find
from cake_core.oracle import Oracle
from cake_core.synthesis import Synthesis
from cake_core.synthetic import Problem


def run(teacher, shape, method="lake", *, keep=True, every=1, in_flight=0, seed=0, **settings) -> Synthesis:
    """A synthesis that has been run to its end."""
    made = find(method)(find(method).Config(**settings))
    cpu = torch.device("cpu")
    problem = Problem(Oracle(teacher, cpu), shape, 2 if len(shape) == 1 else 10, made.config.batches, cpu)
    going = Synthesis(made, problem, seed=seed, in_flight=in_flight, every=every, keep_history=keep)
    for _ in going:
        pass
    return going


def test_evenly():
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(9, 3).tolist() == [0, 4, 8]
    many = evenly(200_000_001, 1000)
    assert many[-1] == 200_000_000
    assert len(many.unique()) == 1000


def test_it_is_what_the_snapshots_show(plane_teacher):
    """A naive loop over all snapshots of the run, mini-batch by mini-batch, gives the same."""
    made = find("lake")(find("lake").Config(batches=5, samples=7, steps=50))
    problem = Problem(Oracle(plane_teacher, torch.device("cpu")), (2,), 2, 5, torch.device("cpu"))
    going = Synthesis(made, problem, in_flight=2, keep_history=True)
    seen: dict[tuple[int, int], torch.Tensor] = {}  # (mini-batch, its own step) -> its samples
    for s in going:
        own = s.step - 50 * (s.batches[0] // 2)
        for row, batch in enumerate(s.batches):
            seen[batch, own] = s.x[row]
    kept, n = going.history, 8  # samples of a mini-batch: whole groups of two
    assert kept.index.tolist() == list(range(40))
    assert len(kept.steps) == history.MOMENTS
    assert (kept.steps[0], kept.steps[-1]) == (0, 50)
    for k, step in enumerate(kept.steps.tolist()):
        for s, i in enumerate(kept.index.tolist()):
            assert torch.equal(kept.x[k, s], seen[i // n, step][i % n])


PLAIN = {"labels", "logits", "gradient"}  # what the oracle of these tests is open for


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].tracks and METHODS[m].access <= PLAIN])
def test_samples_stay_the_same_and_the_end_is_theirs(plane_teacher, method):
    config = find(method).Config
    settings = {"batches": 3, "samples": 100} | ({"steps": 30} if "steps" in config.model_fields else {})
    plain = run(plane_teacher, (2,), method, keep=False, every=10**6, **settings)
    kept = run(plane_teacher, (2,), method, every=10**6, **settings)
    assert plain.history is None
    assert torch.equal(plain.result.x, kept.result.x)
    assert torch.equal(plain.result.y, kept.result.y)
    assert plain.result.provenance == kept.result.provenance  # the teacher was not asked once more
    assert len(kept.history.index) == 200
    assert torch.equal(kept.history.x[-1], kept.result.x[kept.history.index])


def test_methods_whose_samples_have_no_way_keep_none(plane_teacher):
    assert run(plane_teacher, (2,), "rdskd", batches=2, samples=20, steps=3).history is None


def test_chunks_in_flight_and_snapshots_change_nothing(image_teacher):
    settings = {"batches": 4, "samples": 30, "steps": 12}
    one = run(image_teacher, (1, 8, 8), "cake", in_flight=1, every=5, **settings).history
    all_at_once = run(image_teacher, (1, 8, 8), "cake", in_flight=4, **settings).history
    assert torch.equal(one.index, all_at_once.index)
    assert torch.equal(one.steps, all_at_once.steps)
    torch.testing.assert_close(one.x, all_at_once.x, atol=2e-3, rtol=1e-3)  # half precision


def test_all_mini_batches_are_in_it(plane_teacher):
    found = run(plane_teacher, (2,), "naive", batches=90, samples=40, steps=3)
    counts = torch.bincount(found.result.batch[found.history.index], minlength=90)
    assert counts.min() >= 2
    assert counts.max() <= 3
    assert found.history.steps.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 224, 224)])
def test_it_is_bounded(shape):
    recorder = Recorder(1000, 10, shape)
    x = torch.zeros(1).expand(1, 1, 1000, *shape)  # no memory behind it
    wanted = [t for t in range(1001) if recorder.wants(t)]
    assert wanted[0] == 0
    assert wanted[-1] == 1000
    assert len(wanted) <= history.MOMENTS
    for batch in range(10):
        for t in wanted:
            recorder.add(t, x, (batch,))
    kept = recorder.history()
    assert kept.x.shape == (len(wanted), len(kept.index), *shape)
    assert 1 <= len(kept.index) <= history.SAMPLES
    assert kept.x.nbytes <= history.BYTES


def test_noise_has_one_moment(plane_teacher):
    found = run(plane_teacher, (2,), "noise", batches=2, samples=10)
    assert found.history.steps.tolist() == [0]
    assert torch.equal(found.history.x[0], found.result.x)


def test_what_ran_far_stays_finite_in_half_precision():
    recorder = Recorder(1, 1, (1, 2, 2))
    for t in (0, 1):
        recorder.add(t, torch.full((1, 1, 3, 1, 2, 2), -1e9), (0,))
    assert recorder.history().x.isfinite().all()


def test_it_is_stored(plane_teacher, tmp_path):
    assert History.load(tmp_path) is None  # a run of an older version
    kept = run(plane_teacher, (2,), batches=2, samples=10, steps=4).history
    kept.save(tmp_path)
    back = History.load(tmp_path)
    for name in ("index", "steps", "x"):
        assert torch.equal(getattr(back, name), getattr(kept, name))
