"""The command line: the same engine without a browser. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .errors import DISK_FULL, CakeError, disk_is_full

__all__ = ["main"]

# The heavy modules are imported by the commands that need them, so that --help answers at once.

T = TypeVar("T")
Rows = list[dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0; 2 after a message about bad input or a full disk; 130 or 143 when it
    was stopped by Ctrl+C or SIGTERM.
    """
    in_main = threading.current_thread() is threading.main_thread()  # others get no signals
    before = signal.signal(signal.SIGTERM, _terminated) if in_main else None
    try:
        arguments = _parser().parse_args(argv)
        with _engine(getattr(arguments, "engine", None)):
            result = arguments.run(arguments)
        _deliver(result, arguments.json)
    except CakeError as error:
        print(f"cake_core: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    except _Terminated:
        print(STOPPED, file=sys.stderr)
        return 143
    except Exception as error:
        if not disk_is_full(error):
            raise
        print(f"cake_core: {DISK_FULL}", file=sys.stderr)
        return 2
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
    return 0


STOPPED = "cake_core: stopped. What was finished is kept; the same command goes on from there."


class _Terminated(BaseException):
    """SIGTERM has come."""


def _terminated(number: int, frame: Any) -> None:
    raise _Terminated


@contextlib.contextmanager
def _engine(name: str | None) -> Iterator[None]:
    """Inside the block the engine is the one that was asked for; a cluster is left behind at its end."""
    from . import cluster

    before = os.environ.get("CAKE_ENGINE")
    if name:
        os.environ["CAKE_ENGINE"] = name
    try:
        if cluster.engine() == "ray" and name:
            cluster.Share.from_environment()
            cluster.connect()  # refused before anything is computed
        yield
    finally:
        cluster.leave()
        if name and before is None:
            del os.environ["CAKE_ENGINE"]
        elif name:
            os.environ["CAKE_ENGINE"] = before


def _shards(arguments: argparse.Namespace) -> int | None:
    """In how many parts samples are made on a cluster; None where none was asked for."""
    from . import cluster

    if cluster.engine() == "ray":
        return arguments.shards
    if arguments.shards is not None:
        raise CakeError("Samples are made in parts on a cluster alone. Add --engine ray, or leave --shards out.")
    return None


# -- commands ---------------------------------------------------------------------------------------------------------


def methods(arguments: argparse.Namespace) -> Rows:
    from .methods import METHODS

    return [
        {
            "name": m.name,
            "title": m.title,
            "control": m.control,
            "access": sorted(m.access),
            "summary": m.summary,
            "reference": m.reference,
            "settings": _settings(m.Config),
        }
        for m in METHODS.values()
    ]


def datasets(arguments: argparse.Namespace) -> Rows:
    from .data import DATASETS

    return [
        {
            "name": d.name,
            "title": d.title,
            "kind": d.kind,
            "shape": list(d.shape),
            "classes": list(d.classes),
            "on_disk": d.on_disk(),
            "source": d.source,
        }
        for d in DATASETS.values()
    ]


def import_data(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import data
    from .data import arrays, folders

    if arguments.name in data.DATASETS or arguments.name in data.ALIASES:
        raise CakeError(f"There is a data set '{arguments.name}' already. Choose another name.")
    arrays.new_folder(data.data_folder(), arguments.name)  # refused before anything is read
    conversion = folders.Conversion(arguments.side, arguments.colour, arguments.fit)
    reading = folders.ImageReading(
        Path(arguments.source), conversion, seed=arguments.seed, bounds=folders.Bounds.generous()
    )
    for _ in _shown(reading, f"reading {arguments.source}", lambda share: share):
        pass
    found = reading.examples
    folder = arrays.write(data.data_folder(), arguments.name, found.train, found.test, found.classes)
    return {
        "name": arguments.name,
        "folder": str(folder),
        "shape": list(found.shape),
        "classes": list(found.classes),
        "train": len(found.train[1]),
        "test": len(found.test[1]),
        "notes": list(found.notes),
    }


def models(arguments: argparse.Namespace) -> Rows:
    from .data import info
    from .models import MODELS, build, parameter_count

    rows = []
    for m in MODELS.values():
        example = info("mnist" if "images" in m.kinds else "moons")
        network = build(m.name, example.shape, len(example.classes))
        rows.append(
            {
                "name": m.name,
                "title": m.title,
                "takes": list(m.kinds),
                "parameters": parameter_count(network),
                "counted_on": example.name,
                "help": m.help,
            }
        )
    return rows


def teachers(arguments: argparse.Namespace) -> Rows:
    from .teacher import shipped

    return [
        {
            "name": c.name,
            "data": c.data["name"],
            "model": c.model,
            "parameters": c.parameters,
            "test_accuracy": c.accuracy.value,
            "interval": [c.accuracy.low, c.accuracy.high],
            "n_test": c.accuracy.n,
            "sha256": c.sha256,
        }
        for c in shipped().values()
    ]


def train_teacher(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import data, devices
    from . import teacher as teachers
    from .models import build
    from .pieces import Pieces

    changes = _pairs(arguments.set)
    noise = {k.removeprefix("data."): changes.pop(k) for k in list(changes) if k.startswith("data.")}
    config = data.DataConfig.from_query({"name": data.info(arguments.data).name, **noise})
    device = devices.choose(arguments.device)
    info = data.info(config.name)
    build(arguments.model, info.shape, len(info.classes))  # refused before anything is downloaded
    for _ in _shown(data.images.download(config.name), f"downloading {config.name}", lambda share: share):
        pass
    recipe = teachers.recipe(config.name, arguments.model, **changes)
    spec = {"data": config.to_dict(), "model": arguments.model, "recipe": recipe.to_dict(), "seed": arguments.seed}
    pieces = Pieces.of("train-teacher", {**spec, "images": arguments.images}, device.type)
    training = teachers.TeacherTraining(
        data.load(config).to(device),
        config,
        arguments.model,
        recipe,
        seed=arguments.seed,
        name=f"{config.name}/{arguments.name or arguments.model}",
        images=arguments.images,
        rounding=arguments.round,
        halfway=pieces.halfway("training"),
    )
    for _ in _shown(training, f"training {arguments.model} on {config.name}", lambda s: s.update / s.total):
        pass
    folder = Path(arguments.out) if arguments.out else teachers.SHIPPED_FOLDER
    card = training.teacher.save(folder / config.name, arguments.name or arguments.model)
    pieces.end()
    return {**card.__dict__, "accuracy": card.accuracy.to_dict()}


def train_diffusion(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import data, devices, diffusion
    from .pieces import Pieces

    config = diffusion.DiffusionConfig.from_query(_pairs(arguments.set))
    info = data.info(arguments.data)
    for _ in _shown(data.images.download(info.name), f"downloading {info.name}", lambda share: share):
        pass
    device = devices.choose(arguments.device)
    dataset = data.load(data.DataConfig(name=info.name)).to(device)
    spec = {"data": info.name, "config": config.to_dict(), "seed": arguments.seed, "images": arguments.images}
    pieces = Pieces.of("train-diffusion", spec, device.type)
    about = {"seed": arguments.seed, "name": arguments.name or info.name, "images": arguments.images}
    training = diffusion.DiffusionTraining(dataset, config, **about, halfway=pieces.halfway("training"))
    for _ in _shown(training, f"training a diffusion model on {info.name}", lambda s: s.update / s.total):
        pass
    card = training.model.save(Path(arguments.out) if arguments.out else diffusion.SHIPPED_FOLDER)
    pieces.end()
    return card.__dict__


def import_teacher(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import data, devices, imports

    path = Path(arguments.file)
    if not path.is_file():
        raise CakeError(f"There is no file '{arguments.file}'.")
    changes = _pairs(arguments.set)
    if unknown := [k for k in changes if not k.startswith("data.")]:
        raise CakeError(f"'{unknown[0]}' can't be set for an import. What can: data.noise, data.points, data.seed.")
    config = None
    if arguments.data:
        noise = {k.removeprefix("data."): v for k, v in changes.items()}
        config = data.DataConfig.from_query({"name": data.info(arguments.data).name, **noise}).to_dict()
    elif not (arguments.classes and arguments.shape):
        raise CakeError("Say what it classifies: --data for a data set, or --classes and --shape for something else.")
    numbers = arguments.mean or arguments.std
    brought = imports.Brought.from_dict(
        path,
        path.name,
        config,
        arguments.model or "",
        {
            "preset": "custom" if numbers else arguments.normalisation or ("data" if config else "unit"),
            "mean": arguments.mean or [0.0],
            "std": arguments.std or [1.0],
        },
        {"title": arguments.title, "classes": arguments.classes or (), "shape": arguments.shape or ()},
    )
    device = devices.choose(arguments.device)
    run = imports.TeacherImport(brought, device)
    example = imports.example(
        Path(arguments.picture) if arguments.picture else None, arguments.point, brought.inputs[0]
    )
    for _ in _shown(run, f"importing {path.name}", lambda note: 0.5):
        pass
    result = run.keep(example)
    if result["doubt"]:
        print(f"cake_core: {result['doubt']}", file=sys.stderr)
    card, tried = run.teacher.card, result["tried"]
    rate = card.accuracy
    return {
        "name": card.name,
        "title": card.title,
        "format": card.format,
        "parameters": card.parameters,
        "test_accuracy": rate.value if rate else None,
        "interval": [rate.low, rate.high] if rate else None,
        "n_test": rate.n if rate else 0,
        "says": ", ".join(f"{name} {100 * p:.1f} %" for name, p in tried["answers"][:3]) if tried else None,
        "card": result["card"],
    }


def distill(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from . import cluster, trackers
    from .data import info
    from .pipeline import Distillation, Experiment, summary

    flat = {"data": info(arguments.data).name, "device": arguments.device, **_pairs(arguments.set)}
    flat |= {k: getattr(arguments, k) for k in ("teacher", "student", "method") if getattr(arguments, k)}
    first = Experiment.from_query(flat)
    edits = [_edit(text) for text in arguments.edit]
    shards = _shards(arguments)
    if cluster.engine() == "ray":
        shards = shards or 0
        if edits:
            raise CakeError("Settings can't change while a cluster makes samples. Leave --edit or --engine ray out.")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    outcomes, kept = [], []
    for number in range(arguments.seeds):
        experiment = first.replace(seed=first.seed + number)
        more = {"in_flight": arguments.in_flight, "edits": edits, "shards": shards}
        title = f"{first.method} on {first.data.name}, seed {first.seed + number}"
        if arguments.keep:
            from .keeping import broken_off
            from .tasks import Distill

            left = "" if arguments.fresh else broken_off(experiment, edits)
            if left:
                print(f"cake_core: goes on with run {left}", file=sys.stderr)
            task = Distill(experiment.to_dict(), resume=left) if left else Distill(experiment.to_dict(), **more)
            run, moments = task.run, task.moments()
        else:
            parts = _parts(experiment, more, arguments.fresh)
            run = moments = Distillation(experiment, every=1 if edits else sys.maxsize, parts=parts, **more)
        with contextlib.ExitStack() as ended:
            if arguments.keep:
                ended.callback(task.rest)
            for _ in _shown(moments, title, lambda u: u.progress):
                pass
            outcomes.append(run.outcome)
            if arguments.keep:
                kept.append(task.finish()["run"])
                ended.pop_all()
        if arguments.out:
            folder = Path(arguments.out) / (f"seed{experiment.seed}" if arguments.seeds > 1 else "")
            folder.mkdir(parents=True, exist_ok=True)
            run.save(folder)
        if not arguments.keep:
            shutil.rmtree(parts, ignore_errors=True)
    trackers.wait()
    return {
        "config": first.to_dict(),
        **({"kept": kept} if kept else {}),
        "runs": [o.to_dict() for o in outcomes],
        "summary": summary(outcomes),
    }


def _parts(experiment: Any, more: dict[str, Any], fresh: bool) -> Path:
    """Where the finished mini-batches of a distillation lie until it is done: by all that they depend on."""
    from . import runs

    said = json.dumps([experiment.to_dict(), more, runs.code()["source"]], sort_keys=True)
    folder = runs.folder() / "distill" / hashlib.sha256(said.encode()).hexdigest()[:24]
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def runs(arguments: argparse.Namespace) -> Rows:
    from dataclasses import asdict

    from . import runs as store

    for run in arguments.delete:
        store.delete(run, None)
    for run in arguments.undelete:
        store.undelete(run, None)
    words = [w.lower() for w in arguments.find]
    rows = [asdict(e) for e in store.entries()]
    return [r for r in rows if all(w in json.dumps(list(r.values())).lower() for w in words)]


def export(arguments: argparse.Namespace) -> Rows:
    from .export import FORMATS, write

    return write(arguments.run_id, arguments.what or FORMATS, Path(arguments.out))


def track(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import trackers

    done = trackers.tell(arguments.run_id, arguments.tracker)
    if not done["ok"]:
        raise CakeError(f"{done['tracker']} could not be told. {done['message']}")
    return done


def serve(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import devices, service
    from . import teacher as teachers
    from .black_box import LocalBlackBox

    teacher, device = teachers.load(arguments.teacher), devices.choose(arguments.device)
    more = {k: getattr(arguments, k) for k in ("budget", "answers", "errors", "latency")}
    box = LocalBlackBox.of(teacher, device=device, **more)
    service.run(box, _terms(arguments), arguments.port)
    return {"teacher": teacher.card.name, **box.usage().to_dict()}


def steal(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import runs
    from .few_call import FewCallConfig
    from .stealing import BUDGETS, TITLES, Sweep
    from .teacher import card

    flat = _pairs(arguments.set)
    if arguments.teacher:
        flat |= {"teacher": arguments.teacher, "data.name": card(arguments.teacher).data["name"]}
    if arguments.data:
        flat["data.name"] = arguments.data
    if "budget" in flat:
        raise CakeError("The budget is set with --budget, not with --set: it may be several numbers.")
    flat |= {"budget": "1", "device": arguments.device}  # of many budgets each has its turn
    config = FewCallConfig.from_query(flat)
    if arguments.url or arguments.http:
        return _steal_once(config.with_budget((arguments.budget or [32])[-1]), arguments)
    sweep = Sweep(config, arguments.variants or list(TITLES), arguments.budget or BUDGETS, arguments.seeds)
    for _ in _shown(sweep, f"stealing {config.data.name}", lambda u: u.progress):
        pass
    if arguments.out:
        runs.write_csv(Path(arguments.out) / f"few_call_{config.data.name}.csv", sweep.summary())
    return {"config": config.to_dict(), "rows": sweep.summary(), "runs": sweep.rows, "refused": sweep.refused}


def _steal_once(config: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """One attack through HTTP: on a service somewhere, or on one that is started here for it."""
    from contextlib import nullcontext

    from . import service
    from . import teacher as teachers
    from .black_box import LocalBlackBox, RemoteBlackBox
    from .few_call import FewCall
    from .pipeline import resolve_teacher

    here = nullcontext(arguments.url)
    if not arguments.url:
        name = resolve_teacher(config.experiment)
        if name is None or config.quality:
            raise CakeError("Only a teacher that is trained already can be a service. Name one with --teacher.")
        more = {"errors": arguments.errors, "latency": arguments.latency}
        box = LocalBlackBox.of(teachers.load(name), budget=config.budget, answers=config.answers, **more)
        here = service.serving(box, _terms(arguments))
    with here as url:
        remote = RemoteBlackBox(url, arguments.key)
        run = FewCall(config, box=remote, stranger=bool(arguments.url))
        for _ in _shown(run, f"stealing from {url}", lambda u: u.progress):
            pass
        usage = remote.usage().to_dict()
        remote.close()
    return {"config": config.to_dict(), "runs": [run.outcome.to_dict()], "counted_by_the_service": usage}


def record(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import frames
    from .pipeline import Distillation, Experiment

    experiment = Experiment.from_query(_pairs(arguments.set))
    path = Path(arguments.out)
    count = frames.record(Distillation(experiment, every=arguments.every), path)
    return {"file": str(path), "frames": count, "bytes": path.stat().st_size}


def reproduce(arguments: argparse.Namespace) -> dict[str, Any]:
    from .reproduce import FIGURES

    if arguments.figure not in FIGURES:
        raise CakeError(f"'{arguments.figure}' can't be reproduced. Choose one of: {', '.join(FIGURES)}.")
    more = {"rows": arguments.rows} if arguments.rows else {}
    if more and arguments.figure == "fig1":
        raise CakeError("Fig. 1 has no rows to choose from; leave --rows out.")
    if (shards := _shards(arguments)) is not None:
        if arguments.figure == "fig1":
            raise CakeError("Fig. 1 is small enough to be made on one machine; leave --shards out.")
        more["shards"] = shards
    run = FIGURES[arguments.figure](seeds=arguments.seeds, device=arguments.device, scale=arguments.scale, **more)
    for _ in _shown(run, f"reproducing {arguments.figure}", lambda share: share):
        pass
    if arguments.out:
        run.write(Path(arguments.out))
    return run.result()


def detect(arguments: argparse.Namespace) -> dict[str, Any]:
    from . import data, runs
    from .lineup import KINDS, PROBES, LineUp, LineUpConfig, everyone, summary

    name = arguments.data or ("mnist" if data.info("mnist").on_disk() else "digits")
    config = LineUpConfig.from_query({"data.name": data.info(name).name, **_pairs(arguments.set)})
    suspects = everyone(config, arguments.kinds or tuple(KINDS), arguments.seeds)
    run = LineUp(
        config,
        suspects,
        probes=arguments.probes or tuple(PROBES),
        scores=arguments.scores or ("kl", "acs", "cka", "mmd"),
    )
    for _ in _shown(run, f"{config.teachers} teachers, {len(suspects)} students on {name}", lambda u: u.progress):
        pass
    rows = summary(run.rows)
    standardised = summary(run.rows, "standardised")
    if arguments.out:
        runs.write_csv(Path(arguments.out) / "detect.csv", [_flat(r) for r in rows + standardised])
    return {
        "config": config.to_dict(),
        "teachers": [t.card.accuracy.to_dict() for t in run.teachers],
        "students": [
            {"kind": s.kind, "teacher": s.truth, "seed": s.seed, "accuracy": t.card.accuracy.to_dict()}
            for s, t in zip(suspects, run.students, strict=True)
        ],
        "calls_of_each_teacher": run.calls,
        "rows": rows,
        "standardised": standardised,
    }


def tune(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from . import cluster, runs, studies, tuning, tuning_figures
    from .data import info
    from .pipeline import Experiment

    if arguments.study:
        study, config = arguments.study, studies.config_of(arguments.study)
    else:
        config = _study(arguments)
        # The same command goes on with the study that it began.
        study = (None if arguments.fresh else studies.like(config)) or studies.begin(config)
    experiment: Experiment = config.experiment
    if info(experiment.data.name).kind == "points":
        torch.set_num_threads(1)  # operations on points are too small to be shared
    workers = arguments.workers or int(cluster.engine() == "embedded")
    run = tuning.Tuning(study, arguments.trials, workers=workers, finals=arguments.finals)
    print(f"cake_core: study {study}, {run.done} of {arguments.trials} trials are there", file=sys.stderr)
    try:
        for _ in _shown(run, f"tuning {experiment.method} on {experiment.data.name}", lambda u: u.progress):
            pass
    finally:
        run.close()
    tuning_figures.write(study)
    found = studies.read(study)
    if arguments.out:
        stem = Path(arguments.out) / f"tune_{experiment.data.name}_{experiment.method}"
        runs.write_csv(stem.with_suffix(".csv"), studies.table(found))
        runs.write_json(stem.with_suffix(".json"), {k: v for k, v in found.items() if k != "rows"})
    return {"study": study, **found}


def _study(arguments: argparse.Namespace) -> Any:
    """The study that a command line describes."""
    from . import studies
    from .data import info
    from .pipeline import Experiment

    flat = {"data": info(arguments.data).name, "device": arguments.device}
    mine = {p.name for p in studies.TuneConfig.params()}
    pairs = _pairs(arguments.set)
    own = {k.removeprefix("tune."): v for k, v in pairs.items() if k.startswith("tune.")}
    flat |= {k: v for k, v in pairs.items() if not k.startswith("tune.")}
    flat |= {k: getattr(arguments, k) for k in ("teacher", "student", "method") if getattr(arguments, k)}
    experiment = Experiment.from_query(flat)
    known, space = studies.tunable(experiment), {}
    for word in arguments.params or ():
        name, equals, text = word.partition("=")
        if name not in known:
            raise CakeError(f"'{name}' can't be tuned here. What can: {', '.join(known)}.")
        p = known[name]
        space[name] = (
            studies.parse_range(name, p, text) if equals else studies.reach(p, studies.begun(experiment, name))
        )
    values = {k: getattr(arguments, k) for k in mine if getattr(arguments, k, None) is not None}
    objectives = arguments.objectives or (studies.FREE,)
    return studies.TuneConfig.from_dict(
        {
            **own,
            **values,
            "experiment": experiment,
            "space": space or studies.usual(experiment, objectives),
            "objectives": objectives,
        }
    )


def lessons(arguments: argparse.Namespace) -> Rows:
    from . import lessons

    if arguments.play:
        lesson = lessons.read(Path(arguments.play))
        played = _shown(
            lessons.rehearse(lesson, seed=arguments.seed), lesson.title, lambda r: r.step / len(lesson.steps)
        )
        return [
            {"step": r.step + 1, "run": lesson.steps[r.step].title, "goal": goal.sentence, "reached": met}
            for r in played
            for goal, met in zip(lesson.steps[r.step].goals, r.met, strict=True)
        ]
    found, refused = lessons.load()
    for name, sentence in refused.items():
        print(f"{name}: {sentence}", file=sys.stderr)
    return [
        {"name": one.name, "title": one.title, "minutes": one.minutes, "steps": len(one.steps), "about": one.about}
        for one in found.values()
    ]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row for a table: intervals as two columns, kinds as one column each."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "by_kind":
            flat |= {f"accuracy_{kind}": share["accuracy"] for kind, share in value.items()}
        elif key == "published":
            flat |= dict(zip(("published_accuracy", "published_auc"), value or ("", ""), strict=True))
        elif key.endswith("_interval"):
            flat |= dict(zip((f"{key[:-9]}_low", f"{key[:-9]}_high"), value or ("", ""), strict=True))
        else:
            flat[key] = "" if value is None else value
    return flat


# -- arguments and output ---------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise CakeError(f"{message[0].upper()}{message[1:]}. See 'python -m {self.prog} --help'.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cake_core", description="Copy a classifier without its data, and see how well it went.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(run: Callable[[argparse.Namespace], Any], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(run.__name__.replace("_", "-"), help=help, description=help)
        sub.add_argument("--json", metavar="FILE", help="write the result as JSON to a file, or to stdout with -")
        sub.set_defaults(run=run)
        return sub

    command(methods, "List the methods and their settings.")
    command(datasets, "List the data sets.")
    command(models, "List the architectures.")
    command(teachers, "List the shipped teachers.")

    sub = command(import_data, "Make a data set of images in folders, one folder for each class.")
    sub.add_argument("--from", dest="source", required=True, help="the folder, or a zip file of it")
    sub.add_argument("--name", required=True, help="name of the new data set: a-z, 0-9, - and _")
    sub.add_argument("--side", type=_count(1), help="pixels a side (default: 28 for grey images, 32 for colour)")
    sub.add_argument("--colour", default="auto", help="grey, colour or auto: grey if all images are (default auto)")
    sub.add_argument("--fit", default="crop", help="crop: the square in the middle; stretch: all of it (default crop)")
    sub.add_argument("--seed", type=_count(0), default=0, help="which images are set aside for testing (default 0)")

    sub = command(train_teacher, "Train a teacher and write its weights and card.")
    sub.add_argument("--data", required=True, help="data set")
    sub.add_argument("--model", required=True, help="architecture")
    sub.add_argument("--seed", type=_count(0), default=0, help="seed of weights and order (default 0)")
    sub.add_argument("--out", help="folder to write to (default: the shipped teachers)")
    _part(sub)
    sub.add_argument("--round", default="", choices=("float16", "int8"), help="round the weights, for a smaller file")
    _common(sub)

    sub = command(train_diffusion, "Train a class-conditional diffusion model and write its weights and card.")
    sub.add_argument("--data", required=True, help="data set of square images")
    sub.add_argument("--seed", type=_count(0), default=0, help="seed of weights, order and noise (default 0)")
    sub.add_argument("--out", help="folder to write to (default: the shipped models)")
    _part(sub)
    _common(sub)

    sub = command(import_teacher, "Import a teacher of your own: safetensors of a listed architecture, or ONNX.")
    sub.add_argument("--file", required=True, help="the file; nothing that holds a pickle is ever opened")
    sub.add_argument("--data", help="the data set that it learned; or --classes and --shape for something else")
    sub.add_argument("--model", help="its architecture (for safetensors)")
    sub.add_argument("--normalisation", help="of its inputs: data (default), unit, half, imagenet or bytes")
    sub.add_argument("--mean", nargs="+", metavar="M", help="of another normalisation: one number, or one per channel")
    sub.add_argument("--std", nargs="+", metavar="S", help="likewise")
    sub.add_argument("--classes", nargs="+", metavar="NAME", help="names of its classes, in the order of its outputs")
    sub.add_argument("--shape", nargs="+", metavar="N", help="of its inputs: channels height width, or 2 for points")
    sub.add_argument("--title", default="", help="what it classifies")
    sub.add_argument("--picture", help="a PNG or JPEG to try it with")
    sub.add_argument("--point", nargs=2, type=float, metavar=("X", "Y"), help="a point to try it with")
    _common(sub)

    sub = command(distill, "Distil a teacher without its data, over several seeds.")
    sub.add_argument("--data", default="moons", help="data set (default moons)")
    sub.add_argument("--teacher", help="shipped teacher, 'run:<id>', or an architecture to train first")
    sub.add_argument("--student", help="the student's architecture")
    sub.add_argument("--method", help="how samples are made (default cake)")
    sub.add_argument("--seeds", type=_count(1), default=1, help="how many seeds, from 0 on (default 1)")
    sub.add_argument("--keep", action="store_true", help="store the run, and its control, for the page Runs")
    sub.add_argument("--out", help="folder to write samples, student and teacher to, as safetensors")
    sub.add_argument("--fresh", action="store_true", help="begin anew though the same was broken off before")
    sub.add_argument(
        "--edit",
        nargs="+",
        action="extend",
        default=[],
        metavar="N:KEY=VALUE",
        help="change settings after snapshot N",
    )
    sub.add_argument("--in-flight", type=_count(0), default=0, help="mini-batches at once (default: as many as fit)")
    sub.add_argument("--threads", type=_count(0), default=0, help="threads of the CPU (default: all cores)")
    _cluster(sub, "in how many parts the samples are made there (default: as many as it has room for)")
    _common(sub)

    sub = command(runs, "List the stored runs, the latest first; delete some, or bring deleted ones back.")
    sub.add_argument("--find", nargs="+", default=[], metavar="WORD", help="only runs in which all these words stand")
    sub.add_argument("--delete", nargs="+", default=[], metavar="RUN", help="put these away; for an hour they can")
    sub.add_argument("--undelete", nargs="+", default=[], metavar="RUN", help="be brought back")

    sub = command(export, "Make files of a stored run: programs, tables, pictures, films, networks, a report.")
    sub.add_argument("run_id", metavar="RUN", help="its id, as 'runs' and 'distill --keep' say it")
    sub.add_argument("--out", required=True, help="folder to write to")
    sub.add_argument("--what", nargs="+", metavar="NAME", help="only these, or zip for one file (default: all)")

    sub = command(track, "Tell an experiment tracker of a stored run.")
    sub.add_argument("run_id", metavar="RUN", help="its id")
    sub.add_argument("--with", dest="tracker", default="", help="mlflow, trackio or wandb (default: CAKE_TRACKER)")

    sub = command(steal, "Copy a teacher that only answers, with few calls, in several ways and with several budgets.")
    sub.add_argument("--teacher", help="shipped teacher, or 'run:<id>' (default: the usual one of the data)")
    sub.add_argument("--data", help="data set (default: the teacher's, or digits)")
    sub.add_argument("--budget", nargs="+", type=_count(1), metavar="N", help="calls per class (default 4 8 ... 128)")
    sub.add_argument("--variants", nargs="+", metavar="NAME", help="which ways (default: all, and their controls)")
    sub.add_argument("--seeds", type=_count(1), default=1, help="how many seeds, from 0 on (default 1)")
    sub.add_argument("--out", help="folder to write few_call_<data>.csv to")
    sub.add_argument("--url", help="ask a service at this address instead, once, with the last of the budgets")
    sub.add_argument("--http", action="store_true", help="ask the teacher through a service on this machine, once")
    _service(sub)
    _common(sub)

    sub = command(serve, "Let a teacher answer over HTTP on this machine, until Ctrl+C.")
    sub.add_argument("--teacher", required=True, help="shipped teacher, or 'run:<id>'")
    sub.add_argument("--port", type=_count(0), default=8700, help="port (default 8700)")
    sub.add_argument("--budget", type=_count(1), help="calls for each class (default: any number)")
    sub.add_argument("--answers", default="soft", choices=("soft", "hard"), help="soft (default) or hard")
    _service(sub)
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")

    sub = command(detect, "Name the teacher that a student was copied from: probes and scores, beside controls.")
    sub.add_argument("--data", help="data set (default: mnist where it is on this machine, else digits)")
    sub.add_argument("--kinds", nargs="+", metavar="KIND", help="of students: kd, scratch, outsider, or a method")
    sub.add_argument("--seeds", type=_count(1), default=2, help="students of each kind and teacher (default 2)")
    sub.add_argument("--probes", nargs="+", metavar="SOURCE", help="direct, generator, real, other, surest, noise")
    sub.add_argument("--scores", nargs="+", metavar="SCORE", help="kl, acs, cka, mmd")
    sub.add_argument("--out", help="folder to write detect.csv to")
    sub.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change settings")

    sub = command(tune, "Search for better settings of a method, go on where it was stopped, and judge the best anew.")
    sub.add_argument("--data", default="moons", help="data set (default moons)")
    sub.add_argument("--teacher", help="shipped teacher, 'run:<id>', or an architecture to train first")
    sub.add_argument("--student", help="the student's architecture")
    sub.add_argument("--method", help="whose settings (default cake)")
    sub.add_argument(
        "--trials", type=_count(1), default=50, help="trials in all, those of before included (default 50)"
    )
    sub.add_argument(
        "--params",
        nargs="+",
        metavar="KEY[=RANGE]",
        help="what to tune: step_size, step_size=0.01:1, optimizer=sgd,adam",
    )
    sub.add_argument(
        "--objectives", nargs="+", metavar="NAME", help="free_agreement (default), agreement, accuracy, coverage, "
        "near_boundary, calls; several give a Pareto front"
    )  # fmt: skip
    sub.add_argument("--sampler", help="tpe (default), nsga2 or random")
    sub.add_argument("--pruner", help="median (default), halving or none")
    sub.add_argument("--seeds", type=_count(1), help="seeds of each trial (default 1)")
    sub.add_argument("--finals", type=_count(0), default=3, help="fresh seeds of the final runs (default 3)")
    sub.add_argument(
        "--workers", type=_count(1), help="processes that work on it (default 1; on a cluster as many as it holds)"
    )
    sub.add_argument("--study", metavar="RUN", help="go on with this study, whatever else is said")
    _cluster(sub)
    sub.add_argument("--fresh", action="store_true", help="begin a new study though the same was begun before")
    sub.add_argument("--out", help="folder to write tune_<data>_<method>.csv and .json to")
    _common(sub)

    sub = command(lessons, "List the lessons, or play one through and say which of its goals are reached.")
    sub.add_argument("--play", metavar="FILE", help="the file of a lesson; every run is made with its solution")
    sub.add_argument("--seed", type=_count(0), default=0, help="seed of every run (default 0)")

    sub = command(record, "Record a run for replay in the live view.")
    sub.add_argument("--out", required=True, help="file to write")
    sub.add_argument("--every", type=_count(1), default=1, help="a frame after every so many steps (default 1)")
    sub.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change settings")

    sub = command(reproduce, "Reproduce a figure or a table of the CAKE paper.")
    sub.add_argument("figure", help="which: fig1, fig2, fig3, table1, table2 or table3")
    sub.add_argument("--seeds", type=_count(1), default=5, help="how many seeds (default 5)")
    sub.add_argument("--scale", default="", help="quick (two cores) or paper (a GPU); not for fig1")
    _cluster(sub, "make each line's samples there in so many parts, one line after the other (default: whole lines)")
    sub.add_argument("--rows", nargs="+", metavar="ROW", help="only these teachers or methods now; not for fig1")
    sub.add_argument("--out", help="folder to write CSV files to")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    return parser


def _common(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change settings")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def _cluster(sub: argparse.ArgumentParser, shards: str = "") -> None:
    sub.add_argument("--engine", help="embedded (default) or ray: on a cluster, at RAY_ADDRESS or on this machine")
    if shards:
        sub.add_argument("--shards", type=_count(1), help=shards)


def _service(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--key", default="", help="API key of the service (default: none)")
    sub.add_argument("--errors", type=_share, default=0.0, help="share of requests that fail (default 0)")
    sub.add_argument("--latency", type=float, default=0.0, help="seconds that a request takes at least (default 0)")
    sub.add_argument("--dropped", type=_share, default=0.0, help="share of connections that break off (default 0)")
    sub.add_argument("--rate", type=float, default=0.0, help="requests per second (default: any number)")


def _terms(arguments: argparse.Namespace) -> Any:
    from .service import Terms

    return Terms(key=arguments.key, rate=arguments.rate, dropped=arguments.dropped)


def _part(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--name", type=_name, help="its name (default: what it is made of)")
    sub.add_argument("--images", type=_range, metavar="FIRST:LAST", help="of the training images only these")


def _name(text: str) -> str:
    if not re.fullmatch("[a-z0-9_-]+", text):
        raise argparse.ArgumentTypeError(f"is made of a-z, 0-9, - and _, not '{text}'")
    return text


def _range(text: str) -> list[int]:
    parts = text.split(":")
    if len(parts) != 2 or not all(p.isdecimal() for p in parts):
        raise argparse.ArgumentTypeError(f"must look like 0:30000, not '{text}'")
    return [int(p) for p in parts]


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to less than 1, not '{text}'")
    return value


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not '{text}'")
        return int(text)

    return count


def _pairs(words: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise CakeError(f"--set takes KEY=VALUE; '{word}' is not. Example: --set steps=100.")
        pairs[key] = value
    return pairs


def _edit(text: str) -> tuple[int, dict[str, str]]:
    number, colon, pair = text.partition(":")
    if not (colon and number.isdecimal() and "=" in pair):
        raise CakeError(f"--edit takes N:KEY=VALUE; '{text}' is not. Example: --edit 25:step_size=0.5.")
    key, _, value = pair.partition("=")
    return int(number), {key: value}


def _settings(config: Any) -> Rows:
    return [
        {"name": p.name, "default": p.default, "low": p.low, "high": p.high, "unit": p.unit, "help": p.help}
        | ({"choices": list(p.choices)} if p.choices else {})
        for p in config.params()
    ]


def _shown(items: Iterable[T], title: str, share: Callable[[T], float]) -> Iterator[T]:
    """The same items. A terminal gets a progress bar on stderr, a file one line when all is done."""
    console, start = Console(stderr=True), time.monotonic()
    if not console.is_terminal:
        yield from items
        console.print(f"{title}: {time.monotonic() - start:.1f} s", highlight=False)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        for item in items:
            bar.update(task, completed=share(item))
            yield item


def _deliver(result: Any, target: str | None) -> None:
    if target:
        text = json.dumps(result, indent=1) + "\n"
        if target == "-":
            sys.stdout.write(text)
            return
        try:
            Path(target).write_text(text)
        except OSError as error:
            raise CakeError(f"'{target}' can't be written ({error.strerror}). Choose another file.") from None
        return
    if result == []:
        print("cake_core: there are none", file=sys.stderr)
        return
    rows = result if isinstance(result, list) else result.get("rows") or result.get("runs") or [result]
    table = Table(box=None, header_style="bold")
    keys = [k for k, v in rows[0].items() if not isinstance(v, dict) and k not in HIDDEN]
    for key in keys:
        table.add_column(key.replace("_", " "))
    for row in rows:
        table.add_row(*(_cell(row[k]) for k in keys))
    console = Console()
    Console(width=None if console.is_terminal else WIDE).print(table)


WIDE = 200  # columns of a table that goes to a file
# In JSON only.
HIDDEN = ("n_judged", "settings", "sha256", "source", "reference", "classes", "by", "teachers")
HIDDEN += ("owner", "created", "found_interval", "found_n", "false_alarms_interval", "false_alarms_n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return str(value)
