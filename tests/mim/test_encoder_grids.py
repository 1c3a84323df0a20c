"""Every encoder that is offered: patch, stride and the shape of its features, without computing."""

import pytest
import torch

from mimray.mim.encoders import ENCODERS, build_encoder


def cases():
    """One of each family in the unit tier, its sizes in the slow one."""
    seen = set()
    for name, spec in ENCODERS.items():
        tier = pytest.mark.slow if spec.family in seen else pytest.mark.unit
        yield pytest.param(name, marks=tier)
        seen.add(spec.family)


@pytest.mark.parametrize("name", cases())
def test_features_lie_on_the_grid_that_the_specification_promises(name):
    spec = ENCODERS[name]
    size = 96 if 96 % spec.stride == 0 else 7 * spec.stride
    with torch.device("meta"):
        encoder = build_encoder(name, size, None, 0.1)
    assert (encoder.patch, encoder.stride) == (spec.patch, spec.stride)
    side = size // spec.patch
    images = torch.empty(2, 3, size, size, device="meta")
    features = encoder(images, torch.empty(2, side, side, device="meta", dtype=torch.bool))
    shapes = [
        (2, width, size // stride, size // stride)
        for width, stride in zip(encoder.widths, encoder.strides, strict=True)
    ]
    assert [tuple(f.shape) for f in features] == shapes
