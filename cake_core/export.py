"""What can be taken away of a stored run: programs that make it again, tables, pictures, films, networks, a report."""

from __future__ import annotations

import csv
import io
import json
import shlex
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import data, runs
from .config import as_text
from .errors import CakeError
from .methods import METHODS
from .pipeline import Experiment

__all__ = ["FORMATS", "Format", "Stored", "bundle", "make", "write"]


class Stored:
    """A stored distillation, as far as exports read it.

    Args:
        run: its id.

    Raises:
        CakeError: there is no such run, or it is no finished distillation.
    """

    def __init__(self, run: str):
        self.run, self.folder = run, runs.find(run)
        self.result = runs.read(run)
        if not isinstance(self.result.get("outcome"), dict):
            raise CakeError("Only a finished distillation can be exported. Choose one from Two moons or Images.")
        self.config = runs.begun(run)
        said = self.result.get("begun") or self.result.get("experiment")
        if not isinstance(said, dict):
            raise CakeError("The settings of this run are damaged, so nothing can be made of it any more.")
        self.experiment = Experiment.from_dict(said)
        if device := self.result.get("device"):
            self.experiment = self.experiment.replace(device=device)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        e = self.experiment
        return f"{METHODS[e.method].title} on {data.info(e.data.name).title}, seed {e.seed}"

    @property
    def edits(self) -> list[tuple[int, dict[str, Any]]]:
        """What was changed while it ran, by the number of snapshots seen before."""
        try:
            return [(int(number), dict(settings)) for number, settings in self.result.get("edits", [])]
        except (TypeError, ValueError, OverflowError):
            raise CakeError("What was edited in this run can't be read any more, so it can't be made again.") from None

    @property
    def threads(self) -> int:
        """On how many threads it computed; 0 where that was not noted. Sums can depend on it in their last digit."""
        return _count(self.result.get("threads"))

    @property
    def in_flight(self) -> int:
        """Mini-batches that were worked on at once; 0 where that was not noted."""
        return _count(self.result.get("in_flight"))

    @cached_property
    def flat(self) -> dict[str, str]:
        """The experiment as `Experiment.from_query` takes it, to the last digit."""
        e = self.experiment
        flat = e.to_query()
        if Experiment.from_query(flat) == e:
            return flat
        for key in flat:
            part, _, name = key.rpartition(".")
            value = getattr(getattr(e, part or "settings"), name, None)
            if isinstance(value, float):
                flat[key] = _exact(value)
        return flat

    @cached_property
    def curves(self) -> dict[str, Any]:
        """The losses, by stage and name."""
        return runs.metrics(self.run).get("curves", {})

    @cached_property
    def messages(self) -> list[bytes]:
        """What the live view showed: the scene, then frames.

        Raises:
            CakeError: an older version made the run, which kept none.
        """
        from .keeping import read_frames

        found = read_frames(self.folder / "frames.bin")
        if not found:
            raise CakeError("This run has kept no pictures, for an older version made it. Make it again to have some.")
        return found


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 2**31 else 0


# -- programs ---------------------------------------------------------------------------------------------------------


def _needs(s: Stored) -> str:
    """What a program needs to make the run again."""
    code, machine = s.config.get("code", {}), s.config.get("environment", {})
    made = f"CAKE Lab {code.get('version', '')} (source {code.get('source', 'unknown')})".replace("  ", " ")
    lines = [f"Run {s.run}, made by {made}."]
    if machine:
        lines.append(f"It computed with {', '.join(f'{k} {v}' for k, v in machine.items())}.")
    lines.append("Start it in CAKE Lab's folder, or with that folder in PYTHONPATH.")
    if s.experiment.teacher.startswith("run:"):
        lines.append(f"Its teacher, {s.experiment.teacher}, has to be among the runs (CAKE_RUNS_DIR).")
    return "\n".join(lines)


def _core(s: Stored) -> list[str]:
    """The lines that make the run again, without saving anything."""
    flat = "".join(f"    {key!r}: {value!r},\n" for key, value in s.flat.items())
    more = f", in_flight={s.in_flight}" if s.in_flight else ""
    more += f", edits={s.edits!r}" if s.edits else ""
    imports = "from pathlib import Path\n\nimport torch\n\nfrom cake_core.pipeline import Distillation, Experiment"
    threads = [f"torch.set_num_threads({s.threads})  # as it was: sums can depend on it in their last digit"]
    return [
        imports,
        "\n".join([*(threads if s.threads else []), f"experiment = Experiment.from_query({{\n{flat}}})"]),
        f"run = Distillation(experiment{more})\nfor update in run:\n    pass",
        'run.samples.save(Path("samples.safetensors"))\nprint(run.outcome.to_dict())',
    ]


def script(s: Stored) -> bytes:
    """A Python program that makes the run again and writes samples.safetensors."""
    parts = "\n\n".join([f'"""{s.title}, made again without a browser.\n\n{_needs(s)}\n"""', *_core(s)])
    return (parts + "\n").encode()


def command(s: Stored) -> bytes:
    """The command line that makes the run again and writes it to the folder made-again."""
    words = ["python", "-m", "cake_core", "distill", "--out", "made-again"]
    words += ["--threads", str(s.threads)] if s.threads else []
    words += ["--in-flight", str(s.in_flight)] if s.in_flight else []
    edits = [
        f"{n}:{k}={v!r}" if isinstance(v, float) else f"{n}:{k}={as_text(v)}" for n, e in s.edits for k, v in e.items()
    ]
    words += ["--edit", *edits] if edits else []
    words += ["--set", *(f"{k}={v}" for k, v in s.flat.items())] if s.flat else []
    comment = "".join(f"# {line}\n" for line in [s.title, *_needs(s).split("\n")])
    return f"{comment}{shlex.join(words)}\n".encode()


def _exact(value: Any) -> str:
    """Text of a value, to the last digit."""
    return repr(value) if isinstance(value, float) else as_text(value)


def notebook(s: Stored) -> bytes:
    """A Jupyter notebook that makes the run again and shows its samples."""
    imports, settings, loop, save = _core(s)
    show = "run.samples.x.shape, run.samples.y[:3]"
    cells: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(
        [
            ("markdown", f"# {s.title}\n\nMade again without a browser. " + _needs(s).replace("\n", " ")),
            ("code", imports),
            ("markdown", "What it is: everything that is not said here keeps its default."),
            ("code", settings),
            ("markdown", "Samples, then a student, then its judgement. Each `update` is one moment of it."),
            ("code", loop),
            ("code", save),
            ("code", show),
        ]
    ):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text}
        cells.append(cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    meta = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return (
        json.dumps({"cells": cells, "metadata": meta, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"
    ).encode()


# -- tables -----------------------------------------------------------------------------------------------------------


def numbers(s: Stored) -> bytes:
    """The results as CSV: a line for the student and one for its noise-only control."""
    rows = []
    for name in ("outcome", "control"):
        values = s.result.get(name) or {}
        plain: dict[str, Any] = {"student": "samples" if name == "outcome" else "noise only"}
        for key, value in values.items():
            if key.endswith("_interval"):
                stem = key.removesuffix("_interval")
                plain |= dict(zip((f"{stem}_low", f"{stem}_high"), value or ("", ""), strict=True))
            elif isinstance(value, Mapping):
                plain |= {f"{key}_{k}": v for k, v in value.items()}
            else:
                plain[key] = value
        rows += [plain] if values else []
    return _csv(rows)


def losses(s: Stored) -> bytes:
    """The losses as CSV: stage, step, name, value."""
    rows = [
        {"stage": stage, "step": step, "name": name, "value": value}
        for stage, curves in s.curves.items()
        for name, values in curves.items()
        if name != "step"
        for step, value in zip(curves["step"][-len(values) :], values, strict=True)
    ]
    if not rows:
        raise CakeError("This run has kept no losses, for an older version made it. Make it again to have some.")
    return _csv(rows)


def _csv(rows: list[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


# -- pictures ---------------------------------------------------------------------------------------------------------


def png(s: Stored) -> bytes:
    """The last samples as a picture."""
    from .film import last_picture

    file = io.BytesIO()
    last_picture(s.messages[0], s.messages[1:]).save(file, "PNG")
    return file.getvalue()


def svg(s: Stored) -> bytes:
    """The last samples as an SVG."""
    from . import vector
    from .film import last_picture

    if data.info(s.experiment.data.name).kind == "points":
        return vector.plane(s.messages[0], s.messages[1:], s.title).encode()
    return vector.sheet(last_picture(s.messages[0], s.messages[1:]), s.title).encode()


def curves_svg(s: Stored) -> bytes:
    """The losses as an SVG."""
    from . import vector

    if not s.curves:
        raise CakeError("This run has kept no losses, for an older version made it. Make it again to have some.")
    return vector.curves(s.curves, s.title).encode()


def gif(s: Stored) -> bytes:
    """A film of the samples as a GIF."""
    return _film(s, "gif")


def mp4(s: Stored) -> bytes:
    """A film of the samples as an MP4."""
    return _film(s, "mp4")


def _film(s: Stored, kind: str) -> bytes:
    from .film import film

    return film(s.messages[0], s.messages[1:], kind, look="pixels")


# -- networks ---------------------------------------------------------------------------------------------------------


def samples(s: Stored) -> bytes:
    """The samples and the teacher's answers, as safetensors."""
    return (s.folder / "samples.safetensors").read_bytes()


def student(s: Stored) -> bytes:
    """The student's weights, as safetensors."""
    return (s.folder / "student.safetensors").read_bytes()


def onnx(s: Stored) -> bytes:
    """The student as ONNX: from normalised inputs `x` (N, *shape) to `logits` (N, classes), for any N.

    Raises:
        CakeError: it can't be written as ONNX.
    """
    import logging
    import tempfile

    import onnx as format
    import torch
    from safetensors.torch import load_file

    from .student import fresh

    info, config = data.info(s.experiment.data.name), s.experiment.student
    network = fresh(config, info.shape, len(info.classes))
    network.load_state_dict(load_file(s.folder / "student.safetensors"))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.onnx"
        try:
            torch.onnx.export(
                network.eval(),
                (torch.zeros(2, *info.shape),),
                path,
                input_names=["x"],
                output_names=["logits"],
                external_data=False,
                dynamic_shapes=({0: "batch"},),
                verbose=False,
            )
        except Exception as error:  # torch has many kinds of errors for what it can't write
            raise CakeError(
                f"This student can't be written as ONNX ({type(error).__name__}). Take its weights as safetensors."
            ) from None
        model = format.load(path)
    about = {"classes": json.dumps(info.classes), "run": s.run, "architecture": config.model}
    if info.has_examples:
        dataset = data.load(s.experiment.data)
        about |= {k: json.dumps(getattr(dataset, k).flatten().tolist()) for k in ("mean", "std")}
    format.helper.set_model_props(model, about)
    return model.SerializeToString()


def report(s: Stored) -> bytes:
    """A page about the run in one file that needs nothing else, offline too."""
    from .report import page

    return page(s).encode()


# -- all of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """One kind of export.

    Attributes:
        title: what a page calls it.
        file: the name of the file.
        media: its media type.
        quick: whether it is made in no time, from small files.
        make: makes it.
    """

    title: str
    file: str
    media: str
    quick: bool
    make: Callable[[Stored], bytes]

    @property
    def help(self) -> str:
        """What it is, in a sentence."""
        return (self.make.__doc__ or "").split("\n")[0]


FORMATS: dict[str, Format] = {
    "script": Format("Python script", "run.py", "text/x-python", True, script),
    "command": Format("Command line", "run.sh", "text/x-shellscript", True, command),
    "notebook": Format("Notebook", "run.ipynb", "application/x-ipynb+json", True, notebook),
    "numbers": Format("Results, CSV", "numbers.csv", "text/csv", True, numbers),
    "losses": Format("Losses, CSV", "losses.csv", "text/csv", True, losses),
    "samples": Format("Samples, safetensors", "samples.safetensors", "application/octet-stream", True, samples),
    "student": Format("Student, safetensors", "student.safetensors", "application/octet-stream", True, student),
    "onnx": Format("Student, ONNX", "student.onnx", "application/octet-stream", False, onnx),
    "png": Format("Samples, PNG", "samples.png", "image/png", False, png),
    "svg": Format("Samples, SVG", "samples.svg", "image/svg+xml", False, svg),
    "curves": Format("Losses, SVG", "losses.svg", "image/svg+xml", False, curves_svg),
    "gif": Format("Film, GIF", "samples.gif", "image/gif", False, gif),
    "mp4": Format("Film, MP4", "samples.mp4", "video/mp4", False, mp4),
    "report": Format("Report, HTML", "report.html", "text/html", False, report),
}


def make(run: str, name: str) -> tuple[str, bytes]:
    """One export of a run: the file's name and its content.

    Args:
        run: id of a finished distillation.
        name: a key of `FORMATS`, or "zip" for all of them in one file.

    Raises:
        CakeError: there is no such run or format, or the run has not kept what it takes.
    """
    if name == "zip":
        return f"{run}.zip", bundle(run)
    if name not in FORMATS:
        raise CakeError(f"There is no export '{name}'. Choose among: {', '.join(FORMATS)}, zip.")
    return FORMATS[name].file, FORMATS[name].make(Stored(run))


def bundle(run: str) -> bytes:
    """A zip file of all that can be made of a run, with the teacher, and a text about what could not be made."""
    s, file, missing = Stored(run), io.BytesIO(), []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
        for each in FORMATS.values():
            try:
                pack.writestr(each.file, each.make(s))
            except CakeError as error:
                missing.append(f"{each.file} is missing. {error}")
        kept = [*s.folder.glob("teacher.*"), s.folder / "config.json", s.folder / "events.jsonl", s.folder / "run.json"]
        for path in kept:
            if path.is_file() and path.name != "config.json":
                pack.write(path, path.name)
            elif path.is_file():  # whose it is concerns nobody else
                plain = {k: v for k, v in json.loads(path.read_text()).items() if k != "owner"}
                pack.writestr(path.name, json.dumps(plain, indent=1) + "\n")
        text = "\n".join([s.title, "", _needs(s), "", *missing]).rstrip() + "\n"
        pack.writestr("README.txt", text)
    return file.getvalue()


def write(run: str, names: Iterable[str], folder: Path) -> list[dict[str, Any]]:
    """Writes exports to a folder, each whole or not at all.

    Returns:
        For each its name, the file, its bytes, and what was missing where it could not be made.

    Raises:
        CakeError: there is no such run or format; or of a single one: it could not be made.
    """
    names, rows = list(names), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CakeError(f"'{folder}' can't be written ({error.strerror}). Choose another folder.") from None
    Stored(run)
    for name in names:
        try:
            file, content = make(run, name)
        except CakeError as error:
            if len(names) == 1 or name not in FORMATS:
                raise
            rows.append({"export": name, "file": "", "bytes": 0, "missing": str(error)})
            continue
        with runs.whole(folder / file) as part:
            part.write_bytes(content)
        rows.append({"export": name, "file": str(folder / file), "bytes": len(content), "missing": ""})
    return rows
