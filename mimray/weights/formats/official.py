"""Microsoft's checkpoints: SimMIM's (Swin, SwinV2, ViT) and Swin Transformer's classifiers.

Sources: microsoft/SimMIM `models/`, `utils.py`; microsoft/Swin-Transformer `models/`,
`utils_simmim.py`, which also shows the older name of SwinV2's position MLP.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights import bias_windows
from mimray.weights.formats.protocol import (
    REBUILT,
    Translated,
    Weights,
    is_rebuilt,
    reshape_token,
)

DOWNSAMPLE = "layers.0.downsample.reduction.weight"
"""Patches are merged at the end of a stage; in timm, and so in mimray, at the start of the next."""

# mimray's prefixes and theirs; the empty one comes last.
_PRETRAINING = {"encoder.": "encoder.", "head.": "decoder."}
_CLASSIFIER = {"fc_norm.": "fc_norm.", "classifier.": "head.", "encoder.": ""}


class Official:
    """`encoder.*` and `decoder.*` of pre-training, or a classifier's names without a prefix."""

    name = "official"

    def recognises(self, names: Collection[str]) -> bool:
        if "encoder.patch_embed.proj.weight" in names:
            return f"encoder.{DOWNSAMPLE}" in names or "decoder.0.weight" in names
        return "patch_embed.proj.weight" in names and DOWNSAMPLE in names

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        parts = _PRETRAINING if "encoder.patch_embed.proj.weight" in weights else _CLASSIFIER
        kept = {name: tensor for name, tensor in weights.items() if not is_rebuilt(name)}
        dropped = {n: _why_rebuilt(n, t) for n, t in weights.items() if n not in kept}
        translated = {_to_mimray(name, parts): tensor for name, tensor in kept.items()}
        translated |= bias_windows.from_coordinates(weights)
        return Translated(reshape_token(translated, 4), dropped)

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        if not any(
            re.search(r"layers\.0\.blocks|relative_position_bias_table", n) for n in weights
        ):
            raise ValueError(
                "Microsoft's code has Swin, SwinV2 and the ViT with relative position bias, and these "
                "weights are of none of them; take another format"
            )
        parts = _CLASSIFIER if "classifier.weight" in weights else _PRETRAINING
        kept = {n: t for n, t in reshape_token(weights, 3).items() if n != bias_windows.NAME}
        written = {_to_official(n, parts): t for n, t in kept.items()}
        if parts is _CLASSIFIER:
            written.pop("mask_token", None)  # their classifiers have none
        return written


def _to_mimray(name: str, parts: Mapping[str, str]) -> str:
    for ours, theirs in parts.items():
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs).replace(".rpe_mlp.", ".cpb_mlp.")
            return _shift_downsample(name, 1)
    return name


def _to_official(name: str, parts: Mapping[str, str]) -> str:
    for ours, theirs in parts.items():
        if name.startswith(ours):
            return _shift_downsample(theirs + name.removeprefix(ours), -1)
    return name


def _shift_downsample(name: str, by: int) -> str:
    return re.sub(r"(?<=layers\.)\d+(?=\.downsample)", lambda stage: str(int(stage[0]) + by), name)


def _why_rebuilt(name: str, tensor: Tensor) -> str:
    """SwinV2's coordinates tell which window the position bias was learned at."""
    if name.endswith("relative_coords_table"):
        return f"{REBUILT}; here of window {(tensor.shape[1] + 1) // 2}"
    return REBUILT
