"""What Swin and SwinV2 share: timm's stages, and the mask token before them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mimray.mim.encoders.protocol import Encoder, EncoderSpec, ImageSize


class SwinStages(Encoder):
    """An `Encoder` of timm's Swin of either version, which goes after it in the bases.

    Hidden tokens are replaced after the patch embedding's LayerNorm, and all tokens go through the
    stages, so hidden ones cost as much as visible ones.
    """

    layers: Any
    patch_embed: Any
    norm: Any

    def __init__(
        self,
        image_size: ImageSize,
        window: int,
        drop_path: float,
        embed: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        patch: int = 4,
        **options: Any,
    ) -> None:
        """`options`: what only one version's class of timm takes."""
        super().__init__(
            img_size=image_size,
            patch_size=patch,
            num_classes=0,
            global_pool="",
            embed_dim=embed,
            depths=depths,
            num_heads=heads,
            window_size=window,
            drop_path_rate=drop_path,
            **options,
        )
        self.patch, self.depths = patch, tuple(depths)
        self.strides = tuple(patch * 2**stage for stage in range(len(depths)))
        self.widths = tuple(embed * 2**stage for stage in range(len(depths)))
        self.mask_token = nn.Parameter(torch.empty(1, 1, 1, embed))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def tokens(self, images: Tensor) -> Tensor:
        return self.patch_embed(images)

    def stage_blocks(self) -> list[list[nn.Module]]:
        return [list(stage.blocks) for stage in self.layers]

    def feature_maps(self, tokens: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for stage in self.layers:  # timm merges patches at the start of a stage
            tokens = stage(tokens)
            features.append(tokens)
        features[-1] = self.norm(tokens)
        return [f.permute(0, 3, 1, 2) for f in features]


def swin_spec(
    dense: type[SwinStages],
    visible: type[SwinStages],
    takes: tuple[str, ...],
    embed: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    window: int,
) -> EncoderSpec:
    """What either version says of one of its sizes; `visible`: its visible-only variant."""
    return EncoderSpec(
        dense.family,
        dense,
        {"embed": embed, "depths": depths, "heads": heads},
        takes,
        window=window,
        visible_only=visible,
    )
