"""The masked image model: encoder, head, target, and the loss on hidden pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mimray.mim.drop_path import random_seeds, use_hashed_drop_path
from mimray.mim.masks import to_pixels
from mimray.mim.targets import Target


class MimOutput(NamedTuple):
    """`loss`: scalar; `prediction`: (B, 3, H, W) in target space; `features`: (B, C, h, w);
    `error`: (B,) absolute error summed over hidden pixels and channels; `hidden_values`: (B,) how
    many values that sum runs over, so loss = error.sum() / hidden_values.sum()."""

    loss: Tensor
    prediction: Tensor
    features: Tensor
    error: Tensor
    hidden_values: Tensor


class MaskedImageModel(nn.Module):
    """SimMIM (section 3): hide patches, encode all tokens, predict the hidden pixels, masked L1.

    `encoder` satisfies `mimray.mim.encoders.Encoder`.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, target: Target) -> None:
        super().__init__()
        self.encoder, self.head, self.target = encoder, head, target
        self.sample_seeds = use_hashed_drop_path(encoder)

    @property
    def patch(self) -> int:
        """Pixels of one token at the encoder's input; `hidden` lies on this grid."""
        return int(self.encoder.patch)  # type: ignore[arg-type]

    def forward(self, images: Tensor, hidden: Tensor, seeds: Tensor | None = None) -> MimOutput:
        """`images`: float32 normalised (B, 3, H, W); `hidden`: bool (B, H/patch, W/patch);
        `seeds`: int64 (B,) for drop path, drawn when not given."""
        self.sample_seeds.current = (
            random_seeds(len(images), images.device) if seeds is None else seeds
        )
        features = self.encoder(images, hidden)
        prediction = self.head(features).float()
        error, values = masked_l1(prediction, self.target(images), to_pixels(hidden, self.patch))
        return MimOutput(error.sum() / values.sum(), prediction, features, error, values)


def masked_l1(prediction: Tensor, target: Tensor, hidden_pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Per sample: (summed |prediction - target| over hidden values, their count), each (B,).

    The mean of these over a batch is SimMIM's loss (section 3.4, `models/simmim.py`, whose 1e-5 in
    the denominator only guards an empty mask).
    """
    weight = hidden_pixels[:, None].to(prediction.dtype)
    error = ((prediction - target).abs() * weight).sum(dim=(1, 2, 3))
    return error, hidden_pixels.sum(dim=(1, 2)) * target.shape[1]


IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> contiguous float32, by ImageNet's mean and standard deviation."""
    mean = torch.tensor(IMAGE_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=images.device).view(3, 1, 1)
    return (images.contiguous().float() / 255.0 - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`: float (B, 3, H, W) -> uint8, clipped to what a screen shows."""
    mean = torch.tensor(IMAGE_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=images.device).view(3, 1, 1)
    return ((images.float() * std + mean) * 255.0).round().clamp(0, 255).to(torch.uint8)
