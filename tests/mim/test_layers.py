import pytest
import torch

from mimray.mim.encoders import build_encoder
from mimray.mim.encoders.layers import (
    LAST,
    layer_names,
    layer_stages,
    show_layers,
    stage_ends,
)

pytestmark = pytest.mark.unit

STAGES = {
    "vit_nano": [1] * 8,
    "swin_nano": [1, 2, 3, 3, 3, 3],
    "swinv2_nano": [1, 2, 3, 3, 3, 3],
    "resnet_nano": [1, 1, 2, 2, 3, 3],
    "convnext_nano": [1, 2, 3, 3, 4],
    "replknet_nano": [1, 1, 2, 2, 3, 3, 3, 3],  # a large kernel and a feed-forward block in turn
}


@pytest.fixture(params=STAGES)
def name(request):
    return request.param


def built(name):
    torch.manual_seed(0)
    return build_encoder(name, (64, 96)).eval()


def test_layers_are_blocks_by_number_and_the_output(name):
    encoder = built(name)
    names = [f"block {number}" for number in range(1, len(STAGES[name]) + 1)]
    assert layer_names(encoder) == [*names, LAST]
    assert list(layer_stages(encoder).items()) == [
        *zip(names, STAGES[name], strict=True),
        (LAST, STAGES[name][-1]),
    ]


def test_the_last_layers_of_stages_are_the_feature_maps(name):
    encoder = built(name)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    shown = {}
    with torch.no_grad():
        maps = encoder(images)
        show_layers(encoder, images, [LAST, *stage_ends(encoder)], shown.__setitem__)
    assert list(shown) == [*stage_ends(encoder), LAST]  # in the order they run
    *ends, before_norm, last = shown.values()
    assert before_norm.shape == last.shape
    for end, expected in zip([*ends, last], maps, strict=True):
        assert torch.equal(end, expected)
    assert not any(module._forward_hooks for module in encoder.modules())


def test_what_cannot_be_shown_is_refused():
    encoder, images = built("swin_nano"), torch.zeros(1, 3, 64, 96)
    with pytest.raises(ValueError, match=r"layer 'blok 3' is not one .* did you mean block 3"):
        show_layers(encoder, images, ["blok 3"], print)
    with pytest.raises(ValueError, match=r"call its eval\(\) before"):
        show_layers(encoder.train(), images, [LAST], print)
    with pytest.raises(RuntimeError):
        show_layers(encoder.eval(), images[:, :2], ["block 1"], print)
    assert not any(module._forward_hooks for module in encoder.modules())
