"""`mimray weights inspect|convert`, on a run's checkpoint and on others' files."""

import hashlib
import json

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mimray import build_model, load_recipe
from mimray.cli import main
from mimray.mim.encoders import build_encoder
from mimray.weights import load

pytestmark = pytest.mark.unit


def make_run(folder, *overrides):
    """A finished run as far as weights are concerned; returns its model."""
    recipe = load_recipe("demo", list(overrides))
    torch.manual_seed(0)
    model = build_model(recipe).eval()
    checkpoint = folder / "checkpoints" / "step-00000125"
    checkpoint.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    save_file(model.state_dict(), checkpoint / "model.safetensors")
    written = (checkpoint / "model.safetensors").read_bytes()
    entry = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    manifest = {"step": 125, "files": {"model.safetensors": entry}}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, model) of a Swin's run."""
    folder = tmp_path_factory.mktemp("run")
    return folder, make_run(folder)


@pytest.fixture
def weights(capsys):
    """Run `mimray weights ...`, which succeeds; returns what it prints."""

    def call(*words):
        assert main(["weights", *map(str, words)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return call


@pytest.fixture
def refused(capsys):
    """Run `mimray weights ...`, which refuses; returns its one line."""

    def call(*words):
        assert main(["weights", *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.strip().splitlines()
        assert line.startswith("mimray: ")
        return line

    return call


def zeros(name, size, **options):
    """An encoder's weights under mimray's names, quickly."""
    with torch.device("meta"):
        state = build_encoder(name, size, **options).state_dict()
    return {f"encoder.{n}": torch.zeros(tensor.shape) for n, tensor in state.items()}


# ----- inspect ------------------------------------------------------------------------------------


def test_a_run_says_what_it_is(run, weights):
    folder, model = run
    said = weights("inspect", folder)
    assert "format      mimray" in said
    assert "swin: embed 32, depths 1,1,4, heads 2,4,8, patch 4, windows 6,6,6 (swin_nano)" in said
    count = sum(tensor.numel() for tensor in model.parameters())
    assert f"{count:,} in {len(model.state_dict())} tensors" in said
    assert "encoder.layers.*.blocks.*.attn.qkv.weight" in said
    assert "96 x 32, 192 x 64, 384 x 128 (4)" in said


def test_the_same_as_an_object(run, weights):
    folder, model = run
    found = json.loads(weights("inspect", folder, "--json"))
    assert (found["format"], found["encoders"]) == ("mimray", ["swin_nano"])
    assert found["architecture"]["depths"] == [1, 1, 4]
    assert found["parameters"] == sum(tensor.numel() for tensor in model.parameters())
    shapes = {name: entry["shape"] for name, entry in found["weights"].items()}
    assert shapes == {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found["weights"]["head.0.bias"]["dtype"] == "float32"
    assert (found["dropped"], found["not_finite"], found["load"]) == ({}, [], None)


def test_a_pickle_of_another_project(weights, tmp_path):
    state = timm.create_model("vit_small_patch16_224", num_classes=3, depth=2).state_dict()
    torch.save({"model": state, "epoch": 3}, tmp_path / "deit.pth")
    said = weights("inspect", tmp_path / "deit.pth")
    assert "format      timm" in said
    assert "vit: embed 384, depths 2, patch 16, position absolute" in said
    assert "not taken   head.weight, head.bias: a classifier of the class token" in said
    assert "blocks.*.attn.qkv.bias" in said


def test_what_loading_would_do(run, weights):
    folder, model = run
    words = ("--encoder", "swin_nano", "--image-size", "128", "--window", "8")
    said = weights("inspect", folder, *words)
    matched = len(model.encoder.state_dict()) - 6
    assert f"loaded into swin_nano: {matched} matched, 6 resized, 2 dropped, 0 missing" in said
    assert "window 6 x 6 -> 8 x 8" in said
    report = json.loads(weights("inspect", folder, "--json", *words))["load"]
    assert report["dropped"]["head.0.weight"] == "the model has no head"
    assert len(report["resized"]) == 6


def test_a_fine_tuned_vit_is_tried_on_a_fine_tuned_encoder(weights, tmp_path):
    save_file(zeros("vit_nano", 96, finetune=True), tmp_path / "vit.safetensors")
    words = ("--encoder", "vit_nano", "--image-size", "96")
    said = weights("inspect", tmp_path / "vit.safetensors", *words)
    assert ", 0 resized, 0 dropped, 0 missing" in said


def test_windows_of_swinv2_that_differ_or_are_not_told(weights, refused, tmp_path):
    make_run(tmp_path, "model.encoder=swinv2_nano")
    words = ("--encoder", "swinv2_nano", "--image-size", "96")
    assert ", 0 resized, 2 dropped, 0 missing" in weights("inspect", tmp_path, *words)
    line = refused("inspect", tmp_path, *words, "--window", "3")
    assert "is (6, 6, 6) in the file and (3, 3, 3) in the model" in line
    weights("convert", tmp_path, "--to", "timm", "--out", tmp_path / "timm.safetensors")
    said = weights("inspect", tmp_path / "timm.safetensors", *words, "--window", "3")
    assert "right if its position bias was learned at windows (3, 3, 3)" in said


def test_damage_is_named(weights, tmp_path):
    state = zeros("vit_nano", 96)
    state["encoder.norm.bias"][3] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    said = weights("inspect", tmp_path / "nan.safetensors")
    assert "damaged     encoder.norm.bias: NaN or infinity" in said


# ----- convert ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timm", "official", "mimray"])
def test_a_run_goes_there_and_back(run, weights, tmp_path, name):
    folder, model = run
    out = tmp_path / "new" / "swin.safetensors"
    said = weights("convert", folder, "--to", name, "--out", out)
    assert said.startswith(f"mimray -> {name}: ")
    assert said.rstrip().endswith(str(out))
    assert ("left out" in said) == (name == "timm")
    assert not list(tmp_path.rglob("*.part"))
    again = build_encoder("swin_nano", 96).eval()
    load(again, out)
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(images)[-1], model.encoder(images)[-1])


def test_what_is_left_out_is_said(run, weights, tmp_path):
    folder, _ = run
    words = ("--to", "timm", "--out", tmp_path / "swin.safetensors", "--json")
    found = json.loads(weights("convert", folder, *words))
    assert found["from"] == "mimray"
    assert found["files"] == [str(tmp_path / "swin.safetensors")]
    assert set(found["left_out"]) == {"encoder.mask_token", "head.0.weight", "head.0.bias"}
    assert found["tensors"] == len(load_file(tmp_path / "swin.safetensors"))


@pytest.mark.parametrize("encoder", ["swin_nano", "swinv2_nano"])
def test_a_hugging_face_folder_has_what_the_run_s_recipe_says(weights, tmp_path, encoder):
    make_run(tmp_path / "run", f"model.encoder={encoder}", "model.image_size=192")
    source = tmp_path / "run" / "checkpoints" / "step-00000125" / "model.safetensors"
    weights("convert", source, "--to", "huggingface", "--out", tmp_path / "swin")
    config = json.loads((tmp_path / "swin" / "config.json").read_text())
    assert (config["image_size"], config["window_size"]) == (192, 6)
    with safe_open(tmp_path / "swin" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert f"{config['model_type']}.embeddings.mask_token" in file.keys()  # noqa: SIM118


def test_transformers_reads_the_folder(run, weights, tmp_path):
    hf = pytest.importorskip("transformers")
    folder, model = run
    weights("convert", folder, "--to", "huggingface", "--out", tmp_path / "swin")
    theirs = hf.AutoModelForMaskedImageModeling.from_pretrained(tmp_path / "swin").eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 96, 96, generator=generator)
    hidden = torch.rand(1, 24, 24, generator=generator) < 0.6
    with torch.no_grad():
        expected = model(images, hidden)
        got = theirs(images, bool_masked_pos=hidden.flatten(1))
    assert (got.reconstruction - expected.prediction).abs().max() <= 1e-5


@pytest.mark.parametrize("encoder", ["swin_nano", "vit_nano"])
def test_a_mask_token_after_the_encoder_stays_here(weights, tmp_path, encoder):
    """Where hidden tokens were skipped, it and the head mean nothing to others."""
    settings = (f"model.encoder={encoder}", "model.visible_only=true", "head.kind=transformer")
    make_run(tmp_path / "run", *settings)
    words = ("--to", "huggingface", "--out", tmp_path / "out", "--json")
    found = json.loads(weights("convert", tmp_path / "run", *words))
    left = set(found["left_out"])
    assert "encoder.mask_token" in left and all(
        n.startswith("head.") for n in left - {"encoder.mask_token"}
    )
    assert len(left) > 5
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["SwinModel" if encoder == "swin_nano" else "BeitModel"]
    assert not config.get("use_mask_token")
    words = ("--to", "mimray", "--out", tmp_path / "out.safetensors", "--json")
    assert json.loads(weights("convert", tmp_path / "run", *words))["left_out"] == []


def test_sizes_can_be_named(weights, tmp_path):
    save_file(zeros("swinv2_nano", 96), tmp_path / "v2.safetensors")
    words = ("--to", "huggingface", "--out", tmp_path / "v2", "--image-size", 96, "--window", 6)
    weights("convert", tmp_path / "v2.safetensors", *words)
    assert json.loads((tmp_path / "v2" / "config.json").read_text())["window_size"] == 6


def test_nothing_is_written_over_unless_asked(run, weights, refused, tmp_path):
    folder, _ = run
    out = tmp_path / "swin.safetensors"
    out.write_text("mine")
    words = ("convert", folder, "--to", "timm", "--out", out)
    assert f"{out} is there already; name another place, or add --force" in refused(*words)
    assert out.read_text() == "mine"
    weights(*words, "--force")
    assert "norm.weight" in load_file(out)


# ----- bad input ----------------------------------------------------------------------------------


def test_a_file_that_is_not_there(refused):
    assert "/no/such.pth: no such file" in refused("inspect", "/no/such.pth")


def test_names_of_no_project(refused, tmp_path):
    save_file({"gpt.wte": torch.zeros(2), "gpt.wpe": torch.zeros(2)}, tmp_path / "gpt.safetensors")
    line = refused("inspect", tmp_path / "gpt.safetensors")
    assert f"{tmp_path}/gpt.safetensors: the names of the weights (gpt.wpe, gpt.wte" in line
    assert "timm" in line


class Bomb:
    def __reduce__(self):
        return print, ("boom",)


def test_a_pickle_with_code_is_not_run(refused, tmp_path):
    torch.save({"model": Bomb()}, tmp_path / "bomb.pth")
    assert "refused and not run" in refused(
        "convert", tmp_path / "bomb.pth", "--to", "timm", "--out", "x.safetensors"
    )


def test_a_model_with_other_parts(refused, tmp_path):
    state = timm.create_model("vit_small_patch14_reg4_dinov2", depth=1, img_size=28).state_dict()
    save_file(state, tmp_path / "dinov2.safetensors")
    line = refused("inspect", tmp_path / "dinov2.safetensors")
    assert "dinov2.safetensors: the file is of a ViT with layer scale and register tokens" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--encoder", "swin_nanno"), "'swin_nanno' is not known; did you mean swin_nano"),
        (
            ("--encoder", "swin_nano", "--image-size", "100"),
            "not a multiple of swin_nano's stride 16",
        ),
        (("--encoder", "swin_tiny"), "the model is swin: embed 96"),
        (("--encoder", "vit_base"), "only the file has"),
    ],
)
def test_an_encoder_that_does_not_fit(run, refused, words, said):
    assert said in refused("inspect", run[0], *words)


@pytest.mark.parametrize(
    ("form", "out", "said"),
    [
        ("tim", "x.safetensors", "--to tim is not known; did you mean timm"),
        ("mae", "x.safetensors", "--to mae: MAE's files are read, not written"),
        ("timm", "x.bin", "--out x.bin: name a file that ends in .safetensors"),
        ("huggingface", "x.safetensors", "Hugging Face's models are folders; name one"),
        ("timm", "/proc/no/x.safetensors", "/proc/no/x.safetensors: cannot be written"),
        ("timm", "s4://bucket/x.safetensors", "s4://bucket/x.safetensors"),
    ],
)
def test_a_wrong_place_or_format(run, refused, tmp_path, monkeypatch, form, out, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused("convert", run[0], "--to", form, "--out", out)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way(run, refused, tmp_path):
    (tmp_path / "x.safetensors").mkdir()
    line = refused(
        "convert", run[0], "--to", "timm", "--out", tmp_path / "x.safetensors", "--force"
    )
    assert "x.safetensors is a folder; name a new file" in line


def test_sizes_that_nobody_knows(refused, tmp_path):
    save_file(zeros("swinv2_nano", 96), tmp_path / "v2.safetensors")
    words = (
        "convert",
        tmp_path / "v2.safetensors",
        "--to",
        "huggingface",
        "--out",
        tmp_path / "v2",
    )
    assert "name it (--image-size)" in refused(*words)
    assert "--encoder swin_x is not known" in refused(*words, "--encoder", "swin_x")
    assert not (tmp_path / "v2").exists()
