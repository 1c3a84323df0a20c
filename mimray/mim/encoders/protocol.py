"""What every encoder offers, and how one is described before it is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

ImageSize = int | tuple[int, int]
"""Side of a square picture, or (height, width), pixels."""


class Encoder(nn.Module, ABC):
    """Tokens in, the features of every stage out. A family subclasses it, then its timm class.

    `family`: which of the families below; `patch`: pixels of one token at the input; `strides`,
    `widths`, `depths`: of every stage's output pixels of one position, channels, and blocks.
    `mask_token`: what stands where a token is hidden, its last dimension is the tokens' width.
    """

    family: str
    patch: int
    strides: tuple[int, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    mask_token: nn.Parameter

    @property
    def stride(self) -> int:
        """Pixels of one position of the last stage's output."""
        return self.strides[-1]

    @property
    def channels(self) -> int:
        """Channels of the last stage's output."""
        return self.widths[-1]

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """The patch embedding: (B, 3, H, W) -> (B, H/patch, W/patch, width)."""

    @abstractmethod
    def feature_maps(self, tokens: Tensor) -> list[Tensor]:
        """Every stage's features, (B, widths[i], H/strides[i], W/strides[i]); the last is normed."""

    @abstractmethod
    def stage_blocks(self) -> list[list[nn.Module]]:
        """The blocks of every stage (a ViT is one), each called as a module on what the one before it
        gave."""

    def embed(self, images: Tensor, hidden: Tensor | None) -> Tensor:
        """Tokens, the mask token in place of hidden ones (SimMIM, section 3.2)."""
        tokens = self.tokens(images)
        if hidden is None:
            return tokens
        token = self.mask_token.to(tokens.dtype).view(1, 1, 1, -1)
        return torch.where(hidden[..., None], token, tokens)

    def forward(self, images: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
        """`images`: float32 normalised (B, 3, H, W); `hidden`: bool (B, H/patch, W/patch), or nothing
        hidden. Returns what `feature_maps` does."""
        return self.feature_maps(self.embed(images, hidden))


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder's builder, and the sizes that a recipe is checked against before anything starts.

    `build(drop_path=..., **sizes)` makes it, with those of `build_encoder`'s arguments besides that it
    `takes`; `finetune`: what is built differently once it is fine-tuned; `window`: its own, where it has
    windows; `visible_only`: the builder of the variant that skips hidden tokens, `build` with the count
    of visible tokens besides.
    """

    family: str
    build: Callable[..., Encoder]
    sizes: Mapping[str, Any]
    takes: tuple[str, ...] = ()
    window: int | None = None
    finetune: Mapping[str, Any] = field(default_factory=dict)
    visible_only: Callable[..., Encoder] | None = None

    @property
    def patch(self) -> int:
        """Pixels of one token at the input."""
        return int(self.sizes.get("patch", 4))

    @property
    def stride(self) -> int:
        """Pixels of one position of the output: the grid is halved between stages."""
        return int(self.patch * 2 ** max(0, len(self.sizes.get("depths", ())) - 1))

    @property
    def batch_norm(self) -> bool:
        """Whether a picture's features depend on the others of its micro-batch."""
        return self.family in ("resnet", "replknet")
