"""What the job runner can do with stored runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from . import export, film, keeping, runs
from .errors import CakeError
from .limits import Limits
from .pipeline import Update
from .tasks import Task

__all__ = ["TASKS", "Export", "Pictures"]


class Pictures(Task):
    """Runs: strips of what runs have shown, for a view that moves through several in lock-step."""

    kind = "pictures"

    def __init__(self, runs: Sequence[str]):
        self.names, self.found = list(runs), {}
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def _loop(self) -> Iterator[Update]:
        for number, run in enumerate(self.names, start=1):
            self.found[run] = self._strip(run)
            yield Update("evaluation", number / len(self.names), "Drawing the pictures")

    def _strip(self, run: str) -> dict[str, Any]:
        messages = keeping.read_frames(runs.find(run) / "frames.bin")
        try:
            raw, steps = film.strip(messages[0] if messages else None, messages[1:])
        except CakeError:
            return {"steps": []}
        path = runs.made(run) / "strip.webp"
        with runs.whole(path) as part:
            part.write_bytes(raw)
        return {"steps": steps}

    def close(self) -> None:
        self._updates.close()

    def finish(self) -> dict[str, Any]:
        return {"pictures": self.found}


class Export(Task):
    """Runs: makes something of a run that is to be taken away, as a file that is kept for an hour."""

    kind = "export"

    def __init__(self, run: str, what: str):
        self.run, self.what, self.result = run, what, {}
        self.folder = runs.made(run)

    def __next__(self) -> Update:
        if self.result:
            raise StopIteration
        file, content = export.make(self.run, self.what)
        most = Limits.from_environment().max_export_mb
        if len(content) > most * 1e6:
            raise CakeError(
                f"This file has {len(content) / 1e6:,.0f} MB, and this server hands out {most:,} MB at a time "
                "(CAKE_MAX_EXPORT_MB). Take the parts of the run one by one, or make a run with fewer samples."
            )
        with runs.whole(self.folder / file) as part:
            part.write_bytes(content)
        self.result = {"file": file, "bytes": len(content)}
        return Update("evaluation", 1.0, "Done")

    def finish(self) -> dict[str, Any]:
        return self.result


TASKS = (Pictures, Export)
