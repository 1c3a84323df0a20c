"""Processes that claim a run at once; by themselves here, for each imports what this file does."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from mimray.errors import UserError
from mimray.train.fence import Fence
from mimray.train.run_folder import RunFolder


def race(folder: Path, count: int = 6) -> list[str]:
    """The tokens of those that hold it."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    racers = [context.Process(target=_race, args=(folder, barrier, results)) for _ in range(count)]
    for racer in racers:
        racer.start()
    found = [results.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(30)
    return [token for token in found if token]


def _race(folder: Path, barrier: Barrier, results: Queue) -> None:
    run = RunFolder(str(folder))
    barrier.wait()
    try:
        Fence(run).claim()
        results.put(run.token)
    except UserError:
        results.put(None)
    barrier.wait()  # holders live until all have tried
