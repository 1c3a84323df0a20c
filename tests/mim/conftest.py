"""Tiny models, and the official ones with random weights from ../shared/goldens."""

import pytest
import torch

from mimray.mim.build import assemble as join
from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.targets import build_target
from mimray.recipe import TargetSettings

torch.set_num_threads(1)  # the tensors are small


def assemble(encoder, target="pixels", window=47, size=96):
    settings = TargetSettings(kind=target, window=window)
    side = size // encoder.stride
    return join(encoder, build_target(settings, size), (side, side))


@pytest.fixture
def tiny():
    """A Swin of 32 px, two stages: `tiny(drop_path, target)`."""

    def build(drop_path=0.0, target="pixels", window=5):
        torch.manual_seed(0)
        encoder = SwinEncoder(
            image_size=32, window=2, drop_path=drop_path, embed=8, depths=(1, 1), heads=(1, 2)
        )
        return assemble(encoder, target, window, size=32)

    return build
