"""Mixup and CutMix whose draws are a hash of the pair, and label smoothing.

timm mixes a batch with itself reversed, so a picture's partner would change with the micro-batch. Here
the partners are the neighbours 2k and 2k + 1 of the global batch, which the plan keeps together
(`mimray.data.plan`), so the pictures are the same however the batch is cut and dealt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mimray.hashing import Purpose, key, uniform

_SWITCH = 0.5  # share of CutMix where both are on


@dataclass(frozen=True)
class Mixing:
    """`mixup`, `cutmix`: alpha of the Beta distribution that the shares come from, 0 for none of it;
    where both are on, either half of the time. `smoothing`: probability spread over all `classes`.

    Sources: mixup (Zhang et al., 2018), CutMix (Yun et al., 2019); distributions as timm
    `data/mixup.py` draws them for each pair. The defaults are SimMIM's for fine-tuning.
    """

    classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1

    def __call__(
        self, images: Tensor, labels: Tensor, seeds: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mix each picture with its neighbour, which gets the same share of it in return.

        `images`: normalised (B, 3, H, W); `labels`, `seeds`: int64 (B,); `weight`: (B,), 0 for padding
        and for pictures that cannot be read. What has no neighbour, or one of weight 0, stays as it is.
        Returns images and float32 targets (B, classes), whose rows sum to 1. Never waits for the device.
        """
        label = labels[:, None] == torch.arange(self.classes, device=labels.device)
        share = label.to(torch.float32)
        if self.mixup or self.cutmix:
            places = torch.arange(len(images), device=images.device)
            neighbour = (places ^ 1).clamp(max=len(images) - 1)  # the last one's may be itself
            mixes = (neighbour != places) & (weight[neighbour] > 0)
            kept = self._kept(seeds[places & ~1], images.shape[-2], images.shape[-1])
            kept = torch.where(mixes[:, None, None], kept, 1.0)
            weights = kept[:, None].to(images.dtype)
            images = torch.lerp(images[neighbour], images, weights)
            own = kept.mean(dim=(1, 2), dtype=torch.float64)[:, None].float()
            share = torch.lerp(share[neighbour], share, own)
        return images, (1.0 - self.smoothing) * share + self.smoothing / self.classes

    def _kept(self, seeds: Tensor, height: int, width: int) -> Tensor:
        """How much of a picture stays at each pixel: float32 (B, H, W)."""
        draws = torch.arange(5, device=seeds.device)
        switch, first, second, y, x = uniform(key(Purpose.MIX, seeds[:, None], draws)).unbind(1)
        if self.mixup:
            everywhere = beta(self.mixup, first, second).float()
            everywhere = everywhere[:, None, None].expand(-1, height, width)
        if self.cutmix:
            outside = (~box(beta(self.cutmix, first, second), y, x, height, width)).float()
        if self.mixup and self.cutmix:
            return torch.where((switch < _SWITCH)[:, None, None], outside, everywhere)
        return outside if self.cutmix else everywhere


def beta(alpha: float, first: Tensor, second: Tensor) -> Tensor:
    """Beta(alpha, alpha) from two uniforms in [0, 1), in closed form, so on any device.

    Student's t of 2 alpha degrees of freedom by the polar method (Bailey, 1994), and from it the beta
    (Devroye, Random variate generation in one line of code, 1996).
    """
    power = (1.0 - first) ** (1.0 / alpha)
    cosine = torch.cos(2.0 * math.pi * second)
    spread = (1.0 - power).sqrt() * cosine
    return 0.5 + 0.5 * spread / (power + spread * spread).sqrt()


def box(share: Tensor, y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """CutMix's rectangle: bool (B, H, W), of area 1 - `share` before the border cuts it; its centre lies
    at (`y`, `x`) in [0, 1)."""
    side = (1.0 - share).sqrt()
    rows = _span(side, y, height)
    columns = _span(side, x, width)
    return rows[:, :, None] & columns[:, None, :]


def _span(side: Tensor, centre: Tensor, length: int) -> Tensor:
    """True from the centre's cell minus half of the side on: bool (B, length)."""
    cut = (side * length).floor().long()
    middle = (centre * length).floor().long()
    places = torch.arange(length, device=side.device)
    start, end = middle - cut // 2, middle + (cut + 1) // 2
    return (places >= start[:, None]) & (places < end[:, None])
