"""Swin over visible tokens only, equal to the dense Swin with hidden tokens shut out of attention.

The mask's unit is a multiple of the last stride, so a position of any stage is visible as a whole or
not at all, and merging patches never mixes the two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mimray.mim.encoders.packing import Places, embed_visible, to_map, visible_places
from mimray.mim.encoders.protocol import ImageSize
from mimray.mim.encoders.swin_stages import SwinStages
from mimray.mim.encoders.window_attention import Layout, lay_out


class VisibleStages(SwinStages):
    """Goes before a dense Swin of either version in the bases of its visible-only variant.

    `visible`: tokens of a picture that are, or None to count them in every batch. Parameters have the
    dense encoder's names and shapes, but for `mask_token`: it has the last stage's width and stands at
    hidden places of the last map, after the encoder. Earlier maps are 0 there. With nothing hidden it
    is the dense encoder. Raises ValueError where windows do not divide a stage's grid.

    `visible_block`: timm's, which takes a layout besides where its tokens are visible ones, (B, V, C).
    """

    visible_block: type[nn.Module]

    def __init__(
        self,
        image_size: ImageSize,
        window: int,
        drop_path: float,
        visible: int | None = None,
        **sizes: Any,
    ) -> None:
        super().__init__(image_size, window, drop_path, **sizes)
        check_windows(window, [stage.blocks[0].input_resolution for stage in self.layers])
        self.visible = visible
        for block in (block for blocks in self.stage_blocks() for block in blocks):
            block.__class__ = self.visible_block  # timm's stages name the class that they build
        self.mask_token = nn.Parameter(torch.empty(1, 1, 1, self.channels))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
        if hidden is None:
            return super().forward(images)
        places = [visible_places(hidden, self.stride // self.patch, self.visible)]
        while len(places) < len(self.layers):
            places.insert(0, places[0].finer())
        tokens = embed_visible(self.patch_embed, images, places[0])
        features: list[Tensor] = []
        for stage, at in zip(self.layers, places, strict=True):
            tokens = self._run_stage(stage, tokens, at)
            features.append(to_map(tokens, at))
        features[-1] = to_map(self.norm(tokens), places[-1], self.mask_token.flatten())
        return features

    def _run_stage(self, stage: Any, tokens: Tensor, places: Places) -> Tensor:
        if tokens.shape[1] != places.count:  # timm merges at the start, 2 x 2 of a picture
            pairs = tokens.unflatten(1, (-1, 2))
            tokens = stage.downsample(pairs).flatten(1, 2)
        layouts: dict[tuple[int, int], Layout] = {}
        for block in stage.blocks:
            if block.shift_size not in layouts:
                layouts[block.shift_size] = lay_out(places, block)
            tokens = block(tokens, layouts[block.shift_size])
        return tokens


def check_windows(window: int, grids: list[tuple[int, int]]) -> None:
    """timm pads a grid that windows do not divide, and the padding is neither visible nor hidden.

    Raises ValueError, with the windows that divide the (rows, columns) of every stage.
    """

    def divides(window: int) -> bool:  # one larger than the grid shrinks to it
        return all(side <= window or side % window == 0 for grid in grids for side in grid)

    if not divides(window):
        fits = ", ".join(str(n) for n in range(2, max(grids[0]) + 1) if divides(n))
        sides = ", ".join(f"{rows} x {columns}" for rows, columns in grids)
        raise ValueError(
            f"skipping hidden tokens needs windows that divide the grids of the stages, {sides}, and "
            f"model.window={window} does not; these do: {fits}"
        )
