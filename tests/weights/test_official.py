import pytest
import torch

from mimray.weights import FORMATS, recognise
from mimray.weights.formats.official import Official
from tests.weights.conftest import classifier, pretraining, scramble, swin, swinv2, vit

pytestmark = pytest.mark.unit

OFFICIAL = Official()
BUILDERS = {"swin": swin, "swinv2": swinv2, "vit": vit}


def model_of(family, task):
    if task == "pretraining":
        return scramble(pretraining(BUILDERS[family]()))
    options = {"position": "per_block", "final_norm": False} if family == "vit" else {}
    return scramble(classifier(BUILDERS[family](**options)))


def test_names_of_pre_training():
    written = OFFICIAL.write(model_of("swin", "pretraining").state_dict())
    for name, shape in {
        "encoder.mask_token": (1, 1, 8),
        "encoder.patch_embed.norm.weight": (8,),
        "encoder.layers.0.downsample.reduction.weight": (16, 32),
        "encoder.layers.1.blocks.1.attn.relative_position_bias_table": (9, 2),
        "encoder.norm.bias": (16,),
        "decoder.0.weight": (3 * 8 * 8, 16, 1, 1),
    }.items():
        assert written[name].shape == shape, name
    assert not any(name.startswith(("head", "encoder.layers.1.down")) for name in written)


def test_names_of_a_classifier():
    written = OFFICIAL.write(model_of("vit", "classification").state_dict())
    assert written["head.weight"].shape == (3, 8) and written["fc_norm.bias"].shape == (8,)
    assert "blocks.1.attn.q_bias" in written and "cls_token" in written
    assert "mask_token" not in written
    assert not any(name.startswith(("encoder.", "classifier.")) for name in written)


@pytest.mark.parametrize("task", ["pretraining", "classification"])
@pytest.mark.parametrize("family", BUILDERS)
def test_reading_undoes_writing(family, task):
    state = model_of(family, task).state_dict()
    read, dropped = OFFICIAL.read(OFFICIAL.write(state))
    if task == "classification":
        del state["encoder.mask_token"]
    state.pop("encoder.bias_windows", None)  # theirs tell it by coordinates
    assert not dropped and read.keys() == state.keys()
    assert all(torch.equal(read[n], state[n]) for n in state)


@pytest.mark.parametrize("task", ["pretraining", "classification"])
@pytest.mark.parametrize("family", ["swin", "swinv2"])
def test_it_is_recognised_and_mimray_s_own_is_not_taken_for_it(family, task):
    state = model_of(family, task).state_dict()
    assert recognise(OFFICIAL.write(state)).name == "official"
    assert recognise(state).name == "mimray"


def test_an_encoder_without_its_decoder_is_recognised_by_where_patches_are_merged():
    written = OFFICIAL.write(model_of("swin", "pretraining").state_dict())
    assert recognise([n for n in written if n.startswith("encoder.")]).name == "official"


def test_a_vit_of_pre_training_is_recognised_by_its_decoder():
    state = model_of("vit", "pretraining").state_dict()
    assert recognise(OFFICIAL.write(state)).name == "official"
    assert recognise(state).name == "mimray"


def test_what_the_model_rebuilds_is_dropped_with_the_reason():
    block = "encoder.layers.0.blocks.1"
    extra = {
        f"{block}.attn_mask": torch.zeros(4, 4, 4),
        f"{block}.attn.relative_position_index": torch.zeros(4, 4),
        f"{block}.attn.relative_coords_table": torch.zeros(1, 23, 23, 2),
    }
    written = OFFICIAL.write(model_of("swinv2", "pretraining").state_dict())
    read, dropped = OFFICIAL.read(written | extra)
    assert len(read) == len(written)
    assert dropped == {
        f"{block}.attn_mask": "rebuilt by the model",
        f"{block}.attn.relative_position_index": "rebuilt by the model",
        f"{block}.attn.relative_coords_table": "rebuilt by the model; here of window 12",
    }


def test_the_older_name_of_the_position_mlp():
    written = OFFICIAL.write(model_of("swinv2", "pretraining").state_dict())
    older = {name.replace("cpb_mlp", "rpe_mlp"): tensor for name, tensor in written.items()}
    assert older.keys() != written.keys()
    assert OFFICIAL.read(older).weights.keys() == OFFICIAL.read(written).weights.keys()


def test_a_family_that_microsoft_s_code_has_not_is_refused():
    state = scramble(pretraining(vit(position="absolute", layer_scale=None))).state_dict()
    with pytest.raises(ValueError, match="SwinV2 and the ViT with relative position bias, and"):
        OFFICIAL.write(state)


def test_names_that_nobody_has_are_refused_with_the_known_formats():
    with pytest.raises(ValueError, match=r"\(features.0.weight, ...\) are those of no project"):
        recognise(["features.0.weight"])
    assert "mimray, official" in ", ".join(FORMATS)
