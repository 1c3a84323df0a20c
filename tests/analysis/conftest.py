"""Tiny encoders of each family, none of whose parameters hides a part of what is measured."""

import pytest
import torch

from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.encoders.swinv2 import SwinV2Encoder
from mimray.mim.encoders.vit import ViTEncoder

torch.set_num_threads(1)  # the tensors are small


@pytest.fixture
def tiny():
    """`tiny(kind, image_size)`: kind is swin, swinv2 (two stages of patch 4, windows of 4, the second
    block of each shifted where its grid is larger) or a position of the ViT's (patch 8)."""

    def build(kind, image_size=32):
        torch.manual_seed(0)
        if kind in ("swin", "swinv2"):
            family = {"swin": SwinEncoder, "swinv2": SwinV2Encoder}[kind]
            encoder = family(image_size, 4, 0.0, embed=8, depths=(2, 2), heads=(2, 4))
        else:
            encoder = ViTEncoder(
                image_size, 0.0, embed=24, depth=3, heads=3, patch=8, position=kind
            )
        with torch.no_grad():  # the tables of biases and SwinV2's norms start at 0
            for parameter in encoder.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return encoder.eval()

    return build
