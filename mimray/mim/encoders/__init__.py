"""Encoders by name: picture and hidden patches in, a feature map out.

Adding a family adds one file and its lines in `ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from mimray.mim.encoders.swin import swin
from mimray.mim.encoders.swinv2 import swinv2
from mimray.mim.encoders.vit import vit

__all__ = ["ENCODERS", "Encoder", "EncoderSpec", "build_encoder"]


class Encoder(Protocol):
    """What the model asks of an encoder module.

    `patch`: pixels of one token at its input; `stride`: pixels of one position of its output;
    `channels`: of its output. `forward(images (B, 3, H, W), hidden (B, H/patch, W/patch))` returns
    features (B, channels, H/stride, W/stride); a hidden patch enters as the mask token.
    """

    patch: int
    stride: int
    channels: int

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder's builder and the sizes that a recipe is checked against before anything starts."""

    build: Callable[..., nn.Module]
    sizes: dict[str, object]
    default_window: int | None

    @property
    def patch(self) -> int:
        """Pixels of one token at the input."""
        return int(self.sizes.get("patch", 4))  # type: ignore[call-overload]

    @property
    def stride(self) -> int:
        """Pixels of one position of the output: Swin halves the grid between stages."""
        depths = self.sizes.get("depths", ())
        return self.patch * 2 ** max(0, len(depths) - 1)  # type: ignore[arg-type]

    def __call__(self, image_size: int, window: int | None, drop_path: float) -> nn.Module:
        window = window or self.default_window
        return self.build(image_size=image_size, window=window, drop_path=drop_path, **self.sizes)


def _swin(embed: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> dict[str, object]:
    return {"embed": embed, "depths": depths, "heads": heads}


_BASE = _swin(128, (2, 2, 18, 2), (4, 8, 16, 32))
_LARGE = _swin(192, (2, 2, 18, 2), (6, 12, 24, 48))

ENCODERS: dict[str, EncoderSpec] = {
    "swin_nano": EncoderSpec(swin, _swin(32, (1, 1, 4), (2, 4, 8)), 6),
    "swin_tiny": EncoderSpec(swin, _swin(96, (2, 2, 6, 2), (3, 6, 12, 24)), 7),
    "swin_small": EncoderSpec(swin, _swin(96, (2, 2, 18, 2), (3, 6, 12, 24)), 7),
    "swin_base": EncoderSpec(swin, _BASE, 7),
    "swin_large": EncoderSpec(swin, _LARGE, 12),
    "swinv2_nano": EncoderSpec(swinv2, _swin(32, (1, 1, 4), (2, 4, 8)), 6),
    "swinv2_tiny": EncoderSpec(swinv2, _swin(96, (2, 2, 6, 2), (3, 6, 12, 24)), 12),
    "swinv2_small": EncoderSpec(swinv2, _swin(96, (2, 2, 18, 2), (3, 6, 12, 24)), 12),
    "swinv2_base": EncoderSpec(swinv2, _BASE, 12),
    "swinv2_large": EncoderSpec(swinv2, _LARGE, 12),
    "vit_nano": EncoderSpec(vit, {"embed": 144, "depth": 8, "heads": 3, "patch": 8}, None),
    "vit_small": EncoderSpec(vit, {"embed": 384, "depth": 12, "heads": 6, "patch": 16}, None),
    "vit_base": EncoderSpec(vit, {"embed": 768, "depth": 12, "heads": 12, "patch": 16}, None),
    "vit_large": EncoderSpec(vit, {"embed": 1024, "depth": 24, "heads": 16, "patch": 16}, None),
}


def build_encoder(name: str, image_size: int, window: int | None, drop_path: float) -> nn.Module:
    """Build a freshly initialised encoder that satisfies `Encoder`.

    Raises ValueError for an unknown name or an image size that the encoder cannot take.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    return ENCODERS[name](image_size, window, drop_path)
