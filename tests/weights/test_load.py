from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimray import build_model, load_recipe, weights
from mimray.mim.encoders import build_encoder
from tests.weights.conftest import classifier, pretraining, scramble, swin, swinv2, vit

pytestmark = pytest.mark.unit

TABLE = "relative_position_bias_table"
WINDOWS = "encoder.bias_windows"


def state_of(model, prefix=""):
    return {prefix + name: tensor.clone() for name, tensor in model.state_dict().items()}


def holds(model, expected, prefix=""):
    state = state_of(model, prefix)
    return all(torch.equal(state[name], expected[name]) for name in state)


# ----- what fits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["mimray", "official"])
def test_a_whole_model_from_a_file(build, tmp_path, written):
    source, model = scramble(pretraining(build()), 1), scramble(pretraining(build()), 2)
    save_file(weights.FORMATS[written].write(source.state_dict()), tmp_path / "model.safetensors")
    report = weights.load(model, tmp_path / "model.safetensors")
    assert holds(model, state_of(source))
    untold = {WINDOWS} & set(state_of(model)) if written == "official" else set()
    assert set(report.missing) == untold
    assert set(report.matched) | untold == set(state_of(model))
    assert report.resized == report.dropped == {}
    counts = f"{len(report.matched)} matched, 0 resized, 0 dropped, {len(untold)} missing"
    assert str(report).splitlines()[0] == counts


def test_an_encoder_takes_the_encoder(build):
    source, encoder = scramble(pretraining(build()), 1), scramble(build(), 2)
    report = weights.load(encoder, state_of(source))
    assert holds(encoder, state_of(source), "encoder.")
    assert set(report.matched) == set(state_of(encoder, "encoder."))
    assert report.dropped == dict.fromkeys(state_of(source.head, "head."), "the model has no head")


def test_a_classifier_keeps_its_start_where_the_file_has_nothing(build):
    source, model = scramble(pretraining(build()), 1), scramble(classifier(build()), 2)
    before = state_of(model)
    report = weights.load(model, state_of(source))
    assert holds(model.encoder, state_of(source), "encoder.")
    assert holds(model.classifier, before, "classifier.")
    assert report.missing == {
        "classifier.weight": "not in the file",
        "classifier.bias": "not in the file",
    }
    assert str(report).splitlines()[1:] == [
        "  dropped: head.0.weight, head.0.bias: the model has no head",
        "  missing: classifier.weight, classifier.bias: not in the file",
    ]


def test_a_part_of_another_shape_is_left_as_a_whole():
    """A bias of 3 classes would fit, but not without its weights."""
    source, model = scramble(classifier(swin()), 1), scramble(classifier(swin(), classes=5), 2)
    before = state_of(model)
    report = weights.load(model, state_of(source))
    assert holds(model.classifier, before, "classifier.")
    assert report.dropped == {
        "classifier.weight": "the model's classifier is another",
        "classifier.bias": "the model's classifier is another",
    }
    assert report.missing == dict.fromkeys(report.dropped, "the file's classifier is another")


def test_another_head_is_left_and_the_encoder_loaded():
    recipe = load_recipe("demo", ["model.encoder=vit_nano"])
    other = load_recipe("demo", ["model.encoder=vit_nano", "head.kind=mlp"])
    source, model = build_model(recipe), build_model(other)
    report = weights.load(model, state_of(source))
    assert holds(model.encoder, state_of(source), "encoder.")
    assert set(report.missing.values()) == {"the file's head is another"}


def test_numbers_become_the_model_s_type():
    source, encoder = scramble(swin(), 1), scramble(swin(), 2)
    weights.load(encoder, state_of(deepcopy(source).half(), "encoder."))
    assert encoder.norm.weight.dtype == torch.float32
    torch.testing.assert_close(encoder.norm.weight, source.norm.weight.half().float())


def test_what_a_fine_tuned_vit_leaves_out_may_be_missing():
    tuned = scramble(classifier(vit(position="per_block", final_norm=False)), 1)
    given = state_of(tuned)
    del given["encoder.mask_token"]
    encoder = scramble(vit(position="per_block"), 2)
    report = weights.load(encoder, given)
    assert set(report.missing) == {
        "encoder.mask_token",
        "encoder.norm.weight",
        "encoder.norm.bias",
    }
    assert report.dropped["fc_norm.weight"] == "the model has no fc_norm"


def test_an_encoder_of_visible_tokens_has_a_mask_token_of_another_width():
    source = build_encoder("swin_nano", 96)
    encoder = build_encoder("swin_nano", 96, visible=64)
    report = weights.load(encoder, state_of(source, "encoder."))
    shapes = "is (1, 1, 1, 32) in the file and (1, 1, 1, 128) in the model"
    assert report.dropped == report.missing == {"encoder.mask_token": shapes}


def test_running_statistics_are_loaded():
    source, encoder = (scramble(build_encoder("resnet_nano", 32), n) for n in (1, 2))
    source.bn1.running_mean.fill_(3.0)
    weights.load(encoder, state_of(source, "encoder."))
    assert (encoder.bn1.running_mean == 3.0).all()


# ----- what is made to fit ------------------------------------------------------------------------


def test_swin_s_tables_for_another_window():
    """32 px are 8 x 8 tokens and then 4 x 4: windows of 2 become 4, and 5 in 40 px."""
    source = scramble(swin(window=2), 1)
    for size, window in [(32, 4), (40, 5)]:
        encoder = scramble(swin(size=size, window=window), 2)
        report = weights.load(encoder, state_of(source, "encoder."))
        sizes = f"window 2 x 2 -> {window} x {window}"
        tables = [n for n in state_of(encoder, "encoder.") if n.endswith(TABLE)]
        assert report.resized == dict.fromkeys(tables, sizes) and len(tables) == 3
        table = encoder.layers[0].blocks[0].attn.relative_position_bias_table
        given = source.layers[0].blocks[0].attn.relative_position_bias_table
        expected = weights.remap.resize_table(given, (2, 2), (window, window))
        torch.testing.assert_close(table, expected)
        assert set(report.matched) | set(tables) == set(state_of(encoder, "encoder."))


def test_rectangular_windows():
    """A window is cut at the picture's edge: 4 x 6 of 4 x 8 tokens, and then 2 x 4."""
    source = scramble(swin(size=64, window=4), 1)
    wide, wider = (scramble(swin(size=(16, w), window=6), 2) for w in (32, 64))
    report = weights.load(wide, state_of(source, "encoder."))
    assert sorted({*report.resized.values()}) == ["window 4 x 4 -> 2 x 4", "window 4 x 4 -> 4 x 6"]
    report = weights.load(wider, state_of(wide, "encoder."))
    assert {*report.resized.values()} == {"window 2 x 4 -> 2 x 6"}
    with pytest.raises(ValueError, match=r"is \(77, 1\) in the file and \(49, 1\) in the model"):
        weights.load(source, state_of(wide, "encoder."))  # 4 x 6 or 6 x 4: it does not tell


def test_a_vit_s_shared_table_goes_into_every_block():
    source = scramble(vit(size=32), 1)
    shared = source.rel_pos_bias.relative_position_bias_table
    for size, how in [(32, ""), (48, "grid 4 x 4 -> 6 x 6, ")]:
        encoder = scramble(vit(size=size, position="per_block", final_norm=False), 2)
        report = weights.load(encoder, state_of(source, "encoder."))
        reason = f"{how}from the table that all blocks share"
        assert report.resized == {f"encoder.blocks.{n}.attn.{TABLE}": reason for n in (0, 1)}
        assert report.dropped == {
            "encoder.norm.weight": "the model has none",
            "encoder.norm.bias": "the model has none",
        }
        tables = [block.attn.relative_position_bias_table for block in encoder.blocks]
        assert all(torch.equal(table[-3:], shared[-3:]) for table in tables)
        if not how:
            assert all(torch.equal(table, shared) for table in tables)


def test_a_vit_s_shared_table_for_another_grid():
    encoder = vit(size=48)
    report = weights.load(encoder, state_of(scramble(vit(size=32)), "encoder."))
    assert report.resized == {f"encoder.rel_pos_bias.{TABLE}": "grid 4 x 4 -> 6 x 6"}


@pytest.mark.parametrize(("size", "grid"), [(48, "6 x 6"), ((24, 40), "3 x 5")])
def test_absolute_positions_for_another_grid(size, grid):
    source = scramble(vit(size=32, position="absolute"), 1)
    encoder = scramble(vit(size=size, position="absolute"), 2)
    report = weights.load(encoder, state_of(source, "encoder."))
    assert report.resized == {"encoder.pos_embed": f"grid 4 x 4 -> {grid}"}
    assert torch.equal(encoder.pos_embed[:, 0], source.pos_embed[:, 0])
    rows, columns = encoder.patch_embed.grid_size
    expected = weights.remap.resize_embedding(source.pos_embed, (4, 4), (rows, columns))
    torch.testing.assert_close(encoder.pos_embed, expected)


def test_a_rectangular_grid_is_told_by_the_model_s():
    source = scramble(vit(size=(24, 40), position="absolute"), 1)
    encoder = vit(size=(40, 64), position="absolute")
    report = weights.load(encoder, state_of(source, "encoder."))
    assert report.resized == {"encoder.pos_embed": "grid 3 x 5 -> 5 x 8"}


# ----- what does not ------------------------------------------------------------------------------

# 8 channels, blocks (1, 2), heads (1, 2), and where they differ
OTHERS = [
    (
        swin(embed=16),
        "embed 16, depths 1,2",
        "patch_embed.proj.weight is (16, 3, 4, 4) in the file",
    ),
    (swin(depths=(1, 3)), "depths 1,3", "only the file has encoder.layers.1.blocks.2.norm1.weight"),
    (
        swin(depths=(1, 1)),
        "depths 1,1",
        "only the model has encoder.layers.1.blocks.1.norm1.weight",
    ),
    (
        swin(heads=(2, 2)),
        "heads 2,2",
        f"attn.{TABLE} is (9, 2) in the file and (9, 1) in the model",
    ),
    (swin(patch=2), "patch 2", "proj.weight is (8, 3, 2, 2) in the file and (8, 3, 4, 4) in the"),
    (
        swinv2(),
        "of swinv2: embed 8, depths 1,2",
        "only the file has encoder.layers.0.blocks.0.attn",
    ),
    (vit(), "of vit: embed 8, depths 2, heads 2", "only the file has encoder.cls_token"),
    (build_encoder("resnet_nano", 32), "of resnet: embed 32, depths 2,2,2 (resnet_nano)", "conv1"),
]


@pytest.mark.parametrize(("other", "looks", "differs"), OTHERS)
def test_another_architecture_is_refused_with_what_differs(other, looks, differs):
    encoder = scramble(swin(), 1)
    before = state_of(encoder, "encoder.")
    with pytest.raises(ValueError) as caught:
        weights.load(encoder, state_of(other, "encoder."))
    line = str(caught.value)
    assert line.startswith("the given weights: ") and "\n" not in line
    assert looks in line and differs in line
    assert "the model is swin: embed 8, depths 1,2, heads 1,2, patch 4, windows 2,2" in line
    assert holds(encoder, before, "encoder.")


def test_one_position_is_not_taken_for_another():
    with pytest.raises(ValueError, match=r"position absolute; the model is .* position shared"):
        weights.load(vit(), state_of(vit(position="absolute"), "encoder."))


def test_positions_of_no_grid_are_refused():
    """Too few for a grid, and as many as a rectangle has that nobody knows."""
    encoder = vit(position="absolute")
    for count in (1, 1 + 15):
        given = state_of(encoder, "encoder.") | {"encoder.pos_embed": torch.zeros(1, count, 8)}
        with pytest.raises(ValueError, match=rf"pos_embed is \(1, {count}, 8\) in the file"):
            weights.load(encoder, given)


def test_an_encoder_in_part_is_refused():
    given = state_of(swin(), "encoder.")
    del given["encoder.layers.1.blocks.0.norm2.bias"]
    with pytest.raises(
        ValueError, match=r"of another model: only the model has encoder.layers.1.b"
    ):
        weights.load(swin(), given)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused_unless_allowed(tmp_path, bad):
    source, model = scramble(swin(), 1), scramble(swin(), 2)
    source.layers[0].blocks[0].mlp.fc1.weight.data[3, 4] = bad
    save_file(state_of(source, "encoder."), tmp_path / "weights")
    before = state_of(model)
    with pytest.raises(ValueError) as caught:
        weights.load(model, tmp_path / "weights")
    assert str(caught.value) == (
        f"{tmp_path}/weights: encoder.layers.0.blocks.0.mlp.fc1.weight holds NaN or infinity (1 of "
        "256), as a run that diverged leaves them; take an earlier checkpoint "
        "(in Python, allow_nan=True loads it)"
    )
    assert holds(model, before)
    weights.load(model, tmp_path / "weights", allow_nan=True)
    assert not model.layers[0].blocks[0].mlp.fc1.weight.isfinite().all()


def test_weights_that_are_not_used_need_not_be_finite():
    source = scramble(pretraining(swin()), 1)
    source.head[0].weight.data.fill_(torch.nan)
    weights.load(swin(), state_of(source))


def test_a_model_without_an_encoder_is_refused():
    with pytest.raises(ValueError, match="Linear is no Encoder and has none"):
        weights.load(nn.Linear(1, 1), {"weight": torch.zeros(1, 1)})


def test_a_file_that_nobody_knows_is_named(tmp_path):
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg.safetensors")
    with pytest.raises(ValueError, match=r"vgg.safetensors: the names of the weights \(features"):
        weights.load(swin(), tmp_path / "vgg.safetensors")
