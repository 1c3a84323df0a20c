"""Tiny encoders and the models around them."""

import pytest
import torch

from mimray.downstream.classifier import Classifier
from mimray.mim.build import assemble
from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.encoders.swinv2 import SwinV2Encoder
from mimray.mim.encoders.vit import ViTEncoder
from mimray.mim.targets import build_target
from mimray.recipe import TargetSettings

torch.set_num_threads(1)  # the tensors are small


def swin(size=32, window=2, embed=8, depths=(1, 2), heads=(1, 2), **options):
    return SwinEncoder(size, window, 0.0, embed, depths, heads, **options)


def swinv2(size=32, window=2, embed=8, depths=(1, 2), heads=(1, 2), **options):
    return SwinV2Encoder(size, window, 0.0, embed, depths, heads, **options)


def vit(size=32, embed=8, depth=2, heads=2, patch=8, **options):
    return ViTEncoder(size, 0.0, embed, depth, heads, patch, **options)


ENCODERS = {"swin": swin, "swinv2": swinv2, "vit": vit}


def pretraining(encoder, size=32):
    """The masked image model around an encoder, for square pictures."""
    side = size // encoder.stride
    return assemble(encoder, build_target(TargetSettings(), size), (side, side))


def scramble(model, seed=0):
    """Random weights everywhere, so that nothing is the same by its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(params=ENCODERS)
def build(request):
    """An encoder's builder, of every transformer family."""
    return ENCODERS[request.param]


def classifier(encoder, classes=3):
    return Classifier(encoder, classes)
