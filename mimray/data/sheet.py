"""A sheet of small pictures, to see at a glance what a source holds."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

COLUMNS, ROWS, CELL = 8, 6, 128  # pictures across and down; pixels of each
_GAP = 4  # pixels between them
_PAPER, _MISSING, _INK = (255, 255, 255), (90, 90, 90), (255, 255, 255)


def thumbnail(pixels: np.ndarray, cell: int) -> np.ndarray:
    """The centred square of uint8 (H, W, 3), scaled: uint8 (cell, cell, 3)."""
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((cell, cell), Image.Resampling.LANCZOS, reducing_gap=3.0))


def draw_sheet(cells: list[np.ndarray | str]) -> bytes:
    """PNG of thumbnails, row by row; in place of a picture that cannot be read stands why."""
    columns = min(COLUMNS, len(cells))
    down = -(-len(cells) // columns)
    step = CELL + _GAP
    sheet = Image.new("RGB", (columns * step + _GAP, down * step + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, cell in enumerate(cells):
        left, top = place % columns * step + _GAP, place // columns * step + _GAP
        if isinstance(cell, str):
            draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), _MISSING)
            draw.text((left + CELL / 2, top + CELL / 2), cell, _INK, anchor="mm")
        else:
            sheet.paste(Image.fromarray(cell), (left, top))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()
