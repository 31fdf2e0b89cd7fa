"""What becomes of hostile input, counted: tried, refused, taken where harmless, and faults.

Run: python benchmarks/hostile.py --out benchmarks/results/hostile.csv  (needs requirements-dev.txt)
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cake_core import runs
from tests import hostile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    seen: dict[str, list[tuple[hostile.Case, hostile.Outcome]]] = {}
    for case in hostile.cases():
        seen.setdefault(case.surface, []).append((case, hostile.feed(case)))
    rows = [
        {
            "date": date.today().isoformat(),
            "surface": surface,
            "tried": len(found),
            "refused": sum(o.what == "refused" for _, o in found),
            "taken_harmless": sum(o.what == "taken" and c.harmless for c, o in found),
            "wrongly_taken": sum(o.what == "taken" and not c.harmless for c, o in found),
            "faults": sum(o.what == "broke" for _, o in found),
            "longest_seconds": max(o.seconds for _, o in found),
            "longest_case": max(found, key=lambda f: f[1].seconds)[0].name,
        }
        for surface, found in seen.items()
    ]
    for row in rows:
        print(row)
    if arguments.out:
        runs.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
