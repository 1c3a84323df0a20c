"""Sheets of reconstructions: one row a picture, one picture under many masks, a film over steps.

Drawn pixel by pixel, for a figure that scales its pictures would show pixels that nobody predicted.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

_PAPER, _INK, _SOFT = "#ffffff", "#1d2530", "#6b7683"
_TITLE, _TEXT, _LINE = 17, 13, 17  # sizes of letters; height of a line
_MARGIN, _GAP, _AIR = 14, 3, 10  # around the sheet; between pictures; between pictures and words
_BESIDE = 144  # width of the words beside a row
_LABEL = 42  # width of the words before a row
_LEAST = 160  # pixels of a picture's side, below which it is enlarged by a whole factor


class Words(NamedTuple):
    """Around a sheet: its `title`, what it shows, in smaller letters, and what to know of that."""

    title: str
    about: str
    note: str


class Row(NamedTuple):
    """Pictures, uint8 (S, S, 3); beside them their name, and figures with what each is."""

    pictures: Sequence[np.ndarray]
    name: str
    figures: Sequence[tuple[str, str]]


class Cell(NamedTuple):
    """Under one mask: two pictures, uint8 (S, S, 3), and a line below them."""

    masked: np.ndarray
    together: np.ndarray
    line: str


def draw_rows(words: Words, titles: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """One row a picture, under the titles of its columns."""
    factor, side = _enlarged(rows[0].pictures[0])
    across = len(titles) * (side + _GAP) - _GAP
    width = 2 * _MARGIN + across + _AIR + _BESIDE
    about, note = (_wrapped(text, width - 2 * _MARGIN) for text in (words.about, words.note))
    head = _MARGIN + _TITLE + 4
    top = head + len(about) * _LINE + _AIR + _LINE
    foot = top + len(rows) * (side + _GAP) - _GAP + _AIR
    sheet, pen = _paper(words.title, width, foot + len(note) * _LINE + _MARGIN)
    _print(pen, about, head)
    _print(pen, note, foot)
    for column, title in enumerate(titles):
        left = _MARGIN + column * (side + _GAP)
        pen.text((left, top - _LINE), title, _SOFT, _font(_TEXT))
    for number, row in enumerate(rows):
        y = top + number * (side + _GAP)
        for column, picture in enumerate(row.pictures):
            sheet.paste(_picture(picture, factor), (_MARGIN + column * (side + _GAP), y))
        left, right = _MARGIN + across + _AIR, width - _MARGIN
        pen.text((left, y), _cut(row.name, _BESIDE), _INK, _font(_TEXT))
        for line, (what, figure) in enumerate(row.figures, start=1):
            pen.text((left, y + line * _LINE), what, _SOFT, _font(_TEXT))
            pen.text((right, y + line * _LINE), figure, _INK, _font(_TEXT), anchor="ra")
    return sheet


def draw_masks(
    words: Words,
    original: np.ndarray,
    columns: Sequence[str],
    labels: Sequence[str],
    cells: Sequence[Sequence[Cell]],
) -> Image.Image:
    """A row of cells for each of `labels`, in it one for each of `columns`, beside the original and what
    to know of it."""
    factor, side = _enlarged(original)
    wide, high = 2 * side + _GAP, side + _LINE + _AIR
    left = _MARGIN + side + _AIR + _LABEL
    top = _MARGIN + _TITLE + _AIR + _LINE
    known = [*_wrapped(words.about, side), "", *_wrapped(words.note, side)]
    below = max(len(labels) * high - _AIR, side + _AIR + len(known) * _LINE)
    width = left + len(columns) * (wide + _AIR) - _AIR + _MARGIN
    sheet, pen = _paper(words.title, width, top + below + _MARGIN)
    pen.text((_MARGIN, top - _LINE), "original", _SOFT, _font(_TEXT))
    sheet.paste(_picture(original, factor), (_MARGIN, top))
    _print(pen, known, top + side + _AIR)
    for column, title in enumerate(columns):
        x = left + column * (wide + _AIR)
        pen.text((x, top - _LINE), title, _INK, _font(_TEXT))
        for number, row in enumerate(cells):
            cell, y = row[column], top + number * high
            sheet.paste(_picture(cell.masked, factor), (x, y))
            sheet.paste(_picture(cell.together, factor), (x + side + _GAP, y))
            pen.text((x, y + side + 2), _cut(cell.line, wide), _SOFT, _font(_TEXT))
    for number, label in enumerate(labels):
        place = (left - _AIR, top + number * high + side // 2)
        pen.text(place, label, _INK, _font(_TEXT), anchor="rm")
    return sheet


def png(sheet: Image.Image) -> bytes:
    """As PNG."""
    return _saved(sheet, "PNG")


def film(frames: Sequence[Image.Image], seconds: float = 0.6, last: float = 2.5) -> bytes:
    """Frames as an animated WebP that begins anew; `last`: how long the last one stays.

    WebP has all colours, a GIF 256 of them; every browser plays it, and Pillow writes it by itself.
    """
    width, height = (max(sizes) for sizes in zip(*(frame.size for frame in frames), strict=True))
    first, *others = (
        ImageOps.expand(f, (0, 0, width - f.width, height - f.height), _PAPER) for f in frames
    )
    times = [round(1000 * seconds)] * len(others) + [round(1000 * last)]
    return _saved(
        first, "WEBP", save_all=True, append_images=others, duration=times, loop=0, quality=90,
    )  # fmt: skip


# ----- the paper, and what is printed on it ---------------------------------------------------------


def _paper(title: str, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A sheet with its title."""
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    fitting = _cut(title, width - 2 * _MARGIN, _TITLE)
    pen.text((_MARGIN, _MARGIN - 4), fitting, _INK, _font(_TITLE))
    return sheet, pen


def _print(pen: ImageDraw.ImageDraw, lines: list[str], top: int) -> None:
    """Lines from the left margin on."""
    for number, line in enumerate(lines):
        pen.text((_MARGIN, top + number * _LINE), line, _SOFT, _font(_TEXT))


def _enlarged(picture: np.ndarray) -> tuple[int, int]:
    """By what factor a picture is enlarged, and its side then."""
    factor = max(1, -(-_LEAST // len(picture)))
    return factor, factor * len(picture)


def _picture(pixels: np.ndarray, factor: int) -> Image.Image:
    return Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


@lru_cache
def _font(size: int) -> Any:
    """Pillow's own letters: the same on every machine."""
    return ImageFont.load_default(size)


def _cut(text: str, width: int, size: int = _TEXT) -> str:
    """A line that fits; dots stand for what does not."""
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words that fit."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(_TEXT).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _saved(sheet: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    sheet.save(out, kind, **options)
    return out.getvalue()
