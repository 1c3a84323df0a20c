"""From row numbers to uint8 pictures: what a data task does."""

from __future__ import annotations

import numpy as np

from mimray.data.crop import centre_crop, cut, cut_centre, draws, random_crop
from mimray.data.decode import REASONS, Unreadable, decode
from mimray.data.framing import Framing
from mimray.data.plan import PADDING, Block
from mimray.data.randaugment import rand_augment
from mimray.data.sources import Source


def load_block(source: Source, block: Block, framing: Framing) -> dict[str, np.ndarray]:
    """Read, decode and crop a block's rows.

    Returns `image` uint8 (n, S, S, 3), `row` int64 (n,), `reason` int8 (n,): why a row cannot be
    read, `seen` int64 (n,): the row whose pixels stand there. That is the row itself, or the first of
    its spares that can be read, cut and masked with the numbers of the row whose place it takes; or
    -1 (black, weighs nothing) for padding and where there is no readable spare.
    """
    rows, count = block.rows, len(block.rows)
    images = np.zeros((count, framing.size, framing.size, 3), dtype=np.uint8)
    reasons = np.zeros(count, dtype=np.int8)
    seen = np.full(count, PADDING, dtype=np.int64)
    numbers = draws(framing.seed, rows, block.epochs) if framing.random else None
    real = np.flatnonzero(rows != PADDING)

    def put(place: int, row: int, data: bytes) -> int:
        """Decode into a place; 0, or why that cannot be done."""
        try:
            picture = decode(data, framing.upright)
        except Unreadable as error:
            return REASONS.index(error.reason)
        if numbers is None:
            _frame_centre(picture, framing, images[place])
        else:
            name = int(rows[place]), int(block.epochs[place])
            _frame_random(picture, framing, numbers[place], name, images[place])
        seen[place] = row
        return 0

    for place, data in zip(real.tolist(), source.read(rows[real]), strict=True):
        reasons[place] = put(place, int(rows[place]), data)
    for place in np.flatnonzero(reasons).tolist():
        for spare in block.spares[place]:
            if put(place, int(spare), source.read(np.array([spare]))[0]) == 0:
                break
    return {"image": images, "row": rows, "reason": reasons, "seen": seen}


def _frame_centre(picture: np.ndarray, framing: Framing, out: np.ndarray) -> None:
    """The same part every time, into `out`."""
    if framing.margin > 1:
        side = int(framing.margin * framing.size)
        out[...] = cut_centre(picture, side, framing.size, framing.interpolation)
    else:
        box = centre_crop(*picture.shape[:2])
        cut(picture, box, framing.size, out, framing.interpolation)


def _frame_random(
    picture: np.ndarray, framing: Framing, draw: np.ndarray, name: tuple[int, int], out: np.ndarray
) -> None:
    """Cut, mirrored, then augmented, into `out`. `draw`: one of `draws`; `name`: row and epoch."""
    height, width, _ = picture.shape
    box = random_crop(height, width, framing.scale, framing.ratio, framing.flip, draw)
    cut(picture, box, framing.size, out, framing.interpolation)
    if framing.randaugment is not None:
        out[...] = rand_augment(
            out, framing.randaugment, framing.interpolation, framing.seed, *name
        )
