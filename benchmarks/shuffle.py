"""How well an epoch is mixed: classes in a global batch, beside a true permutation of all rows.

ImageNet-1K by its numbers (1,000 classes of 1,281 pictures, batch 2,048) as a folder, as Parquet whose
rows are mixed over the classes, and as Parquet sorted by class. No pictures are read.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks._report import Figure, report
from mimray.data.order import Order
from mimray.data.rowset import RowSet

CLASSES, EACH, BATCH, GROUP = 1000, 1281, 2048, 100
ROWS = CLASSES * EACH
BATCHES = 40
CASES = {  # name -> (rows a group, sorted by class, window)
    "folder, window 8192": (1, True, 8192),
    "Parquet mixed, window 8192": (GROUP, False, 8192),
    "Parquet sorted, window 8192": (GROUP, True, 8192),
    "Parquet sorted, window 65536": (GROUP, True, 65536),
    "Parquet sorted, window of all": (GROUP, True, ROWS),
}
TARGETS = {"folder, window 8192": 0.98, "Parquet mixed, window 8192": 0.98}


def classes_in_batches(order: Order | None, label: np.ndarray) -> float:
    """Mean number of different classes in a batch, over batches spread over an epoch."""
    true = np.random.default_rng(0).permutation(ROWS)
    counts = []
    for number in np.linspace(0, ROWS // BATCH - 1, BATCHES).astype(int):
        places = number * BATCH, (number + 1) * BATCH
        rows = true[slice(*places)] if order is None else order.slice(0, *places)
        counts.append(len(np.unique(label[rows])))
    return float(np.mean(counts))


def build(group: int, window: int) -> Order:
    """The order over the whole set."""
    sizes = np.minimum(group, ROWS - np.arange(0, ROWS, group))
    return Order(sizes, RowSet.everything(ROWS), 0, window)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    by_class = np.repeat(np.arange(CLASSES), EACH)
    mixed = np.random.default_rng(1).permutation(by_class)
    true = classes_in_batches(None, by_class)
    figures = {}
    for name, (group, is_sorted, window) in CASES.items():
        ours = classes_in_batches(build(group, window), by_class if is_sorted else mixed)
        figures[name] = Figure(
            ratio=ours / true, target=TARGETS.get(name, 0.0), ours=ours, theirs=true, unit="classes"
        )
    report("shuffle", figures, arguments.json)


if __name__ == "__main__":
    main()
