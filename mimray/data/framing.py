"""How pictures are cut to the model's size, as settings that travel to every data task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Framing:
    """How a picture is cut to the model's size; `random` for training, centred for validation.

    `upright`: whether the rotation that a camera noted (EXIF) is applied first.
    """

    size: int
    random: bool
    seed: int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    upright: bool = False
