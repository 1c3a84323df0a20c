"""The masked image model: encoder, head, target, and the loss where the picture is hidden."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mimray.mim.drop_path import random_seeds, use_hashed_drop_path
from mimray.mim.encoders import Encoder
from mimray.mim.learner import Learner
from mimray.mim.targets import Target


class MimOutput(NamedTuple):
    """`loss`: scalar; `prediction`: (B, outputs, h', w') in target space; `features`: (B, C, h, w) of
    the last stage; `error`: (B,) summed over the values that the loss asks for; `values`: (B,) how
    many these are, so loss = error.sum() / values.sum()."""

    loss: Tensor
    prediction: Tensor
    features: Tensor
    error: Tensor
    values: Tensor


class MaskedImageModel(Learner):
    """SimMIM (section 3): hide patches, encode, predict, and compare where the picture is hidden.

    With `whole_picture` the training loss runs over visible places too (the paper's ablation, and
    worse). In evaluation it never does, so that held-out losses compare.
    """

    def __init__(
        self, encoder: Encoder, head: nn.Module, target: Target, whole_picture: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.target = encoder, head, target
        self.whole_picture = whole_picture
        self.sample_seeds = use_hashed_drop_path(encoder)

    @property
    def patch(self) -> int:
        """Pixels of one token at the encoder's input; `hidden` lies on this grid."""
        return self.encoder.patch

    def forward(self, images: Tensor, hidden: Tensor, seeds: Tensor | None = None) -> MimOutput:
        """`images`: float32 normalised (B, 3, H, W); `hidden`: bool (B, H/patch, W/patch);
        `seeds`: int64 (B,) for drop path, drawn when not given."""
        self.sample_seeds.current = (
            random_seeds(len(images), images.device) if seeds is None else seeds
        )
        features = self.encoder(images, hidden)[-1]
        prediction = self.head(features).float()
        errors = self.target.error(prediction, self.target(images))
        error = (errors * self.asked(hidden).to(errors.dtype)).sum(dim=(1, 2))
        values = self.values(hidden)
        return MimOutput(error.sum() / values.sum(), prediction, features, error, values)

    def asked(self, hidden: Tensor) -> Tensor:
        """Where the loss compares: bool (B, h', w') on the target's grid."""
        region = self.target.region(hidden, self.patch)
        return torch.ones_like(region) if self.whole_picture and self.training else region

    def values(self, hidden: Tensor) -> Tensor:
        """How many values the loss of each sample runs over: int64 (B,)."""
        return self.asked(hidden).sum(dim=(1, 2)) * self.target.values
