"""Shards of an analysis: some of its pictures seen by one of its diagnostics, and who computes them.

What a shard gives is a few sums. They are computed in this process or as Ray tasks, come back as bytes
that the driver keeps, and are added in one order: results depend on who computed them by no more than the
rounding of float32, which is another with other threads or devices.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mimray.errors import RunFailed, UserError
from mimray.evaluate.checkpoint import Checkpoint
from mimray.evaluate.decoding import decoded
from mimray.evaluate.workers import Here, Share, finished, here, in_own_words, session

if TYPE_CHECKING:
    from mimray.evaluate.diagnosis import Analysis
    from mimray.mim.encoders import Encoder

_MOST_SHARDS = 64  # of one diagnostic: their sums lie on the disk until all are there


class Piece(NamedTuple):
    """What one task computes: a shard of the pictures, for one part of an analysis."""

    part: int
    shard: int


class Seen(NamedTuple):
    """What a piece gave. `state`: a diagnostic's sums; `pictures` of which, `unreadable` ones, and those
    `left` out because too few of their batch can be read."""

    state: dict[str, Any]
    pictures: int
    unreadable: int
    left: int

    def pack(self) -> bytes:
        """To be kept in a file."""
        import torch

        out = io.BytesIO()
        torch.save(self._asdict(), out)
        return out.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Seen | None:
        """None for bytes that are damaged."""
        import torch

        try:
            return cls(**torch.load(io.BytesIO(data), weights_only=True))
        except Exception:  # zip, pickle and torch each have errors of their own
            return None


# ----- pictures -----------------------------------------------------------------------------------------


def deal(rows: np.ndarray, batch: int) -> list[np.ndarray]:
    """Rows as batches of at most `batch`, equally large but for one picture, each spread over all rows.

    A source often lies class by class, and minibatch CKA is an average over batches: a batch of
    neighbours would say how layers differ within a class.
    """
    count = -(-len(rows) // batch)
    return [rows[number::count] for number in range(count)]


def smallest_batch(count: int, batch: int) -> int:
    """Pictures in the smallest of the batches that `deal` makes of so many."""
    return count // -(-count // batch)


def shards_of(batches: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Batches in shards, which depend on nothing but how many batches there are."""
    count = min(len(batches), _MOST_SHARDS)
    edges = [len(batches) * number // count for number in range(count + 1)] if count else []
    return [batches[a:b] for a, b in pairwise(edges)]


# ----- computing ----------------------------------------------------------------------------------------


def compute(analysis: Analysis, piece: Piece, share: Share) -> bytes:
    """One piece, packed. Raises UserError where it does not fit the encoder or is not finite, and RunFailed
    where it does not fit the GPU's memory."""
    import torch

    from mimray.mim.normalisation import normalise

    part, seen = analysis.parts[piece.part], analysis.pictures
    assert seen is not None, "without pictures there are no pieces"
    diagnostic = part.build(share.device)
    pictures = unreadable = left = 0
    for block in decoded(seen.source, analysis.shards[piece.shard], part.framing, share.cpus):
        readable = block["reason"] == 0
        count = int(readable.sum())
        unreadable += len(readable) - count
        if count < part.kind.least:
            left += count
            continue
        images = torch.from_numpy(block["image"][readable]).to(share.device).permute(0, 3, 1, 2)
        try:
            diagnostic.update(normalise(images))
        except ValueError as error:
            raise UserError(f"{part.label}: {error}") from None
        except torch.OutOfMemoryError:
            raise RunFailed(
                f"{part.label}: {count} pictures do not fit the GPU's memory; take a smaller --batch than "
                f"{seen.batch}"
            ) from None
        pictures += count
    state = diagnostic.state()
    if not _finite(state):
        raise UserError(
            f"{part.label}: {part.kind.name} is not finite; has its run diverged? Take an earlier "
            f"checkpoint"
        )
    return Seen(state, pictures, unreadable, left).pack()


def _finite(value: Any) -> bool:
    """Whether all tensors inside are."""
    import torch

    if isinstance(value, dict | list):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())


@lru_cache(maxsize=4)
def encoder_of(checkpoint: Checkpoint, device: str) -> Encoder:
    """A process's own copy, filled: Ray's tasks come one after another to the same process."""
    return checkpoint.build().to(device)


Pieces = Iterator[tuple[Piece, bytes]]
Compute = Callable[["Analysis", list[Piece]], Pieces]
"""Pieces of an analysis, each packed as soon as it is there, in any order."""


@contextmanager
def compute_here() -> Iterator[Compute]:
    """In this process, with the machine's first GPU if it has one."""
    with here() as workers:
        assert isinstance(workers, Here)
        share = workers.share

        def run(analysis: Analysis, pieces: list[Piece]) -> Pieces:
            for piece in pieces:
                yield piece, compute(analysis, piece, share)

        yield run


@contextmanager
def compute_on_ray() -> Iterator[Compute]:
    """As Ray tasks, on a GPU each where the cluster has them, else on one CPU each."""
    import ray

    with session() as share:
        # Not ray.remote(_task).options(...): that loses max_calls=1, which Ray gives a task that declares a
        # GPU when it is made, so that its process ends and leaves no CUDA context behind.
        task = ray.remote(**share.options())(_task)

        def run(analysis: Analysis, pieces: list[Piece]) -> Pieces:
            what = ray.put(analysis)
            pending = {task.remote(what, piece, share): piece for piece in pieces}
            for piece, answer in finished(pending):
                if isinstance(answer, BaseException):
                    raise in_own_words(answer) from None
                yield piece, answer

        yield run


def _task(analysis: Analysis, piece: Piece, share: Share) -> bytes:
    import torch

    torch.set_num_threads(share.cpus)
    return compute(analysis, piece, share)
