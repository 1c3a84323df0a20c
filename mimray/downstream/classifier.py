"""Classification: an encoder, the mean over positions, and a linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from mimray.mim.encoders import Encoder


class Classifier(nn.Module):
    """Logits of `classes` from the last stage's features.

    An encoder that ends without a norm, as SimMIM's fine-tuned ViT does, gets a fresh one after the
    pooling, and its classifier starts near zero. Sources: SimMIM `models/swin_transformer.py`,
    `models/vision_transformer.py` and `models/build.py`.
    """

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

    def pool(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> what the linear layer sees, (B, channels)."""
        return self.fc_norm(self.encoder(images)[-1].mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits (B, classes)."""
        return self.classifier(self.pool(images))
