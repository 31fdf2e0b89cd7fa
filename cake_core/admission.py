"""Whether a run may begin: the memory that it takes against what is free.

Nothing is computed to find out how much memory a run takes: networks are built without values (torch's meta device) and
asked what they would keep for a gradient; everything else follows from the shapes.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import data, devices, models
from . import teacher as teachers
from .errors import CakeError
from .limits import Limits
from .methods import find
from .oracle import folded
from .pipeline import Experiment, default_teacher, resolve_teacher
from .proxies import AT_ONCE, model_for
from .student import StudentConfig
from .synthesis import IN_FLIGHT_CPU

if TYPE_CHECKING:
    from .data import DatasetInfo
    from .few_call import FewCallConfig
    from .lineup import LineUp

__all__ = [
    "Ledger",
    "Need",
    "attack",
    "fewer",
    "free_bytes",
    "learning",
    "line_up",
    "need",
    "per_sample",
    "size",
    "smaller_attack",
    "smaller_batch",
    "widest",
]

FLOAT = 4  # bytes
JUDGED = 1024  # samples whose distance to the boundary is measured at a time
LEARNED = 4  # times its weights: a network that learns, with gradients and what Adam remembers
LIBRARIES = 410_000_000  # bytes of a process that has imported torch and all the rest, as measured on Linux
COPIES = 6  # of the samples in flight: they, their gradient, the noise, what the step makes of them, what is shown


def size(value: float) -> str:
    """Bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{max(0, value) / 1e3:.0f} kB"


# -- how much a run takes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """Bytes that a run takes, about.

    Attributes:
        held: from its beginning to its end, also while it is paused: networks, data, samples.
        step: beyond that while it computes a step. Runs of one process take steps in turns, so only the largest counts.
        device: the type of device that they are taken from.
    """

    held: int
    step: int
    device: str = "cpu"

    @property
    def alone(self) -> int:
        """What it takes where nothing else runs."""
        return self.held + self.step

    def abreast(self, processes: int) -> Need:
        """What so many processes take that each do the same; beyond the first one each holds the libraries, too."""
        return Need(processes * self.held + (processes - 1) * LIBRARIES, processes * self.step, self.device)


def need(experiment: Experiment) -> Need:
    """What an experiment takes, with as few samples at once as can be.

    Args:
        experiment: complete.

    Raises:
        CakeError: its teacher is not there.
    """
    e, info = experiment, data.info(experiment.data.name)
    s, method, device = e.settings, find(e.method), devices.choose(e.device).type
    values, classes = math.prod(info.shape), len(info.classes)
    group = min(classes, s.samples)
    batch = group * math.ceil(s.samples / group)
    made = s.batches * batch * method(s).delivered
    at_once = 1
    if method.whole:
        at_once = s.batches
    elif device == "cpu":  # a GPU fits as many in as its memory holds
        kind = "points" if len(info.shape) == 1 else "images"
        at_once = min(s.batches, max(1, IN_FLIGHT_CPU[kind] // batch))
    moved = getattr(s, "batch_size", batch) if method.whole else at_once * batch
    teacher, student = _model(e), e.student.model
    asked = max(moved, min(made, JUDGED))
    learned = min(made, e.student.batch_size)
    held = (
        2 * made * _sample_bytes(info)  # the mini-batches, and all of them in one
        + COPIES * at_once * batch * values * FLOAT
        + _example_bytes(info)
        + 2 * parameter_bytes(teacher, info)  # as it was, and the frozen copy
        + LEARNED * parameter_bytes(student, info)
    )
    step = max(asked * per_sample(teacher, info), learned * per_sample(student, info, training=True))
    return Need(int(held), int(step), device)


def widest(experiments: Iterable[Experiment]) -> tuple[Experiment, Need]:
    """Of experiments that run one after the other, the one that takes most, and what it takes."""
    alike = {json.dumps(e.to_dict() | {"seed": 0}, sort_keys=True): e for e in experiments}  # seeds take the same
    return max(((e, need(e)) for e in alike.values()), key=lambda found: found[1].alone)


def learning(
    info: DatasetInfo,
    learned: Iterable[tuple[str, int]],
    *,
    made: int = 0,
    asked: Iterable[str] = (),
    device: str = "cpu",
) -> Need:
    """What it takes to train networks in turns, all of which are held, on examples or on samples that are there.

    Args:
        info: the data set, whose examples are held.
        learned: architecture and batch size of each.
        made: synthetic samples, with a teacher's answers.
        asked: architectures of the teachers.
        device: the type of device.
    """
    learned, asked = list(learned), list(asked)
    held = (
        made * _sample_bytes(info)
        + _example_bytes(info)
        + sum(LEARNED * parameter_bytes(model, info) for model, _ in learned)
        + sum(2 * parameter_bytes(model, info) for model in asked)
    )
    return Need(held, max(n * per_sample(model, info, training=True) for model, n in learned), device)


def attack(config: FewCallConfig) -> Need:
    """What an attack with few calls takes: its proxies, the student, and the diffusion model while it draws."""
    info, proxies = data.info(config.data.name), config.proxies
    made = proxies.per_class * len(info.classes)
    teacher, device = _model(config.experiment), devices.choose(config.device).type
    student = (config.student.model, min(made, config.student.batch_size))
    base = learning(info, [student], made=made, asked=[teacher], device=device)
    card = model_for(info) if proxies.source == "diffusion" else None
    drawn = 0 if card is None else min(made, AT_ONCE) * drawing(card.shape, card.recipe["width"])
    return Need(base.held, max(base.step, drawn), device)


def smaller_attack(config: FewCallConfig, room: float) -> str:
    """What to lower, and to what, so that an attack with few calls takes no more than `room` bytes; a sentence."""
    p, now = config.proxies.param("per_class"), config.proxies.per_class

    def with_proxies(count: int) -> FewCallConfig:
        return config.replace(proxies=config.proxies.replace(per_class=count))

    then = largest(lambda n: attack(with_proxies(n)).alone <= room, config.budget, now)
    if then is not None:
        return f"Lower “{p.label}” from {now:,} to {max(then, config.budget):,}."
    student = config.student
    return smaller_batch(
        lambda n: attack(config.replace(student=student.replace(batch_size=n))), student.batch_size, room
    )


def line_up(run: LineUp) -> Need:
    """What a line-up takes: all its networks, one of which learns at a time, and the samples of a copy without data."""
    c = run.config
    learner = StudentConfig.for_data(c.info, model=c.student_model)
    trained = [c.teacher_model(k) for k in range(len(run.teachers), c.teachers)]
    learned = [(c.student_model, learner.batch_size)]
    learned += [(model, teachers.recipe(c.info.name, model).batch_size) for model in trained]
    asked = [*trained, *(t.card.model for t in run.teachers), *[c.student_model] * (len(run.suspects) + c.nulls)]
    base = max((learning(c.info, [one], asked=asked, device=run.device.type) for one in learned), key=lambda n: n.alone)
    if not run.experiments:
        return base
    copying = widest(run.experiments)[1]
    return Need(base.held + copying.held, max(base.step, copying.step), base.device)


SMALLER_NETWORKS = "Choose smaller networks, fewer of them, or a data set with less in it."


def drawing(shape: tuple[int, ...], width: int) -> int:
    """Bytes for each image that a diffusion model draws: seven times what its widest layer gives, as measured for the
    two that are shipped.

    Args:
        shape: of an image (channels, side, side).
        width: its channels at full resolution; the widest layer, at the end of the way up, has three times as many.
    """
    return 7 * FLOAT * 3 * width * math.prod(shape[1:])


def _sample_bytes(info: DatasetInfo) -> int:
    """Of a sample with a teacher's answer, its label and its place."""
    return FLOAT * (math.prod(info.shape) + len(info.classes)) + 16


def _example_bytes(info: DatasetInfo) -> int:
    """Of all examples of a data set."""
    return (info.examples or 0) * math.prod(info.shape) * (1 if info.kind == "images" else FLOAT)


def _model(experiment: Experiment) -> str:
    """The architecture of an experiment's teacher; one that is not ours by a name that is none of `MODELS`."""
    name = resolve_teacher(experiment) or experiment.teacher or default_teacher(experiment)
    return name if name in models.MODELS else teachers.card(name).model


def per_sample(model: str, info: DatasetInfo, *, training: bool = False) -> int:
    """Bytes for each sample of a pass forward and back through an architecture; 0 for one that is none of ours.

    Args:
        model: its name.
        info: whose shape and classes it has.
        training: whether its weights are learned; otherwise only the inputs get a gradient.
    """
    return _passed(model, info.shape, len(info.classes), training) if model in models.MODELS else 0


def parameter_bytes(model: str, info: DatasetInfo) -> int:
    """Bytes of an architecture's weights; 0 for one that is none of ours."""
    if model not in models.MODELS:
        return 0
    return FLOAT * models.parameter_count(_empty(model, info.shape, len(info.classes)))


@cache
def _empty(model: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    with torch.device("meta"):
        return models.build(model, shape, classes)


@cache
def _passed(model: str, shape: tuple[int, ...], classes: int, training: bool) -> int:
    network = copy.deepcopy(_empty(model, shape, classes)).train(training).requires_grad_(training)
    if not training:
        network = folded(network)  # as the oracle has it
    return kept_for_gradient(network, torch.zeros(PROBE, *shape, device="meta")) // PROBE


WIDEST = 4  # of the largest tensor: what operations have in hand at its place, forward or back, beside what is kept
PROBE = 4  # samples: batch normalisation in training wants more than one


def kept_for_gradient(network: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Bytes that a pass forward keeps until the pass back, and that the pass back adds at its widest place.

    Args:
        network: whose weights do not count.
        x: inputs (B, *shape).
    """
    own = {p.untyped_storage()._cdata for p in network.parameters()} if isinstance(network, nn.Module) else set()
    kept: dict[int, Tensor] = {}

    def keep(t: Tensor) -> Tensor:
        if (place := t.untyped_storage()._cdata) not in own:
            kept[place] = t  # held, so that no other takes its place
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        network(x.requires_grad_())
    sizes = [t.untyped_storage().nbytes() for t in kept.values()]
    return sum(sizes) + WIDEST * max(sizes, default=0)


# -- what would do ----------------------------------------------------------------------------------------------------

SHRINKABLE = (("settings", "samples"), ("settings", "batches"), ("student", "batch_size"))


def fewer(experiment: Experiment, room: float) -> str:
    """What to lower, and to what, so that an experiment takes no more than `room` bytes; a sentence.

    One setting alone where that does, the one that has to be lowered least.
    """
    found = [(now / then, path, now, then) for path, now, then in _alone(experiment, room)]
    if found:
        _, path, now, then = min(found)
        return f"Lower {_label(experiment, path)} from {now:,} to {then:,}."
    small = experiment
    while need(small).alone > room:
        values = [(path, _value(small, path)) for path in SHRINKABLE]
        lower = {path: round_down(v * 0.7) for path, v in values if v > LEAST.get(path[1], 1)}
        if not lower:
            return "No number of samples would do: choose a smaller teacher or student, or a data set with less in it."
        for path, value in lower.items():
            small = _changed(small, path, max(value, LEAST.get(path[1], 1)))
    lowered = [
        f"{_label(small, path)} from {_value(experiment, path):,} to {_value(small, path):,}"
        for path in SHRINKABLE
        if _value(small, path) != _value(experiment, path)
    ]
    return f"Lower {' and '.join([', '.join(lowered[:-1]), lowered[-1]] if len(lowered) > 1 else lowered)}."


LEAST = {"samples": 2, "batches": 1, "batch_size": 16}


def _alone(experiment: Experiment, room: float) -> Iterator[tuple[tuple[str, str], int, int]]:
    """Settings that do when they alone are lowered: which, the value now, the largest round one that does."""
    for path in SHRINKABLE:
        now = _value(experiment, path)
        then = largest(lambda v, path=path: need(_changed(experiment, path, v)).alone <= room, LEAST[path[1]], now)
        if then is not None:
            yield path, now, then


def largest(fits: Callable[[int], bool], least: int, now: int) -> int | None:
    """The largest round number below `now` that fits; None where not even the least does."""
    low, high = min(least, now), now
    if not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return round_down(low)


def smaller_batch(needed: Callable[[int], Need], batch_size: int, room: float) -> str:
    """What to do so that networks learn in no more than `room` bytes; a sentence.

    Args:
        needed: what it takes with a batch size.
        batch_size: as it is.
        room: bytes.
    """
    then = largest(lambda n: needed(n).alone <= room, LEAST["batch_size"], batch_size)
    if then is None:
        return "No batch size would do: choose a smaller network, or a data set with less in it."
    return f"Lower “Batch size” from {batch_size:,} to {then:,}."


def round_down(value: float) -> int:
    """The number with two digits, none of them larger."""
    digit = 10 ** max(0, math.floor(math.log10(max(1, value))) - 1)
    return int(value // digit * digit)


def _value(experiment: Experiment, path: tuple[str, str]) -> int:
    return getattr(getattr(experiment, path[0]), path[1])


def _label(experiment: Experiment, path: tuple[str, str]) -> str:
    label = getattr(experiment, path[0]).param(path[1]).label
    return f"“{label}”" + (" of the student" if path[0] == "student" else "")


def _changed(experiment: Experiment, path: tuple[str, str], value: int) -> Experiment:
    part = getattr(experiment, path[0])
    return experiment.replace(**{path[0]: part.replace(**{path[1]: value})})


# -- what is free -----------------------------------------------------------------------------------------------------


def free_bytes(device: str) -> float:
    """Bytes that are free on a device, and on a GPU those that this process holds; 0 where that can't be known."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    if device != "cpu":
        return 0
    return min(_available(), _allowed())


def _available() -> float:
    """Free memory of the machine; infinite where this can't be known (no Linux)."""
    try:
        return 1024 * int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1])
    except (OSError, TypeError):
        return math.inf


def _allowed() -> float:
    """What a container may still take, by its control group; infinite where there is none."""
    for folder, most, now in GROUPS:
        try:
            limit, used = (int((folder / name).read_text()) for name in (most, now))
            # Files that were read are counted, and given up when memory is wanted.
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.M)
            return max(0, limit - used + (int(cached[1]) if cached else 0))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return math.inf


GROUPS = (  # the second and the first version
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def resident_bytes() -> int:
    """Memory of this process that lies in no file; 0 where this can't be known."""
    try:
        return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    except (OSError, TypeError):
        return 0


class Ledger:
    """Which runs of a compute process were let in, and what memory is left for others.

    What a run has taken by now is not asked: what all of them will take at most is added up.

    Args:
        limits: what may be taken.
        free: bytes that are free on a type of device.
        taken: bytes of the machine's memory that this process has.
    """

    def __init__(
        self,
        limits: Limits,
        free: Callable[[str], float] = free_bytes,
        taken: Callable[[], float] = resident_bytes,
    ):
        self.limits, self._free, self._taken = limits, free, taken
        self._before = taken()
        self._inside: dict[str, Need] = {}

    def room(self, device: str) -> float:
        """Bytes that all runs on a type of device may take together; infinite where this can't be known."""
        free = self._free(device)
        if device == "cpu":
            free += max(0.0, self._taken() - self._before)  # what runs have taken was there for them
            limit = 1e9 * self.limits.memory_gb or math.inf
            return min(limit, self.limits.memory_share * free)
        return self.limits.memory_share * free if free else math.inf

    def check(self, needed: Need, less: Callable[[float], str]) -> None:
        """Refuses what would not fit even if nothing else ran.

        Args:
            needed: by the run.
            less: what would do in so many bytes, a sentence.

        Raises:
            CakeError: saying what is needed, what there is, and what to lower.
        """
        room = self.room(needed.device)
        if needed.alone > room:
            where = "this machine" if needed.device == "cpu" else "the GPU"
            raise CakeError(
                f"This run needs about {size(needed.alone)} of memory, and {where} has {size(room)} for runs. "
                f"{less(room)}"
            )

    def ask(self, name: str, needed: Need | None) -> str:
        """Lets a run in, if it fits beside those that are in; it is in until it is `gone`.

        Returns:
            Nothing where it is in; otherwise why it waits.
        """
        if needed is None:
            return ""
        beside = [n for k, n in self._inside.items() if k != name and n.device == needed.device]
        held = sum(n.held for n in beside)
        widest = max([needed.step, *(n.step for n in beside)])
        room = self.room(needed.device)
        if beside and held + needed.held + widest > room:
            left = max(0.0, room - held - (widest - needed.step))
            return f"waits for memory: needs about {size(needed.alone)}, {size(left)} is free"
        self._inside[name] = needed
        return ""

    def gone(self, name: str) -> bool:
        """Notes that a run has ended; whether that has made room."""
        return self._inside.pop(name, None) is not None
