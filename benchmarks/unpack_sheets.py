"""CIFAR-10 from lossless sheets of 100 x 100 images to the arrays that CAKE Lab reads.

Run: python benchmarks/unpack_sheets.py FOLDER_OF_SHEETS

The folder holds train_1.webp ... train_5.webp, test.webp and labels.npz; what comes out are train.npz and
test.npz in <CAKE_DATA_DIR>/cifar10. For machines that can't download; others get the set through the app.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image

from cake_core.data import data_folder

SIDE, ROWS = 32, 100


def unpack(sheet: Path) -> np.ndarray:
    """Images (10,000, 32, 32, 3) of a sheet, row by row."""
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    return pixels.reshape(ROWS, SIDE, ROWS, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)


def main() -> None:
    source, target = Path(sys.argv[1]), data_folder() / "cifar10"
    target.mkdir(parents=True, exist_ok=True)
    labels = np.load(source / "labels.npz")
    sheets = {"train": [f"train_{i}" for i in range(1, 6)], "test": ["test"]}
    for part, names in sheets.items():
        images = np.concatenate([unpack(source / f"{name}.webp") for name in names])
        np.savez(target / f"{part}.npz", images=images, labels=labels[part])
        print(f"{target / part}.npz: {len(images):,} images")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
