"""From row numbers to uint8 pictures: what a data task does."""

from __future__ import annotations

import numpy as np
import torch

from mimray.data.crop import centre_crop, draws, random_crop, resize
from mimray.data.decode import REASONS, Unreadable, decode
from mimray.data.framing import Framing
from mimray.data.plan import PADDING
from mimray.data.sources import Source


def load_rows(
    source: Source, rows: np.ndarray, epochs: np.ndarray, framing: Framing
) -> dict[str, np.ndarray]:
    """Read, decode and crop rows: `image` uint8 (n, 3, S, S), `row` int64 (n,), `reason` int8 (n,).

    Padding and pictures that cannot be read come back black, the latter with their reason; both
    weigh nothing in the loss.
    """
    torch.set_num_threads(1)  # a data task is given one CPU
    images = np.zeros((len(rows), 3, framing.size, framing.size), dtype=np.uint8)
    reasons = np.zeros(len(rows), dtype=np.int8)
    real = np.flatnonzero(rows != PADDING)
    numbers = draws(framing.seed, rows, epochs) if framing.random else None
    for place, data in zip(real, source.read(rows[real]), strict=True):
        try:
            picture = decode(data)
        except Unreadable as error:
            reasons[place] = REASONS.index(error.reason)
            continue
        height, width, _ = picture.shape
        if numbers is None:
            crop = centre_crop(height, width)
        else:
            crop = random_crop(
                height, width, framing.scale, framing.ratio, framing.flip, numbers[place]
            )
        images[place] = resize(picture, crop, framing.size).numpy()
    return {"image": images, "row": rows, "reason": reasons}
