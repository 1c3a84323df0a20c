"""MAE's pre-training checkpoints: a plain ViT and the decoder that is thrown away.

The names of the checkpoints that facebookresearch/mae released: the encoder's are the plain ViT's,
the decoder's begin with `decoder_`. The mask token is the decoder's, of its width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights.formats.plain_vit import MARK, read_plain_vit
from mimray.weights.formats.protocol import Translated, Weights


class Mae:
    """Pre-training files with their decoder; without it they are the plain ViT's."""

    name = "mae"

    def recognises(self, names: Collection[str]) -> bool:
        return "decoder_embed.weight" in names or "decoder_pred.weight" in names

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        decoder = {n for n in weights if n.startswith("decoder_") or n == "mask_token"}
        if MARK not in weights:
            raise ValueError("the file holds MAE's decoder only; take the one with the encoder")
        encoder, dropped = read_plain_vit({n: t for n, t in weights.items() if n not in decoder})
        return Translated(encoder, dropped | dict.fromkeys(sorted(decoder), "MAE's decoder"))

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        raise ValueError("MAE's files are read, not written; timm's names fit its encoder")
