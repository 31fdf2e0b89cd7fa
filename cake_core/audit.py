"""An audit: a suspect's weights beside named teachers, and a report that says what was found and what it can't say.

References: | KD detection for open-weights models (Shi, Zheng, Song, Yeh, NeurIPS 2025) | https://arxiv.org/abs/2510.02302
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import data, evaluation, formats, models, weights
from . import teacher as teachers
from .detection import EPS, TITLES
from .errors import CakeError
from .lineup import LineUp, LineUpConfig, Suspect, verdicts
from .pieces import NOWHERE, Pieces
from .teacher import Teacher, TeacherCard

__all__ = ["LIMITS", "audit", "findings", "report", "shown", "verdict"]

SCORES = ("kl", "acs", "cka")

# What a reader of the report has to know.
LIMITS = (
    "It chooses among the teachers that were named. Where the true one is not among them it may name the one that is "
    "most like it, or nobody.",
    "Likeness of answers is no proof of copying: networks that were trained in the same way on the same data, or that "
    "were both copied from a third one, are alike too.",
    "What it takes to be named comes from students of the suspect's architecture that were trained here on the true "
    "labels. It says nothing certain about a suspect that was trained in another way or on other data.",
    "Who copied only in part, or with the true labels weighing more than the teacher, is found less often; who changed "
    "the network afterwards may not be found at all.",
    "Probes are random. Repeat it with another seed before you rely on a small margin.",
)


def audit(
    suspect: Path,
    name: str,
    model: str,
    candidates: Sequence[str],
    config: LineUpConfig,
    pieces: Pieces = NOWHERE,
) -> LineUp:
    """A line-up of one suspect and named teachers; iterate over it to run it.

    Args:
        suspect: a safetensors file with its weights, normalised as the data set's inputs are.
        name: what the file is called.
        model: its architecture.
        candidates: names of teachers, as `teacher.load` takes them.
        config: data, probes, null students, seed.
        pieces: as a line-up takes them.

    Raises:
        CakeError: the file can't be used or does not fit; there are fewer than two candidates, or one learned other
            data.
    """
    info = data.info(config.data.name)
    if len(set(candidates)) < 2:
        raise CakeError("One teacher alone can't be chosen among. Name at least two that the suspect may have copied.")
    cards = [teachers.card(n) for n in candidates]
    if other := [c for c in cards if c.data["name"] != info.name]:
        theirs = data.info(other[0].data["name"]).title
        raise CakeError(f"A candidate learned {theirs}, not {info.title}. Choose teachers of the suspect's data.")
    if formats.recognise(suspect, name) != "safetensors":
        raise CakeError(
            f"{formats.plain(name)} is no safetensors file. Probes are made from the suspect's weights; save its "
            "state_dict with safetensors."
        )
    network = weights.read(suspect, model, info.shape, len(info.classes), name)
    accuracy = None
    if info.has_examples and info.on_disk():
        dataset = data.load(config.data)
        accuracy = evaluation.accuracy(evaluation.predict(network, dataset.test_x, dataset.inputs), dataset.test_y)
    card = TeacherCard(
        name="the suspect",
        data=config.data.to_dict(),
        model=model,
        seed=0,
        recipe={},
        parameters=models.parameter_count(network),
        accuracy=accuracy,
        trained_with="",
        sha256=hashlib.sha256(suspect.read_bytes()).hexdigest(),
        origin="imported",
        file=formats.plain(name),
    )
    config = config.replace(student=model, nulls=config.nulls if info.has_examples else 0)
    return LineUp(
        config,
        [Suspect("unknown", None)],
        probes=(config.probes.maker, "noise"),
        scores=SCORES,
        counts=(config.probes.count,),
        teachers=[teachers.load(n) for n in candidates],
        students=[Teacher(card, network)],
        pieces=pieces,
    )


def findings(run: LineUp, candidates: Sequence[str]) -> dict[str, Any]:
    """What a finished audit found, as plain values.

    Args:
        run: the audit.
        candidates: what its teachers are called.
    """
    card, n = run.students[0].card, run.counts[-1]
    return {
        "file": card.file,
        "sha256": card.sha256,
        "model": models.MODELS[card.model].title,
        "data": data.info(run.config.data.name).title,
        "accuracy": card.accuracy.to_dict() if card.accuracy else None,
        "candidates": [
            {"name": name, "accuracy": t.card.accuracy.to_dict() if t.card.accuracy else None, "sha256": t.card.sha256}
            for name, t in zip(candidates, run.teachers, strict=True)
        ],
        "calls": run.calls,
        "nulls": run.config.nulls,
        "config": run.config.to_dict(),
        "verdicts": {
            source: {score: verdicts(run.rows, n, score, source)[0] for score in run.scores if n > 1 or score == "kl"}
            for source in run.probes
        },
        "clues": run.clues[0],
        "limits": list(LIMITS),
    }


def report(found: Mapping[str, Any]) -> str:
    """The findings as Markdown, for people: what was asked, what came out, and its limits."""
    names = [c["name"] for c in found["candidates"]]
    source, control = found["verdicts"]
    main = found["verdicts"][source]["kl"]
    probes = found["config"]["probes"]
    lines = [
        "# Was this network copied from one of these teachers?",
        "",
        f"**{verdict(main, names)}**",
        "",
        f"- Suspect: `{found['file']}`, {found['model']} for {found['data']}, SHA-256 `{found['sha256']}`"
        + (f", test accuracy {_percent(found['accuracy'])}." if found["accuracy"] else "."),
        *(
            f"- Candidate {number}: {c['name']}, SHA-256 `{c['sha256'][:16]}…`"
            + (f", test accuracy {_percent(c['accuracy'])}." if c["accuracy"] else ".")
            for number, c in enumerate(found["candidates"], start=1)
        ),
        f"- Probes: {probes['count']}, made from the suspect alone ({probes['maker']}, {probes['steps']} steps, seed "
        f"{found['config']['seed']}). Each candidate answered {found['calls']} of them; the control took as many more.",
        f"- Students that copied nobody, to compare with: {found['nulls']}"
        + (f" (at most {100 / (found['nulls'] + 1):.0f} % false alarms among such students)." if found["nulls"] else
           ". Without them somebody is always named."),
        "",
        "| Score | " + " | ".join(names) + " | To be named | Says |",
        "| --- |" + " --- |" * (len(names) + 2),
    ]  # fmt: skip
    for probes_of, title in ((source, ""), (control, ", noise as probes (control)")):
        for score, v in found["verdicts"][probes_of].items():
            cells = [f"{shown(score, s):.3f}" for s in v["scores"]]
            limit = f"{shown(score, v['needed']):.3f}" if v["needed"] is not None else "anything"
            said = names[v["named"]] if v["named"] is not None else "none of them"
            lines.append(f"| {TITLES[score]}{title} | {' | '.join(cells)} | {limit} | {said} |")
    lines += [
        "",
        f"Larger is more alike. KL is shown as the mean over probes of 1 / (divergence + {EPS}). The verdict is that "
        "of KL on the suspect's own probes. To be named, the first has to be further ahead of the second than in any "
        "student that copied nobody.",
        "",
        "## What this can't say",
        "",
        *(f"- {sentence}" for sentence in found["limits"]),
        "",
    ]
    return "\n".join(lines)


def verdict(v: Mapping[str, Any], names: Sequence[str]) -> str:
    """One verdict in a sentence."""
    best = names[v["best"]]
    ahead = f"{math.exp(v['margin']):.2f} times as alike as the runner-up"
    if v["needed"] is None:
        return f"Most like {best}, {ahead}. Without students that copied nobody it can't be said whether that is much."
    if v["named"] is None:
        return f"None of them. Most like {best}, {ahead}, but students that copied nobody have come as far."
    return f"Copied from {best}, most likely: {ahead}, further ahead than any student that copied nobody."


def shown(score: str, value: float) -> float:
    """A score as it is shown: that of KL without its logarithm."""
    return math.exp(value) if score == "kl" else value


def _percent(rate: Mapping[str, float]) -> str:
    return f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f}, n = {rate['n']:,})"
