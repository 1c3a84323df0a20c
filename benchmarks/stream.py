"""Pictures a second through the whole Ray path in exact order, beside bare threads and a DataLoader.

Photos of ImageNet's size in Parquet, cut to 192 px. Rounds go in turn through (a) the stream, (b) the
same transform in as many threads as there are cores, from bytes in memory, (c) a torch DataLoader of
as many processes with SimMIM's own transform, from bytes in memory; medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks._pictures import MemorySource, read_pictures, simmim_transform, skipped
from benchmarks._report import Figure, report
from benchmarks._stream import (
    BATCH,
    SIMMIM,
    cores,
    first_batches,
    quiet_ray,
    stream_pass,
    write_set,
)
from mimray.data.load import load_block
from mimray.data.plan import Block

ROWS = 8400  # about a shuffle window
ROUNDS = 4
WARM = 1500  # pictures of a pass that are not counted: the pipeline fills
BLOCK = 256


class Official(Dataset):
    """SimMIM's own transform on the same bytes."""

    def __init__(self, pictures: list[bytes], rows: int) -> None:
        self.pictures, self.rows = pictures, rows
        self.transform = simmim_transform(SIMMIM.size, SIMMIM.scale)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int):  # noqa: ANN204
        return self.transform(self.pictures[row % len(self.pictures)])


def threads_rate(pictures: list[bytes], count: int) -> float:
    """Pictures a second of `load_block` in threads."""
    torch.set_num_threads(1)
    rows = np.arange(count)
    none = np.zeros((BATCH, 0), dtype=np.int64)
    blocks = [
        Block(part, np.zeros_like(part), none[: len(part)])
        for part in np.array_split(rows, count // BATCH)
    ]
    source = MemorySource(pictures)
    began = time.perf_counter()
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda block: load_block(source, block, SIMMIM), blocks):
            pass
    return count / (time.perf_counter() - began)


def loader_rate(pictures: list[bytes], count: int) -> float:
    """Pictures a second of a DataLoader once its processes run."""
    loader = DataLoader(Official(pictures, count + WARM), batch_size=BATCH, num_workers=cores())
    seen, began, first = 0, 0.0, 0
    for batch in loader:
        seen += len(batch)
        if not first and seen >= WARM:
            first, began = seen, time.perf_counter()
    return (seen - first) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", help="folder of JPEGs; ../shared/data/photos_hi when not given")
    arguments = parser.parse_args()
    pictures = read_pictures(arguments.images)
    if pictures is None:
        skipped("stream", arguments.json)
        return
    passes, threads, loader = [], [], []
    with tempfile.TemporaryDirectory() as folder, quiet_ray(cores()):
        source = write_set(pictures, ROWS, Path(folder))
        cold = stream_pass(source, 2 * BATCH, BLOCK).first
        warm = first_batches(source, BLOCK, ROUNDS)
        for number in range(ROUNDS):
            passes.append(stream_pass(source, ROWS, BLOCK, start=number * (ROWS // BATCH)))
            threads.append(threads_rate(pictures, 3 * WARM))
            loader.append(loader_rate(pictures, 2 * WARM))
        source.cache.clear()
    rates = [one.rate(WARM) for one in passes]
    ours = statistics.median(rates)
    first = statistics.median(warm)
    beside = {
        name: statistics.median(r / t for r, t in zip(rates, other, strict=True))
        for name, other in (("threads", threads), ("loader", loader))
    }
    unit = "images/s"
    figures = {
        "of bare threads": Figure(
            ratio=beside["threads"],
            target=0.80,
            ours=ours,
            theirs=statistics.median(threads),
            unit=unit,
        ),
        "of a DataLoader": Figure(
            ratio=beside["loader"],
            target=1.6,
            ours=ours,
            theirs=statistics.median(loader),
            unit=unit,
        ),
        "first batch, warm": Figure(ratio=1 / first, target=1.0, ours=first, theirs=1.0, unit="s"),
    }
    anew = statistics.median(one.first for one in passes)
    more = {"cold": cold, "new stream": anew, "next segment": first}
    report("stream", figures, arguments.json, first_batch_s=more)


if __name__ == "__main__":
    main()
