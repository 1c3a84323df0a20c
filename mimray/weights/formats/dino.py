"""DINO's whole checkpoints: one network's backbone and projection.

Source: facebookresearch/dino `main_dino.py`, `utils.py`. Of a file with both networks the teacher is
taken, as DINO's own evaluation does; the files of a backbone alone have the plain ViT's names, or
torchvision's for ResNet-50, and are read as timm's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights.formats.protocol import Translated, Weights
from mimray.weights.formats.timm import TimmFormat

_BACKBONE = "backbone."


class Dino:
    """`backbone.*` with timm's names behind it, and `head.*`, the projection."""

    name = "dino"

    def recognises(self, names: Collection[str]) -> bool:
        inner = {n.removeprefix(_BACKBONE) for n in names if n.startswith(_BACKBONE)}
        return TimmFormat().recognises(inner)

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        backbone = {n.removeprefix(_BACKBONE): t for n, t in weights.items() if _is_backbone(n)}
        translated, dropped = TimmFormat().read(backbone)
        projection = [name for name in weights if not _is_backbone(name)]
        return Translated(translated, dropped | dict.fromkeys(projection, "DINO's projection"))

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        raise ValueError("DINO's files are read, not written; timm's names fit its backbone")


def _is_backbone(name: str) -> bool:
    return name.startswith(_BACKBONE)
