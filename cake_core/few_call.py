"""Stealing a model with few calls: proxies, a black box with a budget, and a student that chooses what to ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from . import data, devices, evaluation, models
from . import teacher as teachers
from .aspkd import Distance, Weighting, centres, choose, latent, nearest, pseudo_labels
from .black_box import Answers, BlackBox, LocalBlackBox
from .config import Config, as_text, named, param
from .data import DataConfig
from .errors import CakeError
from .evaluation import Rate
from .pieces import NOWHERE, Pieces
from .pipeline import Experiment, Update, default_teacher, need_examples, resolve_teacher
from .proxies import Drawing, Proxies, ProxyConfig, Sketch, disjoint
from .rng import generator
from .student import Lesson, StudentConfig, StudentTraining, fresh
from .training import train

__all__ = ["VARIANTS", "FewCall", "FewCallConfig", "Round", "Stolen"]

CHOICE_STREAM = 2**31 + 13
ROUND_SHARE = 0.1  # of the student's updates that follow each round of calls
GLANCE = 1000  # test examples that decide whether such a teacher is good enough
BETWEEN_LOOKS = 5  # updates of a teacher that is stopped when it is good enough


class FewCallConfig(Config):
    """Everything that the result of an attack depends on."""

    data: DataConfig = DataConfig(name="digits")
    proxies: ProxyConfig = ProxyConfig()
    student: StudentConfig = StudentConfig()
    teacher: str = param("", group="Data", help="A shipped teacher, or one trained here ('run:...'). Empty: the usual.")
    quality: float = param(
        0.0,
        low=0.0,
        high=1.0,
        step=0.05,
        label="Quality of the teacher",
        group="Data",
        help="0 takes the teacher as it is. Otherwise one of its architecture is trained until so large a share of the "
        "test examples is right, and no longer.",
    )
    budget: int = param(
        32,
        low=1,
        high=4096,
        scale="log",
        symbol="n",
        label="Calls per class",
        help="How many proxies of each class the teacher is asked about, in all rounds together.",
    )
    answers: Answers = param(
        "soft", help="What the teacher gives away: its probabilities, or only the class that it names."
    )
    rounds: int = param(
        2, low=1, high=10, help="In how many parts the budget is spent. After each the student learns, and sees anew."
    )
    active: bool = param(
        True,
        label="Active choice",
        help="Proxies near the centre of their class, as the student sees it, are asked about first. Off: any.",
    )
    spread: float = param(
        1.0,
        low=0.01,
        high=100.0,
        scale="log",
        symbol="s",
        label="Spread of the choice",
        help="In medians of the distance to the centre. Small asks about typical proxies only, large about any.",
    )
    pseudo: bool = param(
        True,
        label="Pseudo-labels",
        help="Proxies that were not asked about get the label of their neighbours that were, and are learned too.",
    )
    neighbours: int = param(5, low=1, high=100, symbol="k", help="Neighbours that decide a pseudo-label.")
    distance: Distance = param("cosine", help="What near means in the student's features.")
    pseudo_labels: Literal["soft", "hard"] = param(
        "soft", label="Kind of pseudo-labels", help="The neighbours' weighted mean, or their majority."
    )
    weighting: Weighting = param(
        "inverse",
        group="Advanced",
        help="Of Euclidean neighbours: by the inverse of the distance; or by the distance, as the paper's code has it.",
    )
    gate: bool = param(
        True, help="Pseudo-labelled proxies are learned only where the label is the class that they were made for."
    )
    asked: bool = param(
        True,
        label="Ask the teacher",
        group="Advanced",
        help="Off is a control: the student learns which class each proxy was made for, and no call is made.",
    )
    warm_start: Literal["none", "digits"] = param(
        "none",
        label="Warm start",
        group="Student",
        suits="images",
        help="Whether the student has learned scikit-learn's digits before, enlarged: another public set.",
    )
    seed: int = param(0, low=0, high=2**31 - 1, group="Data", help="Seed of proxies, choices and student.")
    device: Literal["auto", "cpu", "cuda", "mps"] = param("auto", group="Advanced", help="Where to compute.")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Parts may be given as plain values; what is not given comes from the presets of the data."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        config = values.get("data")
        if not isinstance(config, DataConfig):
            config = named(config)
            config = DataConfig.from_dict({**config, "name": data.info(config.get("name", "digits")).name})
        values["data"] = config
        info = data.info(config.name)
        for name, part, own in (("proxies", ProxyConfig, {}), ("student", StudentConfig, _learning(info))):
            if not isinstance(values.get(name), part):
                values[name] = part.for_data(info, **own | named(values.get(name)))
        if values["proxies"].source == "diffusion" and not values.get("teacher"):
            values["teacher"] = _unseen_by(info)
        return values

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        if self.proxies.per_class < self.budget:
            raise CakeError(
                f"{self.budget} calls per class need as many proxies of each, and there are {self.proxies.per_class}. "
                "Make more proxies, or fewer calls."
            )
        if self.warm_start == "digits" and (self.data.name == "digits" or data.info(self.data.name).kind != "images"):
            raise CakeError("A warm start from the digits is for images of another set. Choose 'none'.")
        return self

    def with_budget(self, budget: int) -> Self:
        """The same with so many calls per class, and with more proxies where there are not as many."""
        many = max(self.proxies.per_class, budget)
        return self.replace(budget=budget, proxies=self.proxies.replace(per_class=many))

    def to_query(self, prefix: str = "") -> dict[str, str]:
        usual = type(self).from_dict({"data": {"name": self.data.name}})
        flat = {f"{prefix}data.name": self.data.name}
        for name in type(self).model_fields:
            ours, theirs = getattr(self, name), getattr(usual, name)
            if isinstance(ours, Config):
                flat |= {f"{prefix}{name}.{k}": as_text(v) for k, v in ours if v != getattr(theirs, k)}
            elif ours != theirs:
                flat[prefix + name] = as_text(ours)
        return flat

    @property
    def experiment(self) -> Experiment:
        """The same data, teacher and student, as other parts of the program take them."""
        return Experiment.from_dict(
            {
                "data": self.data.to_dict(),
                "teacher": self.teacher,
                "student": self.student.to_dict(),
                "seed": self.seed,
                "device": self.device,
            }
        )


def _learning(info: data.DatasetInfo) -> dict[str, Any]:
    """How students learn here, where that differs from what suits thousands of synthetic samples."""
    if info.kind == "points":
        return {}
    small = info.shape[1] <= 16
    return {"updates": 1000 if small else 2000, "weight_decay": 0.01, "shift": 1 if small else 2}


# What the method is compared with: what each changes. CAKE, which needs gradients, stands beside them.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "aspkd": ("ASPKD", {}),
    "no-active": ("without active choice", {"active": False}),
    "no-pseudo": ("without pseudo-labels", {"pseudo": False}),
    "random": ("random, without pseudo-labels", {"active": False, "pseudo": False}),
    "other": ("without diffusion: another set", {"proxies.source": "other"}),
    "knockoff": ("Knockoff: another set, random", {"proxies.source": "other", "active": False, "pseudo": False}),
    "prompts": ("no calls: prompts alone (control)", {"asked": False}),
    "noise": ("noise (control)", {"proxies.source": "noise", "active": False, "pseudo": False}),
}


@dataclass(frozen=True, eq=False)
class Round:
    """What is known after a round of calls, and what the student then learned.

    Attributes:
        number: from 1 on.
        calls: in all so far.
        asked: positions of all proxies that were asked about so far.
        position: where the student saw the proxies before this round, in the plane (N, 2); points stay where they are.
        centres: the class centres in that plane (C, 2).
        labels: the class (N,) of each proxy: the teacher's answer where it was asked, otherwise the neighbours'.
        knn_accuracy: share of those not asked about whose neighbours give the class the teacher would; None where
            nobody knows what it would.
        agreement, accuracy: of the student on the real test data.
    """

    number: int
    calls: int
    asked: Tensor
    position: Tensor
    centres: Tensor
    labels: Tensor
    knn_accuracy: Rate | None
    agreement: Rate | None
    accuracy: Rate


@dataclass(frozen=True)
class Stolen:
    """The numbers of one attack.

    Attributes:
        seed: of proxies, choices and student.
        calls: that the teacher counted.
        failures: requests that had to be sent again.
        teacher_accuracy: on the real test data; None where the teacher is a stranger's.
        accuracy, agreement: of the student at the end; agreement is None with a stranger's teacher.
        before: its agreement (with a stranger's teacher: accuracy) before pseudo-labels were learned; None where
            nothing was asked.
        knn_accuracy: of the pseudo-labels, all of them.
        kept: pseudo-labels that passed the gate.
        kept_accuracy: share of those that is right.
        prompt_accuracy: share of all proxies that the teacher takes for the class that they were made for.
        seconds: of all but the proxies.
        proxies: where they came from.
    """

    seed: int
    calls: int
    failures: int
    teacher_accuracy: Rate | None
    accuracy: Rate
    agreement: Rate | None
    before: Rate | None
    knn_accuracy: Rate | None
    kept: int
    kept_accuracy: Rate | None
    prompt_accuracy: Rate | None
    seconds: float
    proxies: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values: each rate as its value, with its interval beside it."""
        plain: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if "Rate" in str(f.type):
                plain |= {f.name: value and value.value, f"{f.name}_interval": value and [value.low, value.high]}
            else:
                plain[f.name] = value
        return {**plain, "n_test": self.accuracy.n}


class FewCall(Iterator[Update]):
    """Runs one attack. When the iterator is exhausted, `outcome` holds the numbers.

    Args:
        config: what to run.
        box: the teacher as the attack sees it (None: the config's teacher, in this process).
        stranger: whether nobody here knows the network behind `box`; then nothing is compared with it.
        pieces: where proxies and trainings are stored, to go on from. What lies between is done again, the questions
            included; so the box has to be a fresh one.

    Attributes:
        dataset, network, box, proxies, student, outcome: each is there as soon as its stage is done.
        taught: what the student learned in the end: proxies (N, *shape) and their labels (N, C).
        sketch: what is being drawn, while proxies are.
        rounds: one after the other.

    Raises:
        CakeError: the data have no examples to judge by, or the black box takes other inputs.
    """

    def __init__(
        self,
        config: FewCallConfig,
        *,
        box: BlackBox | None = None,
        stranger: bool = False,
        pieces: Pieces = NOWHERE,
    ):
        need_examples(config.data, "nobody can tell how good a copy is. Choose a set with examples")
        name = resolve_teacher(config.experiment)  # refused now
        if config.proxies.source == "diffusion" and name and not (stranger or _is_disjoint(config, name)):
            raise CakeError(
                f"The diffusion model for {data.info(config.data.name).title} has seen images that teacher '{name}' "
                f"learned from. Choose teacher '{_unseen_by(data.info(config.data.name))}', or other proxies."
            )
        self.config, self.box, self._stranger, self._pieces = config, box, stranger, pieces
        self.device = devices.choose(config.device)
        self.dataset: data.Dataset | None = None
        self.network: Callable[[Tensor], Tensor] | None = None
        self.proxies: Proxies | None = None
        self.sketch: Sketch | None = None
        self.rounds: list[Round] = []
        self.student: nn.Module | None = None
        self.taught: tuple[Tensor, Tensor] | None = None
        self.outcome: Stolen | None = None
        self._rng = generator(config.seed, CHOICE_STREAM)
        self._phases, self._trained = 0, 0.0  # of the student's training so far, and the share of all its updates
        self._named: Tensor | None = None  # the class (N,) that the teacher would name for each proxy
        self._of_test: Tensor | None = None  # its logits on the test data
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels the attack."""
        self._updates.close()

    # -- stages --------------------------------------------------------------------------------------------------

    def _loop(self) -> Iterator[Update]:
        for _ in data.images.download(self.config.data.name):
            yield Update("data", 0.0, "Downloading the data")
        self.dataset = data.load(self.config.data).to(self.device)
        if not self._stranger:
            yield from self._teacher()
        info = self.dataset.info
        if self.box is None:
            self.box = LocalBlackBox(
                self.network,
                info.shape,
                info.classes,
                budget=self.config.budget,
                answers=self.config.answers,
                device=self.device,
            )
        if (self.box.shape, len(self.box.classes)) != (info.shape, len(info.classes)):
            raise CakeError(
                f"The teacher takes inputs {self.box.shape} of {len(self.box.classes)} classes; {info.title} has "
                f"{info.shape} and {len(info.classes)}. Choose the data that it was made for."
            )
        yield Update("synthesis", 0.05, "Drawing proxies")
        drawing = Drawing(self.dataset, self.config.proxies, self.config.data, self.config.seed, self._pieces)
        for self.sketch in drawing:
            yield Update("synthesis", 0.05 + 0.35 * self.sketch.share, "Drawing proxies")
        self.proxies = drawing.proxies
        yield from self._attack()
        yield Update("evaluation", 1.0, "Done")

    def _teacher(self) -> Iterator[Update]:
        """The teacher: loaded, or trained until it is as good as is wanted."""
        name = resolve_teacher(self.config.experiment)
        if self.config.quality:
            model, images = default_teacher(self.config.experiment), None
            if name:
                model, images = teachers.card(name).model, teachers.card(name).images
            self.network = yield from self._trained_until(model, images, self.config.quality)
        elif name:
            self.network = teachers.load(name).network
        else:
            model, how = default_teacher(self.config.experiment), {"halfway": self._pieces.halfway("teacher")}
            training = teachers.TeacherTraining(self.dataset, self.config.data, model, seed=self.config.seed, **how)
            for step in training:
                yield Update("teacher", 0.05 * step.update / step.total, "Training a teacher", training=step)
            self.network = training.teacher.network
        if isinstance(self.network, nn.Module):
            self.network = self.network.to(self.device).eval()

    def _trained_until(self, model: str, images: list[int] | None, accuracy: float) -> Iterator[Update]:
        """A teacher of an architecture that is stopped as soon as it is good enough."""
        if model not in models.MODELS:
            raise CakeError("A network that came as ONNX can't be trained here. Choose a listed architecture.")
        d, info = self.dataset.part(images), self.dataset.info
        network = models.build(model, info.shape, len(info.classes), self.config.seed).to(self.device)
        config = teachers.recipe(info.name, model)
        few, best = slice(GLANCE), 0.0
        how = {"inputs": d.inputs, "every": BETWEEN_LOOKS, "halfway": self._pieces.halfway("teacher")}
        training = train(network, d.train_x, d.train_y, config, seed=self.config.seed, **how)
        for step in training:
            if step.update % BETWEEN_LOOKS and step.update < step.total:
                continue  # where it stops must not depend on the clock
            with evaluation.in_eval_mode(network):
                rate = evaluation.accuracy(evaluation.predict(network, d.test_x[few], d.inputs), d.test_y[few])
            best = max(best, rate.value)
            yield Update("teacher", 0.05 * best, f"A teacher of {100 * rate.value:.0f} %", training=step)
            if rate.value >= accuracy:
                training.store()
                return network
        raise CakeError(
            f"A {models.MODELS[model].title} on {info.title} comes to {100 * rate.value:.1f} %, not to "
            f"{100 * accuracy:.0f} %. Ask for less."
        )

    def _attack(self) -> Iterator[Update]:
        before = self._pieces.get("spent")  # in a life before, on phases that are not learned again
        self._start = time.perf_counter() - (before.values["seconds"] if before is not None else 0.0)
        c, p = self.config, self.proxies
        classes, before = len(self.box.classes), self.box.usage().calls
        self.student = fresh(c.student, self.box.shape, classes, c.seed).to(self.device).eval()
        if c.warm_start == "digits":
            yield from self._warm_start()
        if self.network is not None:  # for those who look on; the attack knows nothing of these, and they are no calls
            self._named = evaluation.predict(self.network, p.x).argmax(dim=1)
            self._of_test = self._predict(self.network)
        labels = F.one_hot(p.prompt, classes).float()
        free = torch.ones(len(p), dtype=torch.bool, device=self.device)
        kept, halfway = free.nonzero().flatten()[:0], None
        if not c.asked:
            taught = free
            yield from self._learn(p.x, labels, 1.0, "Learning the prompts")
        else:
            yield from self._rounds(free, labels)
            asked = (~free).nonzero().flatten()
            yield from self._learn(p.x[asked], labels[asked], self._left / 2, "Learning the answers")
            halfway = self._rates()
            if c.pseudo:
                labels, passed = self._pseudo(free, labels)
                kept = passed.nonzero().flatten()
            taught = torch.cat([asked, kept])
            note = f"Learning {len(kept)} pseudo-labels too" if len(kept) else "Learning the answers"
            yield from self._learn(p.x[taught], labels[taught], self._left, note)
        yield Update("evaluation", 0.97, "Comparing student and teacher")
        self.taught = p.x[taught], labels[taught]
        agreement, accuracy = self._rates()
        right = None if self._named is None else labels.argmax(dim=1) == self._named
        self.outcome = Stolen(
            seed=c.seed,
            calls=self.box.usage().calls - before,
            failures=self.box.failures,
            teacher_accuracy=None if self._of_test is None else evaluation.accuracy(self._of_test, self.dataset.test_y),
            accuracy=accuracy,
            agreement=agreement,
            before=halfway and (halfway[0] or halfway[1]),
            knn_accuracy=_share(right, free) if c.asked and c.pseudo else None,
            kept=len(kept),
            kept_accuracy=_share(right, kept),
            prompt_accuracy=None if right is None else _share(self._named == p.prompt, slice(None)),
            seconds=time.perf_counter() - self._start,
            proxies=p.source,
        )

    def _rounds(self, free: Tensor, labels: Tensor) -> Iterator[Update]:
        """Spends the budget. The answers take their places in `labels` (N, C), and those asked are `free` no more."""
        c, p, classes = self.config, self.proxies, labels.shape[1]
        counts = [c.budget // c.rounds + (number < c.budget % c.rounds) for number in range(c.rounds)]
        position = None
        for number, count in enumerate((k for k in counts if k), start=1):
            h = latent(self.student, p.x)
            m = centres(h, p.prompt, classes)
            distance = (h - m[p.prompt]).norm(dim=1)
            chosen = choose(distance, p.prompt, free, count, c.spread if c.active else None, self._rng)
            yield Update("synthesis", self._share, f"Round {number}: asking {len(chosen)} times")
            labels[chosen] = self.box.ask(p.x[chosen], p.prompt[chosen])
            free[chosen] = False
            asked = (~free).nonzero().flatten()
            yield from self._learn(p.x[asked], labels[asked], ROUND_SHARE, f"Round {number}: learning {len(asked)}")
            believed = self._pseudo(free, labels)[0].argmax(dim=1)
            seen = torch.cat([p.x, centres(p.x, p.prompt, classes)]) if p.x.dim() == 2 else torch.cat([h, m])
            position = _plane(seen, position)
            self.rounds.append(
                Round(
                    number,
                    self.box.usage().calls,
                    asked.cpu(),
                    position[: len(p)].cpu(),
                    position[len(p) :].cpu(),
                    believed.cpu(),
                    None if self._named is None else _share(believed == self._named, free),
                    *self._rates(),
                )
            )
            yield Update("evaluation", self._share, f"Round {number} is done")

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def _left(self) -> float:
        """Share of the student's updates that are still to come."""
        return 1 - self._trained

    @property
    def _share(self) -> float:
        """Of all work that is done, while the student is there."""
        return 0.4 + 0.55 * self._trained

    def _learn(self, x: Tensor, y: Tensor, share: float, note: str) -> Iterator[Update]:
        """Trains the student for a share of its updates, on from where it is."""
        config = self.config.student
        lesson = Lesson.from_answers(x, y, config.targets, config.temperature)
        config = config.replace(updates=max(1, round(share * config.updates)))
        seed = (self.config.seed + 7919 * self._phases) % 2**31  # each phase has an order of its own
        halfway = self._pieces.halfway(f"phase-{self._phases}")
        for step in StudentTraining(lesson, config, seed=seed, network=self.student, halfway=halfway):
            yield Update("student", self._share + 0.55 * share * step.update / step.total, note, training=step)
        self._phases, self._trained = self._phases + 1, self._trained + share
        self._pieces.put("spent", {"seconds": time.perf_counter() - self._start})

    def _warm_start(self) -> Iterator[Update]:
        """The student learns another set before anything is asked."""
        config = self.config
        other = Drawing(self.dataset, config.proxies.replace(source="other"), config.data, config.seed)
        for _ in other:
            pass
        labels = F.one_hot(other.proxies.prompt, len(self.box.classes)).float()
        lesson = Lesson.from_answers(other.proxies.x, labels)
        how = {"network": self.student, "halfway": self._pieces.halfway("warm-start")}
        for step in StudentTraining(lesson, config.student, seed=config.seed, **how):
            yield Update("student", self._share, "Warm start: learning another set", training=step)

    def _pseudo(self, free: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (N, C) in which those that are free have their neighbours', and which of these pass the gate (N,)."""
        c, prompt = self.config, self.proxies.prompt
        h = latent(self.student, self.proxies.x)
        d, index = nearest(h[free], h[~free], c.neighbours, c.distance)
        found = pseudo_labels(d, labels[~free][index], c.distance, c.weighting, c.pseudo_labels == "hard")
        labels = labels.clone()
        labels[free] = found
        return labels, free & (labels.argmax(dim=1) == prompt) if c.gate else free

    def _predict(self, network: Callable[[Tensor], Tensor]) -> Tensor:
        return evaluation.predict(network, self.dataset.test_x, self.dataset.inputs)

    def _rates(self) -> tuple[Rate | None, Rate]:
        """The student's agreement with the teacher, where that is known, and its accuracy on the real test data."""
        logits = self._predict(self.student)
        agreement = None if self._of_test is None else evaluation.agreement(logits, self._of_test)
        return agreement, evaluation.accuracy(logits, self.dataset.test_y)


def _is_disjoint(config: FewCallConfig, teacher: str) -> bool:
    return disjoint(data.info(config.data.name), teachers.card(teacher).images)


def _unseen_by(info: data.DatasetInfo) -> str:
    """A shipped teacher that learned from none of the images that the diffusion model saw; "" where any will do."""
    if disjoint(info, None):
        return ""
    cards = [c for c in teachers.shipped().values() if c.data["name"] == info.name and disjoint(info, c.images)]
    return cards[0].name if cards else ""


def _share(right: Tensor | None, where: Tensor | slice) -> Rate | None:
    """The share of some that is right; None where nobody knows, or there are none."""
    if right is None or not len(right[where]):
        return None
    return Rate.of(int(right[where].sum()), len(right[where]))


def _plane(h: Tensor, former: Tensor | None) -> Tensor:
    """Features (N, d) in the plane (N, 2): as they are, or their first two principal components, with the signs that
    turn the former picture least.
    """
    if h.shape[1] == 2:
        return h
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        centred = h - h.mean(dim=0)
        found = centred @ torch.pca_lowrank(centred, q=min(6, *h.shape), niter=4)[2][:, :2]
    return found if former is None else found * (found * former).sum(dim=0).sign()
