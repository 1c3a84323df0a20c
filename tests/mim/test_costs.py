"""Operations against formulas by hand, and against the project's table of published models."""

import pytest
import torch

from mimray.mim import costs
from mimray.mim.costs import count_flops, matrix_rate
from mimray.mim.encoders import ENCODERS
from mimray.mim.memory_estimate import estimate_memory
from mimray.recipe import Recipe, load_recipe
from tests.mim.target_files import settings_of

unit, slow = pytest.mark.unit, pytest.mark.slow


def recipe(encoder="swin_nano", size=96, unit=32, **sections):
    return Recipe.model_validate(
        {
            "model": {"encoder": encoder, "image_size": size, **sections.pop("model", {})},
            "mask": {"unit": unit, "ratio": 0.5},
            "optim": {"batch": 4},
            **sections,
        }
    )


@unit
def test_a_vit_by_hand():
    """Two operations a multiplication; backward twice forward, but for the pictures' own gradient."""
    sizes = ENCODERS["vit_nano"].sizes
    width, depth, patch = sizes["embed"], sizes["depth"], sizes["patch"]
    places = (64 // patch) ** 2
    tokens = places + 1  # the class token
    embedding = 2 * places * 3 * patch**2 * width
    block = 2 * tokens * width * (3 + 1 + 4 + 4) * width + 2 * 2 * tokens**2 * width
    head = 2 * places * width * 3 * patch**2
    flops = count_flops(recipe("vit_nano", size=64, unit=32))
    assert flops.forward == embedding + depth * block + head
    assert flops.training == 3 * flops.forward - embedding


@unit
@pytest.mark.parametrize(
    ("name", "encoder_gflop", "training_gflop"),
    [("swinv2_base_800ep", 23.71, 71.8), ("vit_base_800ep", 35.13, 106.1)],
)
def test_published_models(name, encoder_gflop, training_gflop):
    """The table counts timm's encoders, forward without the head and training with it."""
    flops = count_flops(load_recipe(name, []))
    assert flops.forward / 1e9 == pytest.approx(encoder_gflop, rel=0.02)
    assert flops.training / 1e9 == pytest.approx(training_gflop, rel=0.02)


@unit
@pytest.mark.parametrize("encoder", ["convnext_nano", "replknet_nano", "resnet_nano"])
def test_convolutions_of_groups(encoder):
    """The weight's gradient of a depthwise convolution costs what its forward pass costs."""
    flops = count_flops(recipe(encoder))
    assert 2.8 < flops.training / flops.forward <= 3


@unit
def test_hidden_tokens_that_are_skipped_cost_nothing():
    head = {"kind": "transformer"}
    dense = count_flops(recipe("vit_small", 96, head=head))
    visible = count_flops(recipe("vit_small", 96, head=head, model={"visible_only": True}))
    assert visible.forward < 0.8 * dense.forward


@unit
def test_what_is_computed_again_counts_once():
    plain = count_flops(recipe())
    assert count_flops(recipe(speed={"checkpoint_stages": [1, 2]})) == plain


@unit
def test_what_a_micro_batch_needs_once_is_shared():
    """SwinV2 computes its position bias once a forward pass."""
    one, many = (
        count_flops(recipe("swinv2_nano", speed={"micro_batch": n})).forward for n in (1, 4)
    )
    assert many < one


@unit
@pytest.mark.parametrize("kind", ["windowed", "bins", "clusters", "tokens", "hog"])
def test_every_kind_of_target(kind, tmp_path):
    target = settings_of(kind, tmp_path).model_dump()
    flops = count_flops(recipe(target=target))
    assert 2 < flops.training / flops.forward <= 3


@pytest.mark.parametrize(
    "encoder", [pytest.param(e, marks=unit if e.endswith("nano") else slow) for e in ENCODERS]
)
def test_every_encoder(encoder):
    asked = recipe(encoder, 224)
    flops = count_flops(asked)
    assert 2.5 < flops.training / flops.forward <= 3
    assert estimate_memory(asked, torch.device("cpu"), bf16=True).activations > 0


@unit
@pytest.mark.parametrize(
    ("speed", "count"),
    [({}, 128), ({"workers": 4}, 50), ({"micro_batch": 7}, 7), ({"workers": [1, 400]}, 1)],
)
def test_micro_batches(speed, count):
    asked = recipe(optim={"batch": 200}, speed=speed)
    assert asked.micro_batch(asked.speed.most_workers) == count


@unit
def test_the_rate_is_that_of_the_quickest_product(monkeypatch):
    times = iter([3.0, 2.0, *[4.0] * 8])
    monkeypatch.setitem(costs._SIDE, "cpu", 8)
    monkeypatch.setattr(costs, "_seconds", lambda a, b: next(times))
    assert matrix_rate(torch.device("cpu"), bf16=False) == 2 * 8**3 / 2.0
