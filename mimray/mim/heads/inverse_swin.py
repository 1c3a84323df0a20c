"""SimMIM's heavy heads: a Swin run backwards, from the last stage's grid towards the pixels.

The paper (table 4) gives their sizes with Swin-B, 115.2 and 174.8 M parameters, and no layout. That
of this file has 115,169,621 and 174,758,131. A last linear layer from the last stage straight to its
pixels, without the splitting before it, would make 115.0 and 174.5 M.
"""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from mimray.mim.heads.shape import HeadShape
from mimray.recipe import Head

WINDOWS = (7, 6, 8, 5)
"""Sides of windows to choose from, in the order of preference."""


class PatchSplitting(nn.Module):
    """Patch merging step by step reversed: (B, h, w, C) -> (B, h * factor, w * factor, outputs).

    A linear layer gives every position the channels of the `factor`^2 positions that it becomes, a
    norm runs over all of them, and they part.
    """

    def __init__(self, channels: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.expansion = nn.Linear(channels, outputs * factor**2, bias=False)
        self.norm = nn.LayerNorm(outputs * factor**2)

    def forward(self, x: Tensor) -> Tensor:
        batch, rows, columns, _ = x.shape
        x = self.norm(self.expansion(x)).view(batch, rows, columns, self.factor, self.factor, -1)
        return x.transpose(2, 3).reshape(batch, rows * self.factor, columns * self.factor, -1)


class InverseSwin(nn.Module):
    """(B, C, h, w) -> (B, outputs, h * upscale, w * upscale).

    A linear layer to the width of a Swin's last stage; the Swin's stages, last to first, with patch
    splitting between them; a last patch splitting that keeps the channels; a linear layer. `embed`,
    `depths` and `heads` are the Swin's, first stage first.

    Each splitting between stages doubles the grid as long as `upscale` can be halved: a target of low
    resolution has the last stages on one grid. What remains of `upscale` is the last splitting's (4
    from 32). The windows are those of 7, 6, 8 or 5 tokens a side that need the least padding over all
    stages, for equal padding the one named first: 6 for pictures of 192 px, 7 for 224, 8 for 256.
    """

    def __init__(
        self, shape: HeadShape, embed: int, depths: tuple[int, ...], heads: tuple[int, ...]
    ) -> None:
        super().__init__()
        factors = split_factors(shape.upscale, len(depths))
        grids = [shape.grid]
        for factor in factors[:-1]:
            grids.append((grids[-1][0] * factor, grids[-1][1] * factor))
        window = least_padding(grids)
        channels = embed * 2 ** (len(depths) - 1)
        self.projection = nn.Linear(shape.channels, channels)
        self.stages, self.splittings = nn.ModuleList(), nn.ModuleList()
        for grid, factor, depth, count in zip(
            grids, factors, reversed(depths), reversed(heads), strict=True
        ):
            self.stages.append(stage(channels, grid, depth, count, window))
            outputs = max(channels // 2, embed)
            self.splittings.append(PatchSplitting(channels, outputs, factor))
            channels = outputs
        self.prediction = nn.Linear(embed, shape.outputs)
        self.apply(init_as_swin)

    def forward(self, features: Tensor) -> Tensor:
        x = self.projection(features.permute(0, 2, 3, 1))
        for blocks, splitting in zip(self.stages, self.splittings, strict=True):
            x = splitting(blocks(x))
        return self.prediction(x).permute(0, 3, 1, 2)


def split_factors(upscale: int, stages: int) -> list[int]:
    """How much finer each stage's splitting makes the grid, first to last: their product is `upscale`."""
    factors: list[int] = []
    for _ in range(stages - 1):
        factors.append(2 if upscale % 2 == 0 else 1)
        upscale //= factors[-1]
    return [*factors, upscale]


def least_padding(grids: list[tuple[int, int]]) -> int:
    """The window of `WINDOWS` for which the fewest rows and columns are padded over all grids.

    timm shrinks a window to a side that is shorter, which needs no padding.
    """
    sides = [side for grid in grids for side in grid]

    def padding(window: int) -> int:
        return sum(-side % window for side in sides if side > window)

    return min(WINDOWS, key=padding)


def stage(
    channels: int, grid: tuple[int, int], depth: int, heads: int, window: int
) -> nn.Sequential:
    """Swin blocks on one grid; every second one shifts its windows."""
    return nn.Sequential(
        *(
            SwinTransformerBlock(
                channels, grid, heads, window_size=window, shift_size=window // 2 * (block % 2)
            )
            for block in range(depth)
        )
    )


def init_as_swin(module: nn.Module) -> None:
    """Linear layers start from a normal of std 0.02, biases from 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def inverse_swin_tiny(shape: HeadShape, settings: Head) -> nn.Module:
    """The stages of Swin-T: 28.4 M parameters behind 1,024 channels, and the paper's 1.7x the cost."""
    del settings
    return InverseSwin(shape, embed=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24))


def inverse_swin_base(shape: HeadShape, settings: Head) -> nn.Module:
    """The stages of Swin-B: 88.0 M parameters behind 1,024 channels, and the paper's 2.3x the cost."""
    del settings
    return InverseSwin(shape, embed=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32))
