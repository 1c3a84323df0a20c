"""A set of ImageNet-size photos in Parquet, and the stream over it, as the benchmarks use them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mimray import environment

environment.prepare()

import ray  # noqa: E402
import torch  # noqa: E402

from mimray.data.framing import Framing  # noqa: E402
from mimray.data.node_cache import NodeCache  # noqa: E402
from mimray.data.order import Order  # noqa: E402
from mimray.data.plan import Plan  # noqa: E402
from mimray.data.prepare import ROW_GROUP_SIZE  # noqa: E402
from mimray.data.rowset import RowSet  # noqa: E402
from mimray.data.sources import Source, open_source  # noqa: E402
from mimray.data.stream import dataset, micro_batches, segment  # noqa: E402
from mimray.train.batches import Batches  # noqa: E402

GROUP = ROW_GROUP_SIZE  # as `mimray data prepare` writes them
BATCH = 128
SIMMIM = Framing(192, True, 0, (0.67, 1.0), (3 / 4, 4 / 3), 0.5)


def write_set(pictures: list[bytes], rows: int, folder: Path) -> Source:
    """`rows` pictures, drawn from those given, in four shards; read through a host's cache."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rng = np.random.default_rng(0)
    for shard in range(4):
        path = folder / f"train-{shard:05}-of-00004.parquet"
        with pq.ParquetWriter(
            path, pa.schema([("image", kind)]), compression="none", use_dictionary=False
        ) as writer:
            for _ in range(rows // 4 // GROUP):
                drawn = rng.integers(0, len(pictures), GROUP)
                images = [{"bytes": pictures[i], "path": f"{i}.jpg"} for i in drawn]
                writer.write_table(pa.table({"image": pa.array(images, kind)}))
    source = open_source(str(folder))
    source.cache = NodeCache(2 * 2**30)
    return source


@contextmanager
def quiet_ray(cpus: int) -> Iterator[None]:
    """A private Ray of so many CPUs."""
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    try:
        yield
    finally:
        ray.shutdown()


@dataclass
class Pass:
    """One pass: `first` seconds to the first batch, and (pictures, seconds) after every batch."""

    first: float
    marks: list[tuple[int, float]]

    def rate(self, skip: int) -> float:
        """Pictures a second after the first `skip`."""
        n0, t0 = next(mark for mark in self.marks if mark[0] >= skip)
        n1, t1 = self.marks[-1]
        return (n1 - n0) / (t1 - t0)


def first_batches(source: Source, block_rows: int, count: int) -> list[float]:
    """Seconds to the first batch of `count` executions that follow the first one of a stream."""
    order = Order(source.groups, RowSet.everything(len(source)), 0, 8192)
    blocks = 16  # an execution, of the thousands that a run plans
    stop = (count + 1) * blocks * block_rows // BATCH
    plan = Plan(order, BATCH, BATCH, 1, 0, stop, block_rows, segment_blocks=blocks)
    (shard,) = dataset(plan, source, SIMMIM).streaming_split(1, equal=True)
    seconds = []
    for _ in range(count + 1):
        began = time.perf_counter()
        batches = segment(shard, plan, False)
        next(batches)
        seconds.append(time.perf_counter() - began)
        for _ in batches:
            pass
    return seconds[1:]


def each_batch(source: Source, pictures: int, block_rows: int, start: int = 0) -> Iterator[int]:
    """Go over the stream as a trainer does, checking every row; yields how many batches came."""
    order = Order(source.groups, RowSet.everything(len(source)), 0, 8192)
    plan = Plan(order, BATCH, BATCH, 1, start, start + pictures // BATCH, block_rows)
    (shard,) = dataset(plan, source, SIMMIM).streaming_split(1, equal=True)
    stream = micro_batches(shard, plan, 2, False)
    for number, _ in enumerate(Batches(stream, plan, 0, torch.device("cpu")), start=1):
        yield number


def stream_pass(source: Source, pictures: int, block_rows: int, start: int = 0) -> Pass:
    """One pass with nothing else to do."""
    began = time.perf_counter()
    marks = [
        (number * BATCH, time.perf_counter() - began)
        for number in each_batch(source, pictures, block_rows, start)
    ]
    return Pass(marks[0][1], marks)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
