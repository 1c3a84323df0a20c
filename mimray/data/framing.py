"""How pictures are cut to the model's size, as settings that travel to every data task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mimray.data.randaugment import check

_MARGIN = 256 / 224  # of evaluation

Interpolation = Literal["bilinear", "bicubic"]
"""Antialiased, as Pillow scales: a triangle over two pixels, or cubic (a = -0.5) over four."""


@dataclass(frozen=True)
class Framing:
    """How a picture is cut to the model's size; `random` for training, centred for validation.

    `upright`: whether the rotation that a camera noted (EXIF) is applied first. `margin`, of centred
    pictures: at 1 the largest square is cut out and scaled, as pre-training validates; above 1 the
    shorter side is scaled to int(margin * size) and the centre cut out of that. `randaugment`, of random
    ones: in timm's notation. Raises ValueError for a notation that timm does not know, or a margin
    below 1.
    """

    size: int
    random: bool
    seed: int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    upright: bool = False
    interpolation: Interpolation = "bilinear"
    margin: float = 1.0
    randaugment: str | None = None

    def __post_init__(self) -> None:
        if self.margin < 1:
            raise ValueError(f"margin={self.margin}: the frame would be larger than the picture")
        if self.randaugment is not None:
            check(self.randaugment)


def evaluation_framing(size: int, upright: bool = False) -> Framing:
    """As classification is evaluated, and frozen features are taken: scaled by bicubic, the centre of a
    picture a seventh larger. Source: SimMIM `data/data_finetune.py`."""
    return Framing(size, False, upright=upright, interpolation="bicubic", margin=_MARGIN)
