"""SwinV2's position bias: weights learned at one window are not taken for those of another."""

import pytest
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2

from mimray import weights
from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.weights import FORMATS
from mimray.weights.bias_windows import NAME, from_coordinates
from mimray.weights.formats.huggingface_config import config
from tests.weights.conftest import classifier, pretraining, scramble, swin, swinv2

pytestmark = pytest.mark.unit


def state_of(model, prefix=""):
    return {prefix + name: tensor.clone() for name, tensor in model.state_dict().items()}


def with_coordinates(model, written):
    """A file's weights, with the coordinates that older files hold, as the model scales them."""
    tables = {
        f"encoder.layers.{s}.blocks.{b}.attn.relative_coords_table": block.attn.relative_coords_table
        for s, stage in enumerate(model.encoder.layers)
        for b, block in enumerate(stage.blocks)
    }
    return written | tables


# ----- what an encoder says -----------------------------------------------------------------------


def test_windows_are_the_encoder_s_own_unless_it_is_given_others():
    """40 px are 10 x 10 tokens and then 5 x 5, which cut a window of 8 to 5."""
    assert swinv2(size=40, window=8).bias_windows.tolist() == [[8, 8], [5, 5]]
    given = swinv2(size=40, window=8, pretrained_windows=(12, 6))
    assert given.bias_windows.tolist() == [[12, 12], [6, 6]]
    one = swinv2(size=40, window=8, pretrained_windows=(0, 6))
    assert one.bias_windows.tolist() == [[8, 8], [6, 6]]


def test_a_window_of_one_token_scales_nothing():
    assert swinv2(size=8, window=2).bias_windows.tolist() == [[2, 2], [0, 0]]


def test_of_visible_tokens_only_too():
    windows = build_encoder("swinv2_nano", 96, visible=64, pretrained_windows=(4, 4, 2))
    assert windows.bias_windows.tolist() == [[4, 4], [4, 4], [2, 2]]


def test_an_encoder_on_no_device_knows_them():
    with torch.device("meta"):
        assert swinv2(window=4).bias_windows.tolist() == [[4, 4], [4, 4]]


def test_only_swinv2_has_them():
    for family in {spec.family for spec in ENCODERS.values()}:
        name = next(n for n, spec in ENCODERS.items() if spec.family == family)
        with torch.device("meta"):
            held = "bias_windows" in build_encoder(name, 224).state_dict()
        assert held == (family == "swinv2")


# ----- what coordinates say -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("learned", [None, 2, 3, 7, 12, 24, 48])
@pytest.mark.parametrize("window", [2, 5, 8, 16, 24])
def test_coordinates_tell_the_window(window, learned, dtype):
    """`learned` of half the picture's window, for the second stage."""
    pretrained = None if learned is None else (learned, max(2, learned // 2))
    model = swinv2(size=8 * window, window=window, pretrained_windows=pretrained)
    tables = {
        f"anything.layers.{s}.blocks.0.x.relative_coords_table": (
            stage.blocks[0].attn.relative_coords_table.to(dtype)
        )
        for s, stage in enumerate(model.layers)
    }
    assert from_coordinates(tables)[NAME].tolist() == model.bias_windows.tolist()


@pytest.mark.parametrize(
    ("pretrained", "windows"), [(None, [[4, 8], [2, 8]]), (((5, 3), (6, 4)), [[5, 3], [6, 4]])]
)
def test_a_rectangle_s_rows_and_columns(pretrained, windows):
    model = swinv2(size=(16, 64), window=8, pretrained_windows=pretrained)
    assert model.bias_windows.tolist() == windows
    tables = with_coordinates(torch.nn.ModuleDict({"encoder": model}), {})
    assert from_coordinates(tables)[NAME].tolist() == windows


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 0.0, -1.0, 1e30, 1e-30])
def test_numbers_that_are_no_coordinates_tell_nothing(bad):
    name = "layers.{}.blocks.0.attn.relative_coords_table"
    table = torch.full((1, 7, 7, 2), bad)
    assert from_coordinates({name.format(0): table})[NAME].tolist() == [[0, 0]]
    assert from_coordinates({name.format(1): table}) == {}  # and none of stage 0
    assert from_coordinates({name.format(0): table[0]}) == {}


# ----- loading ------------------------------------------------------------------------------------

PASS = r"\(2, 2\) in the file and \(4, 4\) in the model.* pretrained_windows=\(2, 2\)"


def test_the_same_window_is_loaded():
    source, model = scramble(pretraining(swinv2()), 1), scramble(pretraining(swinv2()), 2)
    report = weights.load(model, state_of(source))
    assert NAME in report.matched and not report.missing


@pytest.mark.parametrize("options", [{}, {"visible": 16}])
def test_another_window_is_refused_and_the_mending_named(options):
    source = scramble(build_encoder("swinv2_nano", 96, 2), 1)
    model = build_encoder("swinv2_nano", 96, 3, **options)
    before = state_of(model)
    with pytest.raises(ValueError) as caught:
        weights.load(model, state_of(source, "encoder."))
    line = str(caught.value)
    assert "encoder.bias_windows is (2, 2, 2) in the file and (3, 3, 3) in the model" in line
    assert "build the encoder with pretrained_windows=(2, 2, 2) (model.pretrained_windows" in line
    assert "\n" not in line
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_the_error_names_mends_it():
    source = scramble(swinv2(window=2), 1)
    model = swinv2(window=4, pretrained_windows=(2, 2))
    report = weights.load(model, state_of(source, "encoder."))
    assert not report.resized and not report.missing
    state = source.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_windows_of_pre_training_are_handed_on():
    """Fine-tuned at 4 from 2, and fine-tuned on at 8: 2 is what counts."""
    tuned = scramble(classifier(swinv2(window=4, pretrained_windows=(2, 2))), 1)
    given = state_of(tuned)
    with pytest.raises(ValueError, match=PASS):
        weights.load(classifier(swinv2(window=4)), given)
    weights.load(classifier(swinv2(size=64, window=8, pretrained_windows=(2, 2))), given)


def test_a_rectangle_is_named_as_the_encoder_takes_it():
    source = swinv2(size=(16, 64), window=8)
    given = state_of(source, "encoder.")
    with pytest.raises(ValueError, match=r"pretrained_windows=\(\(4, 8\), \(2, 8\)\)"):
        weights.load(swinv2(size=64, window=8), given)
    model = swinv2(size=64, window=8, pretrained_windows=((4, 8), (2, 8)))
    assert NAME in weights.load(model, given).matched


def test_a_file_that_says_nothing_is_loaded_with_a_note():
    given = state_of(scramble(swinv2(window=2), 1), "encoder.")
    del given[NAME]
    model = swinv2(window=4)
    report = weights.load(model, given)
    assert report.missing == {
        NAME: "the file does not tell; right if its position bias was learned at windows (4, 4)"
    }
    assert model.bias_windows.tolist() == [[4, 4], [4, 4]]


def test_what_is_known_in_part_is_compared_in_part():
    """A stage of one token a window neither learns offsets nor has any."""
    given = state_of(scramble(swinv2(size=8, window=2), 1), "encoder.")
    model = swinv2(size=16, window=2)
    assert set(weights.load(model, given).missing) == {NAME}
    assert model.bias_windows.tolist() == [[2, 2], [2, 2]]
    with pytest.raises(ValueError, match=r"pretrained_windows=\(2, 0\)"):
        weights.load(swinv2(size=32, window=4), given)


def test_another_family_is_told_by_its_weights_alone():
    with pytest.raises(ValueError, match="the model is swin: ") as caught:
        weights.load(swin(), state_of(swinv2(), "encoder."))
    assert "bias_windows" not in str(caught.value)


# ----- other projects -----------------------------------------------------------------------------


def test_microsoft_s_coordinates_are_compared():
    source = scramble(pretraining(swinv2(window=2)), 1)
    given = with_coordinates(source, FORMATS["official"].write(state_of(source)))
    assert NAME in weights.load(pretraining(swinv2(window=2)), given).matched
    with pytest.raises(ValueError, match=PASS):
        weights.load(pretraining(swinv2(window=4)), given)


@pytest.mark.parametrize("start", ["", "encoder."])
def test_timm_s_and_hugging_face_s_coordinates_are_compared(start):
    """Their files of today hold none; older ones do, and those that are made from others' files."""
    source = pretraining(scramble(swinv2(window=2), 1))
    form = FORMATS["huggingface" if start else "timm"]
    tables = with_coordinates(source, {})
    given = form.write(state_of(source)) | {
        start + name.removeprefix("encoder."): table for name, table in tables.items()
    }
    assert form.recognises(given)
    with pytest.raises(ValueError, match=PASS):
        weights.load(swinv2(window=4), given)


@pytest.mark.parametrize("name", ["official", "timm", "huggingface"])
@pytest.mark.parametrize("build", [pretraining, classifier])
def test_others_are_given_none(name, build):
    written = FORMATS[name].write(state_of(build(swinv2())))
    assert not any("bias_windows" in key for key in written)


def test_timm_s_strict_load_takes_what_is_written():
    sizes = {"img_size": 32, "patch_size": 4, "window_size": 2, "embed_dim": 8, "depths": (1, 2)}
    theirs = SwinTransformerV2(**sizes, num_heads=(1, 2), num_classes=3)
    theirs.load_state_dict(FORMATS["timm"].write(state_of(classifier(swinv2(), classes=3))))


def test_hugging_face_s_settings_say_where_the_bias_was_learned():
    model = swinv2(size=40, window=8, pretrained_windows=(12, 6))
    told = state_of(model, "encoder.")
    assert config(told, None, 40, 8)["pretrained_window_sizes"] == [12, 6]
    del told[NAME]
    assert config(told, None, 40, 8)["pretrained_window_sizes"] == [0, 0]
