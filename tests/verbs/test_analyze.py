"""`mimray analyze`, on small encoders and the shipped photos."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mimray.cli import main
from mimray.data.sources import open_source
from mimray.evaluate import diagnosis_shards
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.verbs.analyze import diagnosis
from tests.evaluate.test_checkpoint import weights_file

torch.set_num_threads(1)  # the tensors are small

FEW = ["--data", "builtin:photos/val", "--images", "8", "--batch", "4"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of two ViTs and a ResNet, for pictures of 32 px."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name, encoder in (("a", "vit_nano"), ("b", "vit_nano"), ("conv", "resnet_nano")):
        weights_file(folder / f"{name}.safetensors", encoder, 32)
    return folder


@pytest.fixture
def analyze(capsys, weights, tmp_path):
    """`analyze(kind, names, *words)` -> (status, standard output, standard error)."""

    def run(kind, names, *words, size=32):
        given = [f"--from={weights / name}.safetensors" for name in names.split()]
        encoder = ["--encoder", "resnet_nano"] if names == "conv" else []
        storage = ["--storage", str(tmp_path / "runs")]
        if kind != "kernels":
            words = ("--here", *words)
        status = main(
            [
                "analyze",
                kind,
                *given,
                *encoder,
                "--image-size",
                str(size),
                *storage,
                *map(str, words),
            ]
        )
        return status, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_all_of_two_models_once(analyze, monkeypatch):
    status, out, err = analyze("all", "a b", *FEW, "--json")
    assert status == 0 and "attention-" in err
    found = json.loads(out)
    kinds = {record["kind"]: record for record in found["analyses"]}
    assert list(kinds) == ["attention", "cka", "receptive-field", "health"]
    assert found["left_out"] == []
    for record in kinds.values():
        assert [model["label"] for model in record["models"]] == ["a", "b"]
        assert record["pictures"] == 8 and record["batch"] == 4 and record["conventions"]
        rows = pq.read_table(f"{record['uri']}/rows.parquet").to_pylist()
        assert {row["model"] for row in rows} == {"a", "b"}
        assert next(iter(rows[0])) == "model" and {"layer", "index", "stage"} <= rows[0].keys()
        pictures = [name for name in record["files"] if name.endswith(".png")]
        for name in pictures:
            image = np.asarray(Image.open(f"{record['uri']}/{name}").convert("L"))
            assert image.shape[1] > 1000 and image.std() > 10
    assert len([n for n in kinds["attention"]["files"] if n.endswith(".png")]) == 3
    maps = np.load(f"{kinds['receptive-field']['uri']}/maps.npz")
    assert maps["a/block 8"].shape == (32, 32) and maps["a/block 8"].sum() == pytest.approx(1)
    monkeypatch.setattr(diagnosis_shards, "compute", None)  # cannot be called
    assert json.loads(analyze("all", "a b", *FEW, "--json")[1]) == found
    (record,) = [json.loads(analyze("cka", "a b", *FEW, "--json")[1])]
    assert record == kinds["cka"]
    status, out, _ = analyze("all", "a b", *FEW)
    assert status == 0 and out.count("is finished") == 4 and "divergence.png" in out


@pytest.mark.unit
def test_a_convnet_has_kernels_instead_of_attention(analyze):
    status, out, err = analyze("all", "conv", *FEW, "--json")
    assert status == 0 and "conv: resnet_nano has no attention; its kernels are looked at" in err
    found = json.loads(out)
    assert [r["kind"] for r in found["analyses"]] == ["kernels", "cka", "receptive-field", "health"]
    (line,) = found["left_out"]
    assert line in err
    status, out, _ = analyze("kernels", "conv")
    assert status == 0 and "kernels.png" in out
    status, out, err = analyze("attention", "conv", *FEW)
    (line,) = err.strip().splitlines()
    assert status == 2 and not out
    assert (
        "resnet_nano has no attention; possible are kernels, cka, receptive-field, health" in line
    )


@pytest.mark.unit
def test_fewer_pictures_than_asked_for(analyze):
    words = ["--data", "builtin:photos/val", "--images", "100000", "--batch", "64", "--json"]
    record = json.loads(analyze("health", "a", *words)[1])
    assert record["pictures"] == 120


@pytest.mark.unit
@pytest.mark.parametrize(
    ("kind", "words", "says"),
    [
        ("cka", ["--images", "3"], "--images 3 is too few; CKA needs 4"),
        ("all", ["--batch", "2"], "--batch 2 is too few"),
        ("health", ["--data", "/nowhere"], "/nowhere: no such file or folder"),
        ("health", ["--storage", "s3://bucket/x"], "name a local folder"),
        ("health", ["--from", "/nowhere"], "/nowhere: no such file or folder"),
        (
            "health",
            ["--encoder", "vit_nanno"],
            "--encoder vit_nanno: is not known; did you mean vit_nano",
        ),
        ("health", ["--image-size", "1000000000"], "--image-size 1000000000: must be 4096 or less"),
        ("health", ["--image-size", "36"], "not a multiple of vit_nano's stride 8; 32 is"),
        ("health", ["--encoder", "swin_nano"], "weights of vit: embed 144"),
        (
            "kernels",
            [],
            "vit_nano has no kernels but its patch embedding's; possible are attention",
        ),
    ],
)
def test_a_user_s_mistakes(analyze, tmp_path, kind, words, says):
    status, out, err = analyze(kind, "a", *([] if kind == "kernels" else FEW), *words)
    (line,) = err.strip().splitlines()
    assert status == 2 and says in line and not out
    assert not (tmp_path / "runs" / "analyses").exists()


@pytest.mark.unit
def test_data_without_pictures_and_a_file_that_is_no_checkpoint(analyze, tmp_path):
    empty = tmp_path / "empty.parquet"
    pq.write_table(
        pa.table({"image": pa.array([], pa.struct({"bytes": pa.binary(), "path": pa.string()}))}),
        empty,
    )
    few = tmp_path / "few"
    few.mkdir()
    for name in ("a", "b"):
        out = io.BytesIO()
        Image.new("RGB", (40, 40)).save(out, "PNG")
        (few / f"{name}.png").write_bytes(out.getvalue())
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    for words, says in (
        (["--data", empty], "holds no pictures"),
        (["--data", few], "holds 2 pictures; CKA needs 4"),
        ([*FEW, "--from", tmp_path / "x.safetensors"], "x.safetensors"),
        ([*FEW, "--from", tmp_path / "few" / "a.png"], "a.png"),
    ):
        status, out, err = analyze("cka", "a", *words)
        (line,) = err.strip().splitlines()
        assert status == 2 and says in line and not out


@pytest.mark.unit
def test_batches_that_would_be_left_out(analyze, tmp_path):
    words = ["--data", "builtin:photos/val", "--images", "10"]
    status, out, err = analyze("cka", "a", *words, "--batch", "4")
    (line,) = err.strip().splitlines()
    assert status == 2 and not out and not (tmp_path / "runs").exists()
    assert "--batch 4: 10 pictures make batches of 3, and CKA needs 4; " in line
    assert line.endswith("take --batch 5 or more")
    assert analyze("cka", "a", *words, "--batch", "5")[0] == 0
    assert analyze("health", "a", *words, "--batch", "4")[0] == 0


@pytest.mark.unit
def test_pictures_that_are_missing_are_counted_by_their_reason(analyze, tmp_path):
    source, folder = open_source("builtin:photos/val"), tmp_path / "data"
    folder.mkdir()
    for row, data in enumerate(source.read(np.arange(8))):
        (folder / f"{row}.jpg").write_bytes(data if row else b"no picture")
    status, out, _ = analyze("cka", "a", "--data", folder, "--images", "8", "--batch", "4")
    assert status == 0 and "; 1 cannot be read; 3 left out, because too few" in " ".join(
        out.split()
    )


@pytest.mark.unit
def test_models_of_two_sizes_are_not_compared(weights, tmp_path, capsys, monkeypatch):
    sizes = iter([32, 64] * 2)

    def opened(file, *given):
        return replace(open_checkpoint(file, None, 32), image_size=next(sizes))

    monkeypatch.setattr(diagnosis, "open_checkpoint", opened)
    given = [f"--from={weights}/{name}.safetensors" for name in ("a", "b")]
    storage = ["--here", "--storage", str(tmp_path / "runs")]
    assert main(["analyze", "cka", *given, *FEW, *storage]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a and b are not compared: their pictures are of 32 and 64 px; give both one by" in line
    assert not (tmp_path / "runs").exists()
    assert main(["analyze", "health", *given, *FEW, *storage]) == 0  # which compares nothing


@pytest.mark.unit
def test_one_checkpoint_twice(analyze):
    status, _, err = analyze("health", "a a", *FEW)
    assert status == 2 and "named twice" in err
