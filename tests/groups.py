"""Processes that train together, from one that has imported what each of them needs."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import set_forkserver_preload

import torch.multiprocessing as mp


def run_group(function: Callable[[int, str], None], folder: str, count: int) -> None:
    """`function(rank, folder)` in `count` processes; raises what one of them raises.

    To import torch and timm costs four seconds a process otherwise.
    """
    set_forkserver_preload(["torch.distributed.fsdp", "mimray.mim.build", "mimray.weights"])
    mp.start_processes(function, (folder,), count, start_method="forkserver")
