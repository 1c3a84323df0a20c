"""The plan through a torch DataLoader on the trainer's own host: a baseline for the Ray Data stream.

The same rows, crops and order; it decodes on this host alone, in processes of this trainer.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import Plan
from mimray.data.sources import Source


class RankBatches(Dataset[dict[str, Tensor]]):
    """Item k is the k-th micro-batch of one rank; `plan` has blocks of one micro-batch."""

    def __init__(self, plan: Plan, rank: int, source: Source, framing: Framing) -> None:
        self.plan, self.rank, self.source, self.framing = plan, rank, source, framing

    def __len__(self) -> int:
        return self.plan.blocks

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        block = self.plan.block_of_all(number)[self.rank]
        columns = load_block(self.source, block, self.framing)
        return {name: torch.from_numpy(column) for name, column in columns.items()}


def micro_batches(
    plan: Plan,
    rank: int,
    source: Source,
    framing: Framing,
    processes: int,
    prefetch: int,
    pin: bool,
) -> Iterator[dict[str, Tensor]]:
    """One rank's micro-batches of a plan, as `mimray.data.stream.micro_batches` gives them."""
    items = RankBatches(plan.in_blocks_of(plan.micro), rank, source, framing)
    return iter(
        DataLoader(
            items,
            batch_size=None,
            num_workers=processes,
            prefetch_factor=max(1, prefetch) if processes else None,
            multiprocessing_context="forkserver" if processes else None,
            pin_memory=pin,
            worker_init_fn=_one_thread,
        )
    )


def _one_thread(worker: int) -> None:
    """A process decodes on one core; without processes the trainer's own threads stay as they are."""
    torch.set_num_threads(1)
