"""What a checkpoint tells of itself."""

import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mimray.errors import UserError
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.mim.encoders import build_encoder

pytestmark = pytest.mark.unit


def test_a_run_knows_its_encoder(pretrained):
    for place in (pretrained, pretrained / "checkpoints" / "step-00000002"):
        found = open_checkpoint(str(place))
        assert (found.encoder, found.image_size, found.window) == ("vit_nano", 32, None)
        assert (found.name, found.kind, found.finetuned) == ("mim", "MIM", False)
        assert not found.build().training
        # a run that goes on has other weights later
        assert found.weights == str(pretrained / "checkpoints" / "step-00000002")
    assert open_checkpoint(str(pretrained), image_size=64).image_size == 64


def weights_file(path, name, size, window=None, **more):
    encoder = build_encoder(name, size, window, **more)
    save_file({f"encoder.{n}": t.contiguous() for n, t in encoder.state_dict().items()}, path)
    return str(path)


def test_windows_where_there_are_none(pretrained):
    with pytest.raises(UserError, match="vit_nano has no windows, so leave out --window 7"):
        open_checkpoint(str(pretrained), window=7)
    with pytest.raises(UserError, match="vit_nano is no SwinV2, so leave out --pretrained-windows"):
        open_checkpoint(str(pretrained), pretrained_windows=(7,))


def untold_file(path):
    """SwinV2's weights learned at 96 px and window 8, without what tells so, as timm writes them."""
    state = build_encoder("swinv2_nano", 96, 8).state_dict()
    untold = {f"encoder.{n}": t for n, t in state.items() if "windows" not in n}
    assert not any("coords" in name for name in untold)
    save_file(untold, path)
    return str(path)


def test_a_swinv2_that_does_not_tell_its_windows_is_not_guessed(tmp_path):
    """At 64 px it would be (6, 6, 4): another position bias, and a score that does not show it."""
    file = untold_file(tmp_path / "v2.safetensors")
    with pytest.raises(UserError, match="--pretrained-windows 12,12,12,6, in a suite") as caught:
        open_checkpoint(file, image_size=64).build()
    assert "learned at windows (6, 6, 4); name" in str(caught.value)
    assert "\n" not in str(caught.value)
    told = open_checkpoint(file, image_size=64, pretrained_windows=(8, 8, 6))
    assert told.build().bias_windows.tolist() == [[8, 8], [8, 8], [6, 6]]
    assert told.model["pretrained_windows"] == [8, 8, 6]
    right = open_checkpoint(file, image_size=96, window=8, pretrained_windows=(8, 8, 6)).build()
    assert right.bias_windows.tolist() == [[8, 8], [8, 8], [6, 6]]
    with pytest.raises(UserError, match="names 2, and the encoder has 3 stages"):
        open_checkpoint(file, image_size=64, pretrained_windows=(8, 8)).build()


def test_what_is_given_is_held_against_what_weights_tell(tmp_path):
    file = weights_file(tmp_path / "v2.safetensors", "swinv2_nano", 96, 8)
    assert open_checkpoint(file, image_size=96, window=8).build().family == "swinv2"
    with pytest.raises(UserError, match=r"is \(8, 8, 6\) in the file and \(4, 4, 4\) in the model"):
        open_checkpoint(file, image_size=96, pretrained_windows=(4, 4, 4)).build()


def test_a_fine_tuning_without_its_last_layers(tmp_path):
    encoder = build_encoder("vit_nano", 32, finetune=True, drop_layers=2)
    state = {f"encoder.{n}": t.contiguous() for n, t in encoder.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "run.json").write_text(json.dumps({"recipe_digest": "r", "uid": "u"}))
    model = {"encoder": "vit_nano", "image_size": 32, "drop_layers": 2, "drop_from": "last"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"task": "classify", "model": model}))
    built = open_checkpoint(str(tmp_path)).build()
    assert [len(stage) for stage in built.stage_blocks()] == [
        len(stage) for stage in encoder.stage_blocks()
    ]


def test_another_s_file_tells_its_encoder_or_is_told(tmp_path):
    swin = open_checkpoint(weights_file(tmp_path / "swin.safetensors", "swin_nano", 96, 6))
    assert (swin.encoder, swin.window, swin.image_size) == ("swin_nano", 6, 224)
    assert (swin.name, swin.kind) == ("swin", "unknown")
    tuned = open_checkpoint(weights_file(tmp_path / "v", "vit_nano", 32, finetune=True), None, 32)
    assert tuned.finetuned and tuned.build().family == "vit"


def test_timm_s_weights_out_of_hugging_face_s_cache(tmp_path, monkeypatch):
    file = weights_file(tmp_path / "model.safetensors", "swin_nano", 96, 6)
    asked = []

    def cached(name, what):
        asked.append((name, what))
        return file

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    found = open_checkpoint("supervised:timm/some_swin.in1k", image_size=96)
    assert (found.kind, found.name) == ("supervised", "some_swin.in1k")
    assert (found.encoder, found.window) == ("swin_nano", 6)
    assert found.weights == "supervised:timm/some_swin.in1k"  # as a fine-tuning takes it too
    expected = open_checkpoint(file, image_size=96).build().state_dict()
    for name, tensor in found.build().state_dict().items():
        assert torch.equal(tensor, expected[name])
    assert set(asked) == {("timm/some_swin.in1k", "model.safetensors")}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(UserError, match="not in Hugging Face's cache"):
        open_checkpoint("supervised:timm/some_swin.in1k")


def test_a_file_that_does_not_tell(tmp_path):
    save_file({"encoder.x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"x\.safetensors"):
        open_checkpoint(str(tmp_path / "x.safetensors"))


def test_a_swinv2_of_another_size_keeps_the_windows_of_its_pre_training(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    weights_file(run / "model.safetensors", "swinv2_nano", 96, 6)
    record = {"recipe_digest": "r", "uid": "u", "steps": 0}
    (run / "run.json").write_text(json.dumps(record))
    model = {"encoder": "swinv2_nano", "image_size": 96, "window": 6}
    (run / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
    weights = str(run / "model.safetensors")
    assert open_checkpoint(weights).pretrained_windows is None
    larger = open_checkpoint(weights, image_size=192, window=12)
    stages = len(larger.pretrained_windows)
    assert larger.pretrained_windows == tuple(min(6, 96 // (4 * 2**s)) for s in range(stages))
    larger.build()


def test_a_stage_of_one_token_in_pre_training_scales_by_its_own_window(tmp_path):
    """16 px are 4 x 4 tokens, then 2 x 2 and 1."""
    weights_file(tmp_path / "model.safetensors", "swinv2_nano", 16, 6)
    (tmp_path / "run.json").write_text(json.dumps({"recipe_digest": "r", "uid": "u", "steps": 0}))
    model = {"encoder": "swinv2_nano", "image_size": 16, "window": 6}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model}))
    larger = open_checkpoint(str(tmp_path / "model.safetensors"), image_size=32)
    assert larger.pretrained_windows == (4, 2, 0)
    assert larger.build().bias_windows.tolist() == [[4, 4], [2, 2], [2, 2]]
