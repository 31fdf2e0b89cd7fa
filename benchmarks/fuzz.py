"""Coverage-guided fuzzing of everything that reads foreign input: executions, coverage, and faults.

libFuzzer, through Google's atheris, changes inputs as tests/fuzzing.py takes them apart, and keeps those that reach new
edges of our own modules. Every surface has a process of its own. A fault is an input at which its reader raises
anything but CakeError, takes more than 2 s of its own, needs more than 1 GiB of memory, writes outside of a temporary
folder, opens a pickle, starts a process or a connection, or kills the process. For networks that somebody brings, the
bounds of `onnx_network.check` are made so small that whatever gets around them shows.

Run: python benchmarks/fuzz.py --seconds 180 --out benchmarks/results/fuzz.csv  (needs requirements-dev.txt, on Linux)
     python benchmarks/fuzz.py --surfaces zip onnx --seconds 60 --add --keep faults --out benchmarks/results/fuzz.csv
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

SECONDS, BYTES = 2.0, 2**30  # of a case
HANGS = 30  # seconds after which libFuzzer ends a case
ALONE = 0.15  # share of the changes that libFuzzer makes to the bytes as they are
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MOVES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate")
NEVER = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", nargs="*", default=[], help="some of them (all)")
    parser.add_argument("--seconds", type=int, default=180, help="for each surface")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    parser.add_argument("--add", action="store_true", help="rows of other surfaces stay in the file")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs of faults, and for how they broke")
    parser.add_argument("--fuzz", help=argparse.SUPPRESS)  # in a process of its own
    arguments, rest = parser.parse_known_args()
    if arguments.fuzz:
        fuzz(arguments.fuzz, rest)
    from tests.fuzzing import SURFACES

    if arguments.out and not arguments.add:
        arguments.out.unlink(missing_ok=True)
    for name in arguments.surfaces or SURFACES:
        found = row(name, arguments.seconds, arguments.seed, arguments.keep)
        print(found, flush=True)
        if arguments.out:
            write(arguments.out, found, list(SURFACES))


def write(path: Path, found: dict[str, Any], order: list[str]) -> None:
    """Puts a row into the table, in place of an older one about the same surface."""
    from cake_core import runs

    rows = {r["surface"]: r for r in csv.DictReader(path.read_text().splitlines())} if path.is_file() else {}
    rows[found["surface"]] = found
    runs.write_csv(path, [rows[name] for name in order if name in rows])


def row(name: str, seconds: int, seed: int, keep: Path | None) -> dict[str, Any]:
    """Fuzzes one surface; where its process dies, another goes on with what was found."""
    began, executions, edges, killed = time.monotonic(), 0, [], 0
    with tempfile.TemporaryDirectory(prefix="cake-fuzz-") as folder:
        place = Path(folder)
        for part in ("corpus", "ends", "faults", "tmp"):
            (place / part).mkdir()
        while (left := seconds - (time.monotonic() - began)) > 5 or not edges:
            said = _process(name, place, max(5, round(left)), seed + killed)
            executions += int((re.findall(r"(?:executed_units: |#)(\d+)", said) or [0])[-1])
            # The first count is that of the seeds alone.
            edges += [int(e) for e in re.findall(r"cov: (\d+)", said[max(0, said.find("INITED")) :])]
            ended = [p for p in (place / "ends").iterdir() if p.suffix != ".seen"]
            for path in ended:  # a crash, a hang, or too much memory
                path.rename(place / "faults" / f"{path.name}.bin")
                (place / "faults" / f"{path.name}.txt").write_text(said[-4000:])
            killed += 1
            if not ended:
                if not edges:
                    raise SystemExit(said)
                break
        faults = sorted((place / "faults").glob("*.bin"))
        if keep is not None:
            (keep / name).mkdir(parents=True, exist_ok=True)
            for path in (place / "faults").iterdir():
                (keep / name / path.name).write_bytes(path.read_bytes())
        slowest = json.loads((place / "slowest.json").read_text()) if (place / "slowest.json").exists() else 0.0
    return {"date": date.today().isoformat(), "surface": name, "executions": executions,
            "seconds": round(time.monotonic() - began), "edges_start": edges[0] if edges else 0,
            "edges_end": max(edges, default=0), "faults": len(faults), "slowest_seconds": slowest}  # fmt: skip


def _process(name: str, place: Path, seconds: int, seed: int) -> str:
    """Runs libFuzzer in a process of its own; returns what it said."""
    command = [sys.executable, __file__, "--fuzz", name, f"-max_total_time={seconds}", f"-seed={seed}",
               f"-artifact_prefix={place / 'ends'}/", f"-timeout={HANGS}", "-rss_limit_mb=6000", "-print_final_stats=1",
               f"-max_len={2**19}", "-len_control=0", str(place / "corpus")]  # fmt: skip
    folders = dict.fromkeys(("TMPDIR", "CAKE_RUNS_DIR", "CAKE_UPLOADS_DIR"), str(place / "tmp"))
    environment = {**os.environ, **folders, "OMP_NUM_THREADS": "1", "FUZZ_PLACE": str(place)}
    done = subprocess.run(command, env=environment, cwd=place / "tmp", capture_output=True, text=True, errors="replace")
    return done.stdout + done.stderr


# -- in the process of a surface ------------------------------------------------------------------------------------


def fuzz(name: str, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    place = Path(os.environ["FUZZ_PLACE"])
    with atheris.instrument_imports(include=["cake_core", "pages"]):
        for page in ("pages._ui.routes", "pages._ui.run_panels"):
            importlib.import_module(page)  # which readers import when they are called
        from cake_core import onnx_network
        from tests import fuzzing

    onnx_network.MOST_SECONDS, onnx_network.MOST_MEMORY, onnx_network.MOST_VALUES = 1, BYTES // 2, 2**22
    surface, judge = fuzzing.SURFACES[name], Judge(place)
    if not any((place / "corpus").iterdir()):
        for seed in surface.seeds():
            (place / "corpus" / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    words = place / "words.txt"
    words.write_text("".join('"' + "".join(f"\\x{b:02x}" for b in w.encode()) + '"\n' for w in surface.words))

    def change(given: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        mutate = lambda part: bytes(atheris.Mutate(part or b"\0", max(64, 2 * len(part))))  # noqa: E731
        if rng.random() < ALONE:
            return bytes(atheris.Mutate(given, most))
        return surface.changed(bytes(given), rng, mutate)[:most]

    surface.case(next(iter(surface.seeds())))  # what is made once is made before anything is measured
    judge.watch()
    atheris.Setup(
        [sys.argv[0], *([f"-dict={words}"] if surface.words else []), *arguments],
        lambda given: judge(lambda: surface.case(bytes(given)), bytes(given)),
        custom_mutator=change,
    )
    atheris.Fuzz()


class Judge:
    """Feeds cases, and notes what is a fault: each kind once, by its smallest input.

    Args:
        place: the folder to note them in.
    """

    def __init__(self, place: Path):
        from cake_core.errors import CakeError
        from tests import hostile

        self.place, self.readers, self.refusal = place, hostile.READERS, CakeError
        self.slowest, self.strayed, self.judging = 0.0, "", False

    def watch(self) -> None:
        """From now on nothing is written outside of the folder, no pickle is opened, no process is started."""
        sys.addaudithook(self._event)

    def _event(self, event: str, values: tuple[Any, ...]) -> None:
        if not self.judging:
            return
        if event == "open":
            path, _mode, flags = values
            if not (flags & WRITES) or not isinstance(path, str | bytes | Path):
                return
        elif event in MOVES:
            path = values[0]
        elif event in NEVER:
            self.strayed = f"{event} {values}"
            raise PermissionError(self.strayed)
        else:
            return
        if not os.path.realpath(os.fsdecode(path)).startswith((str(self.place), "/dev/null")):
            self.strayed = f"{event} {path!r}"
            raise PermissionError(self.strayed)

    def __call__(self, make: Callable[[], Any], given: bytes) -> None:
        from cake_core import devices

        case = make()
        self.strayed, fault, told = "", "", ""
        peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        before = _resident()
        self.judging = True
        try:
            with devices.bounded_memory(BYTES + BYTES // 2):
                self.readers[case.surface](case)
        except self.refusal:
            pass
        except BaseException as error:
            fault, told = _signature(error), traceback.format_exc()
        finally:
            self.judging = False
        seconds, top = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if self.strayed:
            fault, told = f"strayed {self.strayed[:60]}", told or self.strayed
        elif not fault and seconds > SECONDS:
            fault, told = "slow", f"{seconds:.1f} s"
        elif not fault and top > peak and (top - before) * 1024 > BYTES:
            fault, told = "memory", f"{(top - before) / 2**20:.1f} GiB"
        if seconds > self.slowest:
            self.slowest = seconds
            (self.place / "slowest.json").write_text(f"{seconds:.3f}")
        if fault:
            self._note(fault, told, given)

    def _note(self, fault: str, told: str, given: bytes) -> None:
        path = self.place / "faults" / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', fault)[:100]}.bin"
        if not path.exists() or len(given) < path.stat().st_size:
            path.write_bytes(given)
            path.with_suffix(".txt").write_text(told, errors="replace")


def _signature(error: BaseException) -> str:
    """What kind of fault it is: the exception, and the line of ours in which it came up."""
    ours = [
        f for f in traceback.extract_tb(error.__traceback__) if "/cake_core/" in f.filename or "/pages/" in f.filename
    ]
    where = f"{Path(ours[-1].filename).name}-{ours[-1].lineno}" if ours else "elsewhere"
    return f"{type(error).__name__}-{where}"


def _resident() -> int:
    """KiB of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


if __name__ == "__main__":
    main()
