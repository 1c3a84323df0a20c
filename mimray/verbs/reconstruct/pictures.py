"""The pictures that are named, cut as validation cuts them."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mimray.data.decode import REASONS
from mimray.data.framing import Framing
from mimray.data.inspect import rows_to_look_at
from mimray.data.load import load_block
from mimray.data.plan import Block
from mimray.data.sources import Source, open_source
from mimray.errors import UserError

MOST = 100
"""Pictures on one sheet."""


class Picture(NamedTuple):
    """`name`: its file's; `number`: what its mask is drawn from; `pixels`: uint8 (S, S, 3)."""

    name: str
    number: int
    pixels: np.ndarray


def load_pictures(uris: list[str], most: int, framing: Framing) -> list[Picture]:
    """At most `most` pictures of each URI, spread evenly over it; of several splits the validation's.

    A number is a picture's row, so the pictures of `data.val` get the masks of the run's own validation;
    those of a second URI go on where the first one ends. Pictures that cannot be read are named and left
    out. Raises UserError where none of a URI can be read, and for more than `MOST` in all.
    """
    found: list[Picture] = []
    before = 0
    for uri in uris:
        source = open_source(uri, "val")
        if not len(source):
            raise UserError(f"{uri}: holds no pictures")
        rows = rows_to_look_at(source, most)[:most]
        if len(found) + len(rows) > MOST:
            raise UserError(f"more than {MOST} pictures; lower --images, or name fewer")
        found += _read(source, rows, before, framing)
        before += len(source)
    return found


def _read(source: Source, rows: np.ndarray, before: int, framing: Framing) -> list[Picture]:
    no_spares = np.empty((len(rows), 0), dtype=np.int64)
    block = load_block(source, Block(rows, np.zeros_like(rows), no_spares), framing)
    names = [source.name(row).rpartition("/")[2] for row in rows.tolist()]
    bad = [f"{names[i]}: {REASONS[block['reason'][i]]}" for i in np.flatnonzero(block["reason"])]
    if len(bad) == len(rows):
        raise UserError(f"{source.uri}: no picture that can be read ({bad[0]}); name another")
    if bad:
        print(f"left out of {source.uri}: {', '.join(bad)}", file=sys.stderr)
    return [
        Picture(names[i], before + int(rows[i]), block["image"][i])
        for i in np.flatnonzero(block["reason"] == 0)
    ]


def batch(pictures: list[Picture], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels, uint8 (B, 3, S, S), and numbers, int64 (B,)."""
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    numbers = torch.tensor([picture.number for picture in pictures])
    return pixels.permute(0, 3, 1, 2).to(device), numbers.to(device)
