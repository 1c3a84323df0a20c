"""Classification: an encoder, the mean over positions, and a linear layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimray.mim.drop_path import random_seeds, use_hashed_drop_path
from mimray.mim.encoders import Encoder
from mimray.mim.learner import Learner


class Classified(NamedTuple):
    """`logits`: (B, classes); `error`: (B,) cross entropies; the loss is their mean."""

    logits: Tensor
    error: Tensor


class Classifier(Learner):
    """Logits of `classes` from the last stage's features.

    An encoder that ends without a norm, as SimMIM's fine-tuned ViT does, gets a fresh one after the
    pooling, and its classifier starts near zero. Sources: SimMIM `models/swin_transformer.py`,
    `models/vision_transformer.py` and `models/build.py`.
    """

    other_forwards = ("logits",)

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        ends_without_norm = isinstance(getattr(encoder, "norm", None), nn.Identity)
        self.fc_norm = (
            nn.LayerNorm(encoder.channels, eps=1e-6) if ends_without_norm else nn.Identity()
        )
        self.classifier = nn.Linear(encoder.channels, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        if encoder.family == "vit":
            self.classifier.weight.data *= 0.001
        self.sample_seeds = use_hashed_drop_path(encoder)

    def pool(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> what the linear layer sees, (B, channels)."""
        return self.fc_norm(self.encoder(images)[-1].mean(dim=(2, 3)))

    def forward(self, images: Tensor, targets: Tensor, seeds: Tensor | None = None) -> Classified:
        """`images`: float32 normalised (B, 3, H, W); `targets`: (B, classes), summing to 1, soft where
        pictures are mixed or labels smoothed; `seeds`: int64 (B,) for drop path, drawn when not given."""
        self.sample_seeds.current = (
            random_seeds(len(images), images.device) if seeds is None else seeds
        )
        logits = self.classifier(self.pool(images)).float()
        return Classified(logits, -(targets * F.log_softmax(logits, dim=1)).sum(dim=1))

    def logits(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits (B, classes)."""
        return self.classifier(self.pool(images))

    def values(self, targets: Tensor) -> Tensor:
        """How many values the loss of each picture runs over: one, int64 (B,)."""
        return torch.ones(len(targets), dtype=torch.int64, device=targets.device)
