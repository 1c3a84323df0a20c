"""Pictures of a source in batches, decoded by several threads ahead of whoever looks at them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import Block
from mimray.data.sources import Source

_AHEAD = 2  # batches

Loaded = dict[str, np.ndarray]
"""As `load_block` gives it."""


def decoded(
    source: Source, batches: Iterable[np.ndarray], framing: Framing, threads: int
) -> Iterator[Loaded]:
    """Batches of rows as `load_block` gives them, in order.

    All threads share each batch, for there may be one alone, and go on with the next two meanwhile.
    """

    def load(rows: np.ndarray) -> Loaded:
        rows = np.asarray(rows, dtype=np.int64)
        no_spares = np.zeros((len(rows), 0), np.int64)
        return load_block(source, Block(rows, np.zeros_like(rows), no_spares), framing)

    waiting: deque[list[Future[Loaded]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for rows in batches:
            parts = np.array_split(rows, max(1, min(threads, len(rows))))
            waiting.append([pool.submit(load, part) for part in parts])
            if len(waiting) > _AHEAD:
                yield _joined(waiting.popleft())
        while waiting:
            yield _joined(waiting.popleft())


def _joined(parts: list[Future[Loaded]]) -> Loaded:
    found = [part.result() for part in parts]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
