"""Memory of the stream from 1,000 to 100,000 pictures: resident, private, of all processes, and the
object store.

Photos of ImageNet's size in Parquet, cut to 192 px; a consumer that only checks the rows. About two
minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import ray

from benchmarks._pictures import read_pictures, skipped
from benchmarks._report import Figure, report
from benchmarks._stream import BATCH, cores, each_batch, quiet_ray, write_set

ROWS, PICTURES, EVERY = 8400, 100_000, 1000
FIRST = (1_000, 11_000)  # pictures between which the memory is that of the beginning
LAST = (90_000, 100_000)


class Meter(threading.Thread):
    """Samples (pictures so far, MiB of processes, MiB of object store) until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen, self.ended = 0, threading.Event()
        self.samples: list[tuple[int, float, float]] = []

    def run(self) -> None:
        """Two samples a second."""
        while not self.ended.wait(0.5):
            self.samples.append((self.seen, private_mib(), store_mib()))


def private_mib() -> float:
    """Memory of this process and its descendants that is theirs alone: no files, no shared memory."""
    parents: dict[int, int] = {}
    anonymous: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            fields = dict(x.split(":", 1) for x in status.read_text().splitlines() if ":" in x)
            pid = int(status.parent.name)
            parents[pid] = int(fields["PPid"])
            anonymous[pid] = int(fields.get("RssAnon", "0 kB").split()[0])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(anonymous.get(pid, 0) for pid in ours) / 1024


def store_mib() -> float:
    """Bytes in Ray's object store."""
    have = ray.cluster_resources()["object_store_memory"]
    return (have - ray.available_resources().get("object_store_memory", have)) / 2**20


def between(samples: list[tuple[int, float, float]], bounds: tuple[int, int]) -> float:
    """Median MiB of both kinds together."""
    return statistics.median(a + b for n, a, b in samples if bounds[0] <= n <= bounds[1])


def draw(samples: list[tuple[int, float, float]], path: str) -> None:
    """The curve as a picture."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, 3.2), layout="constrained")
    axes = canvas.subplots()
    seen = [n / 1000 for n, _, _ in samples]
    axes.stackplot(
        seen,
        [a for _, a, _ in samples],
        [b for _, _, b in samples],
        labels=["all processes, private", "object store"],
        colors=["#4c78a8", "#f58518"],
    )
    axes.set(xlabel="thousand pictures", ylabel="MiB", xlim=(0, seen[-1]), ylim=(0, None))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    canvas.savefig(path, dpi=110)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", help="folder of JPEGs; ../shared/data/photos_hi when not given")
    parser.add_argument("--curve", help="write the curve as PNG")
    arguments = parser.parse_args()
    pictures = read_pictures(arguments.images)
    if pictures is None:
        skipped("stream_memory", arguments.json)
        return
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder, quiet_ray(cores()):
        source = write_set(pictures, ROWS, Path(folder))
        meter.start()
        began = time.perf_counter()
        for number in each_batch(source, PICTURES, 256):
            meter.seen = number * BATCH
        rate = PICTURES / (time.perf_counter() - began)
        meter.ended.set()
        meter.join()
        source.cache.clear()
    if arguments.curve:
        draw(meter.samples, arguments.curve)
    first, last = between(meter.samples, FIRST), between(meter.samples, LAST)
    peak = max(a + b for _, a, b in meter.samples)
    figures = {
        "flat": Figure(ratio=first / last, target=0.9, ours=last, theirs=first, unit="MiB"),
        "peak": Figure(ratio=first / peak, target=0.0, ours=peak, theirs=first, unit="MiB"),
    }
    report("stream_memory", figures, arguments.json, images_per_s=rate)


if __name__ == "__main__":
    main()
