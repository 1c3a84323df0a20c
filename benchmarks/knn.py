"""Nearest neighbours of 50,000 x 50,000 features of 768, beside the plain matrix product alone.

CPU time of one thread; the queries come in pieces that both take in turn, and their seconds are added.
The memory is the process's largest, features and libraries included. It takes two minutes or more.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch import Tensor

from benchmarks._report import Figure, report
from mimray.downstream.knn import knn_scores

ROWS, CHANNELS, CLASSES, PIECES = 50_000, 768, 1000, 5
BLOCK = (8192, 512)  # of the product alone
TARGET, MEMORY = 0.5, 2 * 2**30


def product(features: Tensor, queries: Tensor) -> None:
    """All similarities block by block, each written over the one before."""
    space = torch.empty(BLOCK[0] * BLOCK[1])
    for rows in features.split(BLOCK[0]):
        for block in queries.split(BLOCK[1]):
            out = space[: len(rows) * len(block)].view(len(rows), len(block))
            torch.mm(rows, block.T, out=out)


def peak() -> int:
    """Bytes that this process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=ROWS, help="features, and queries")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    features, queries = torch.randn(2, arguments.rows, CHANNELS, generator=generator)
    labels = torch.arange(len(features)) % CLASSES
    seconds = {"ours": 0.0, "theirs": 0.0}
    product(features[:4096], queries[:512])  # the first call sets the library up
    for piece in queries.chunk(PIECES):
        start = time.process_time()
        knn_scores(features, labels, CLASSES, piece)
        middle = time.process_time()
        product(features, piece)
        seconds["ours"] += middle - start
        seconds["theirs"] += time.process_time() - middle
    figures = {
        "beside the product": Figure(
            ratio=seconds["theirs"] / seconds["ours"], target=TARGET, **seconds, unit="CPU s"
        ),
        "memory": Figure(
            ratio=MEMORY / peak(), target=1.0, ours=peak() / 2**20, theirs=2048.0, unit="MiB"
        ),
    }
    report("knn", figures, arguments.json, rows=len(features))


if __name__ == "__main__":
    main()
