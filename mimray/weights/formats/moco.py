"""MoCo v3's pre-training checkpoints: the base encoder, as its own evaluation takes it.

Source: facebookresearch/moco-v3 `main_lincls.py`, `vits.py`. The momentum encoder, the projections
and the predictor are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights.formats.protocol import Translated, Weights
from mimray.weights.formats.timm import TimmFormat

_BASE, _MOMENTUM = "base_encoder.", "momentum_encoder."
_PROJECTIONS = ("head.", "fc.")
_SMALL = 384


class Moco:
    """`base_encoder.*` and `momentum_encoder.*`, of a ViT or a ResNet."""

    name = "moco"

    def recognises(self, names: Collection[str]) -> bool:
        return any(name.startswith((_BASE, _MOMENTUM)) for name in names)

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        encoder: Weights = {}
        dropped: dict[str, str] = {}
        for name, tensor in weights.items():
            inner = name.removeprefix(_BASE)
            if inner == name:
                dropped[name] = "of pre-training; the base encoder is taken"
            elif inner.startswith(_PROJECTIONS):
                dropped[name] = "MoCo v3's projection"
            else:
                encoder[inner] = tensor
        if not encoder:
            raise ValueError("the file has no base_encoder of MoCo v3; take the whole checkpoint")
        _refuse_small(encoder)
        translated, more = TimmFormat().read(encoder)
        return Translated(translated, dropped | more)

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        raise ValueError("MoCo v3's files are read, not written; timm's names fit its encoder")


def _refuse_small(encoder: Mapping[str, Tensor]) -> None:
    """MoCo v3's ViT-S has 12 heads of 32; its weights fit 6 heads of 64 and mean another model."""
    token = encoder.get("cls_token")
    if token is not None and token.shape[-1] == _SMALL:
        raise ValueError(
            "MoCo v3's ViT-S has 12 heads, and vit_standard_small has 6 as all others do; "
            "take MoCo v3's ViT-B"
        )
