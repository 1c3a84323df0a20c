"""A tokenizer that needs no download: the nearest patch of a codebook of the user's own pictures."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mimray.mim.kmeans import nearest
from mimray.mim.targets.patches import standardise, to_patches

CODEBOOK = "codebook"
"""Name of the centres in a file: float32 (clusters, 3 * patch * patch), as `to_patches` lays them."""


class PatchCodebook(nn.Module):
    """Tokens of patches without their brightness and contrast (see `NormalisedPatches`).

    `mimray data clusters URI --out FILE --patch 16` learns the codebook. An example of what
    `target.module` may name; how large it is stands in its weights.
    """

    codebook: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(CODEBOOK, torch.zeros(1, 3))
        self.register_load_state_dict_pre_hook(_make_room)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.codebook)

    @property
    def patch(self) -> int:
        """Side of the patch of one token, pixels."""
        return math.isqrt(self.codebook.shape[1] // 3)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> int64 (B, H/patch, W/patch)."""
        patches = standardise(to_patches(images, self.patch))
        return nearest(patches.flatten(0, 2), self.codebook).view(patches.shape[:3])


def _make_room(module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give the codebook the size of the one that is about to be loaded."""
    found = weights.get(prefix + CODEBOOK)
    if found is not None:
        module.codebook = torch.empty_like(found)
