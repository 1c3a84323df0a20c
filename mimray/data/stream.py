"""The plan as a Ray Data stream: read, decode and crop anywhere in the cluster, in exact order.

`streaming_split(n, equal=True)` with `preserve_order` deals equal blocks to the ranks in turn, so
the read tasks are laid out as the plan wants them to arrive: block 0 of every rank, block 1 of every
rank, ... Rows carry their ids, and a rank compares them with the plan (`mimray.train.batches`): if a
later Ray dealt otherwise, the run would stop and not train on something else in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import ray.data
from ray.data import DataContext, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from mimray.data.ahead import ahead
from mimray.data.framing import Framing
from mimray.data.plan import Block, Plan
from mimray.data.sources import Source

if TYPE_CHECKING:  # planning does without torch
    from torch import Tensor


class PlanDatasource(Datasource):
    """A Ray Data source whose read tasks are the blocks of a plan.

    Every execution of the dataset delivers the next segment. Which one it is stands in Ray's
    `DataContext._execution_idx` (a private field, hence the rows' ids are checked on arrival).
    """

    def __init__(self, plan: Plan, source: Source, framing: Framing) -> None:
        super().__init__()
        self.plan, self.framing = plan, framing
        self.source = ray.put(source)

    def get_name(self) -> str:
        return "Photos"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """One task a block; `parallelism` is not obeyed, for blocks are what the ranks expect."""
        segment = (data_context._execution_idx if data_context else 0) % segments(self.plan)
        return [
            self._task(block)
            for number in segment_blocks(self.plan, segment)
            for block in self.plan.block_of_all(number)
        ]

    def _task(self, block: Block) -> ReadTask:
        metadata = BlockMetadata(
            num_rows=len(block.rows),
            size_bytes=len(block.rows) * 3 * self.framing.size**2,
            exec_stats=None,
            input_files=None,
        )
        return ReadTask(_read(block, self.source, self.framing), metadata)


def _read(block: Block, source: ray.ObjectRef, framing: Framing) -> Callable[[], list]:
    def read() -> list:
        import torch  # which planning does without

        from mimray.data.load import load_block

        torch.set_num_threads(1)  # a data task is given one CPU
        batch = load_block(_cached(source), block, framing)
        return [ray.data.block.BlockAccessor.batch_to_block(batch)]

    return read


_sources: dict[str, Source] = {}


def _cached(reference: ray.ObjectRef) -> Source:
    """The source, once a process, with the row groups that it holds in memory."""
    name = reference.hex()
    if name not in _sources:
        _sources[name] = ray.get(reference)
    return _sources[name]


def segments(plan: Plan) -> int:
    """How many executions deliver the plan."""
    first, each = _segment_sizes(plan)
    return 1 + max(0, -(-(plan.blocks - first) // each))


def segment_blocks(plan: Plan, segment: int) -> range:
    """Numbers of the blocks, of each rank, in one segment."""
    first, each = _segment_sizes(plan)
    start = first + (segment - 1) * each if segment else 0
    return range(start, min(start + (each if segment else first), plan.blocks))


def _segment_sizes(plan: Plan) -> tuple[int, int]:
    """Blocks of each rank in the first segment, which is short so that planning it is, and in others."""
    each = max(1, plan.segment_blocks // plan.workers)
    return max(1, each // 16), each


def dataset(plan: Plan, source: Source, framing: Framing) -> Dataset:
    """The plan as a Ray dataset, to be split over `plan.workers` ranks.

    Call it in the process that hands the dataset to Ray Train: order is preserved from here on.
    """
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return ray.data.read_datasource(PlanDatasource(plan, source, framing), override_num_blocks=1)


def micro_batches(shard: Any, plan: Plan, prefetch: int, pin: bool) -> Iterator[dict[str, Tensor]]:
    """One rank's micro-batches as they come out of its Ray Data iterator, segment after segment.

    `image` uint8 (B, S, S, 3), `row` int64, `reason` int8, `seen` int64 (B,): torch tensors on the
    host, pinned if asked.
    """
    # Ray's own prefetch keeps the first batch back until it has them all, so it is ours.
    parts = (segment(shard, plan, pin) for _ in range(segments(plan)))
    yield from ahead(chain.from_iterable(parts), prefetch)


def segment(shard: Any, plan: Plan, pin: bool) -> Iterator[dict[str, Tensor]]:
    """The micro-batches of the next segment: one execution of the dataset."""
    return iter(
        shard.iter_torch_batches(
            batch_size=plan.micro, prefetch_batches=0, device="cpu", pin_memory=pin
        )
    )
