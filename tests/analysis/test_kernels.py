import math

import pytest
import torch

from mimray.analysis.kernels import kernel_locality, mean_distance
from mimray.mim.encoders import build_encoder

pytestmark = pytest.mark.unit

torch.set_num_threads(1)


def built(name):
    torch.manual_seed(0)
    return build_encoder(name, 96).eval()


def column(rows, key):
    return [row[key] for row in rows]


def test_distances_in_closed_form():
    kernel = torch.zeros(4, 2, 3, 3)
    kernel[0, 0], kernel[0, 1] = -1, 1  # signs do not matter
    kernel[1, :, 1, 1] = 5
    kernel[2, 0, 0, 0], kernel[2, 1, 1, 0] = 3, 1  # inputs count as their weights are large
    kernel[3, 1, 2, 1] = 1e-3
    corner = 2**0.5
    expected = [(4 + 4 * corner) / 9, 0, (3 * corner + 1) / 4, 1]
    assert mean_distance(kernel).tolist() == pytest.approx(expected)
    assert mean_distance(torch.ones(1, 1, 2, 2)).item() == pytest.approx(0.5**0.5)
    assert mean_distance(torch.zeros(1, 1, 3, 3)).isnan().all()


def test_taps_are_as_far_apart_as_the_positions_that_they_meet():
    rows = kernel_locality(built("resnet_nano"))
    assert column(rows, "index") == list(range(1, 8))
    assert column(rows, "layer") == ["conv1"] + [
        f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in (0, 1)
    ]
    assert column(rows, "stage") == [None, 1, 1, 2, 2, 3, 3]
    assert column(rows, "kernel") == [7, 3, 3, 3, 3, 3, 3]
    assert column(rows, "tap_px") == [1, 4, 4, 4, 8, 8, 16]
    rows = kernel_locality(built("convnext_nano"))
    assert column(rows, "stage") == [None, 1, None, 2, None, 3, 3, None, 4]
    assert column(rows, "kernel") == [4, 7, 2, 7, 2, 7, 7, 2, 7]
    assert column(rows, "tap_px") == [1, 4, 4, 8, 8, 16, 16, 16, 32]
    assert column(rows, "uniform_px")[4] == pytest.approx(8 * 0.5**0.5)


def test_a_kernel_s_own_weights_are_measured():
    encoder = built("convnext_nano")
    conv = encoder.stages[2].blocks[0].conv_dw
    with torch.no_grad():
        conv.weight.fill_(1)
        conv.weight[1:].zero_()
        conv.weight[1:, 0, 3, 6] = -2  # three positions of 16 pixels from the centre
    row = kernel_locality(encoder)[5]
    assert row["layer"] == "stages.2.blocks.0.conv_dw"
    channels = len(conv.weight)
    expected = (row["uniform_px"] + 48 * (channels - 1)) / channels
    assert row["distance_px"] == pytest.approx(expected)


def test_a_large_kernel_is_measured_with_its_branch():
    encoder = built("replknet_nano")
    generator = torch.Generator().manual_seed(1)
    for tensor in [*encoder.parameters(), *encoder.buffers()]:
        if tensor.is_floating_point():
            tensor.data += 0.5 * torch.rand(tensor.shape, generator=generator)
    rows = kernel_locality(encoder)
    large = [row for row in rows if row["stage"]]
    assert column(large, "kernel") == [13, 9, 7, 7]
    assert column(large, "tap_px") == [4, 8, 16, 16]
    assert all(
        row["distance_px"] < row["uniform_px"] for row in large
    )  # the branch is in the middle
    encoder.merge()
    merged = kernel_locality(encoder)
    for key in ("layer", "stage", "kernel", "tap_px"):
        assert column(merged, key) == column(rows, key)
    distances = column(rows, "distance_px")
    assert column(merged, "distance_px") == pytest.approx(distances, rel=1e-6)


@pytest.mark.parametrize("family", ["vit", "swin", "swinv2"])
def test_encoders_of_attention_are_refused(family):
    with pytest.raises(ValueError, match=f"a {family} has no kernels .* its attention"):
        kernel_locality(built(f"{family}_nano"))


def test_nothing_is_left_behind():
    encoder = built("replknet_nano")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    kernel_locality(encoder)
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    assert not any(module._forward_pre_hooks for module in encoder.modules())
    with pytest.raises(ValueError, match=r"call its eval\(\) before"):
        kernel_locality(encoder.train())


def test_weights_that_are_not_finite_are_refused():
    encoder = build_encoder("resnet_nano", 64).eval()
    with torch.no_grad():
        next(m for m in encoder.layer2.modules() if isinstance(m, torch.nn.Conv2d)).weight[3] = (
            math.nan
        )
    with pytest.raises(ValueError, match=r"weights of layer2.* are not finite; has the checkpoint"):
        kernel_locality(encoder)
