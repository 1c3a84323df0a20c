"""Features on disk: right, computed once, and whole whatever was killed or damaged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mimray.data.decode import decode
from mimray.data.load import load_block
from mimray.data.plan import Block
from mimray.data.sources import open_source
from mimray.downstream.features import pooled_features
from mimray.errors import UserError
from mimray.evaluate import extraction as module
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.extraction import Extraction
from mimray.evaluate.layer_files import LayerFiles
from mimray.evaluate.probing import Labelled
from mimray.evaluate.workers import Share, extract_here
from mimray.mim.normalisation import normalise
from mimray.recipe import load_finetune_recipe
from mimray.train.tasks.classification import Classification

pytestmark = pytest.mark.unit
LAYERS = ("block 2", "last")
ONE = Share()
HARD = Path(__file__).parents[1] / "data" / "hard"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 10)


@pytest.fixture
def ask(pretrained, tmp_path):
    source = open_source("builtin:photos/val")
    rows = np.arange(0, 75, 3)  # 25, three shards
    return Extraction(open_checkpoint(str(pretrained)), source, rows, LAYERS, "mean", tmp_path)


def never(*_):
    raise AssertionError("it is computed again")


def same(one, other, layers=LAYERS):
    assert np.array_equal(one.rows, other.rows)
    return all(np.array_equal(one.layers[name], other.layers[name]) for name in layers)


def test_they_are_those_of_the_encoder(ask):
    found = extract_here(ask, ONE)
    assert np.array_equal(found.rows, ask.rows)
    block = Block(ask.rows, np.zeros(25, np.int64), np.zeros((25, 0), np.int64))
    images = torch.from_numpy(load_block(ask.source, block, ask.framing)["image"])
    expected = pooled_features(
        ask.checkpoint.build(), normalise(images.permute(0, 3, 1, 2)), LAYERS
    )
    for name in LAYERS:
        array = found.layers[name]
        assert isinstance(array, np.memmap) and array.dtype == np.float16
        assert array.shape == (25, 144)
        np.testing.assert_allclose(array, expected[name].numpy(), rtol=2e-3, atol=2e-3)


def test_labels_are_those_of_their_rows(ask):
    extract_here(ask, ONE)
    assert np.array_equal(Labelled.of(ask).labels, ask.source.labels()[ask.rows])


@pytest.mark.parametrize("upright", [False, True])
def test_pictures_are_seen_as_fine_tuning_validates_them(ask, pretrained, upright):
    words = ["model.encoder=vit_nano", "model.image_size=32", f"data.upright={upright}"]
    recipe = load_finetune_recipe("finetune_demo", words)
    framing = Classification(recipe, 2, None, None).framing(training=False)
    assert replace(ask, upright=upright).framing == framing
    assert load_finetune_recipe("finetune_demo", words[:2]).data.upright is ask.upright is False


def test_a_camera_that_was_held_on_its_side(pretrained, tmp_path):
    """Its note is followed where that is asked for, and those features lie elsewhere."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noted = (HARD / "rotated_6.jpg").read_bytes()
    (folder / "1.jpg").write_bytes(noted)
    Image.fromarray(decode(noted, upright=True)).save(folder / "2.png")
    source, one = open_source(str(folder)), open_checkpoint(str(pretrained))
    stored = Extraction(one, source, np.arange(2), ("last",), "mean", tmp_path / "f")
    upright = replace(stored, upright=True)
    assert upright.place != stored.place
    side, turned = (extract_here(ask, ONE).layers["last"] for ask in (stored, upright))
    assert np.array_equal(turned[0], turned[1]) and np.array_equal(turned[1], side[1])
    assert not np.array_equal(side[0], side[1])


def test_they_are_computed_once(ask, monkeypatch):
    first = extract_here(ask, ONE)
    assert not list(ask.place.glob("*.safetensors"))
    monkeypatch.setattr(Extraction, "compute", never)
    assert same(extract_here(replace(ask), ONE), first)


def test_a_layer_is_found_whatever_else_is_asked_for(ask, monkeypatch):
    """And of what is not there only that is computed."""
    whole = extract_here(replace(ask, folder=ask.folder / "whole"), ONE)
    computed = []

    def noted(encoder, images, layers, pooling):
        computed.append(tuple(layers))
        return pooled_features(encoder, images, layers, pooling)

    monkeypatch.setattr("mimray.downstream.features.pooled_features", noted)
    one = replace(ask, layers=("block 2",))
    assert one.place == ask.place
    extract_here(one, ONE)
    assert set(computed) == {("block 2",)} and ask.missing() == [0, 1, 2]
    computed.clear()
    assert same(extract_here(ask, ONE), whole)
    assert set(computed) == {("last",)}
    monkeypatch.setattr(Extraction, "compute", never)
    for layers in (("last",), ("block 2",), ("last", "block 2")):
        found = extract_here(replace(ask, layers=layers), ONE)
        assert tuple(found.layers) == layers
        assert all(np.array_equal(found.layers[name], whole.layers[name]) for name in layers)


def test_an_extraction_that_was_killed_goes_on(ask):
    """Also with other layers: what one has of a shard need not be computed again."""
    whole = extract_here(replace(ask, folder=ask.folder / "whole"), ONE)
    ask.compute(0)
    ask.compute(1)
    first, second = (ask.place / f"last.0000{number}.safetensors" for number in range(2))
    second.write_bytes(second.read_bytes()[:-1])  # truncated
    before = first.stat().st_mtime_ns
    assert ask.missing() == [1, 2]
    assert replace(ask, layers=("block 2",)).missing() == [2]
    ask.compute(1)
    assert ask.missing() == [2] and first.stat().st_mtime_ns == before
    assert same(extract_here(ask, ONE), whole)


@pytest.mark.parametrize("moment", ["join", "_values"])
def test_two_at_once(ask, monkeypatch, moment):
    """Another process asks for one of two layers, and is done in the middle of the other's work."""
    whole = extract_here(replace(ask, folder=ask.folder / "whole"), ONE)
    other = replace(ask, layers=("block 2",))
    for number in ask.missing():
        ask.compute(number)
    goes_on = getattr(LayerFiles, moment)

    def interrupted(*arguments):
        monkeypatch.setattr(LayerFiles, moment, goes_on)
        other.join()  # and removes the shards of its layer
        return goes_on(*arguments)

    monkeypatch.setattr(LayerFiles, moment, interrupted)
    assert same(ask.join(), whole)
    other.compute(1)  # it is late, and has nothing to do
    assert not list(ask.place.glob("*.safetensors"))
    assert same(extract_here(other, ONE), whole, other.layers)


def test_what_other_hosts_wrote_is_not_seen(ask):
    ask.compute(0)
    with pytest.raises(UserError, match="name a --storage that all hosts share"):
        ask.join()


@pytest.mark.parametrize("name", ["last-*.npy", "block-2-*.npy", "rows.npy"])
@pytest.mark.parametrize("how", ["gone", "truncated", "empty"])
def test_a_file_of_whole_features_that_is_damaged(ask, name, how):
    whole = {k: v.copy() for k, v in extract_here(ask, ONE).layers.items()}
    (file,) = ask.place.glob(name)
    data = file.read_bytes()
    file.unlink()
    if how != "gone":
        file.write_bytes(data[:-3] if how == "truncated" else b"")
    assert ask.missing() == [0, 1, 2]
    again = extract_here(ask, ONE).layers
    assert all(np.array_equal(again[name], whole[name]) for name in LAYERS)


def test_rows_that_are_not_those_of_the_layers(ask):
    extract_here(ask, ONE)
    for rows in (ask.rows[1:], ask.rows + 1):
        np.save(ask.place / "rows.npy", rows)
        assert ask.missing() == [0, 1, 2]


def test_what_cannot_be_read_is_left_out(pretrained, folder, tmp_path):
    copy = tmp_path / "data"
    for file in sorted((folder / "val").glob("*/*.jpg")):
        (copy / file.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / file.parent.name / file.name).write_bytes(file.read_bytes())
    bad = sorted(copy.glob("*/*.jpg"))[11]
    bad.write_bytes(b"no picture")
    source, one = open_source(str(copy)), open_checkpoint(str(pretrained))
    ask = Extraction(one, source, np.arange(20), LAYERS, "mean", tmp_path / "f")
    found = extract_here(ask, ONE)
    assert found.rows.tolist() == [row for row in range(20) if row != 11]
    assert len(found.layers["last"]) == 19
    nothing = replace(ask, rows=np.array([11]))
    with pytest.raises(UserError, match="none of its pictures can be read"):
        extract_here(nothing, ONE)


def test_other_features_lie_elsewhere(ask, monkeypatch):
    checkpoint = ask.checkpoint
    others = [
        ask,
        replace(ask, pooling="cls"),
        replace(ask, rows=np.arange(25)),
        replace(ask, source=open_source("builtin:photos/train")),
        replace(ask, checkpoint=replace(checkpoint, digest="other")),
        replace(ask, checkpoint=replace(checkpoint, image_size=64)),
        replace(ask, checkpoint=replace(checkpoint, drop_layers=1)),
    ]
    assert len({other.place for other in others}) == 7
    elsewhere = replace(ask, checkpoint=replace(checkpoint, weights="/moved", name="moved"))
    assert elsewhere.place == ask.place
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert replace(ask).place != ask.place


def test_readers_and_threads_are_as_many_as_cpus():
    for cpus in range(2, 40):
        one = Share(cpus)
        assert one.readers + one.threads == cpus and 1 <= one.readers <= cpus / 2
        driven = Share(cpus, 1)
        assert (driven.readers, driven.threads) == (cpus - 1, 1)
    assert (Share(1).readers, Share(1).threads) == (0, 1)
    assert (Share(1, 1).readers, Share(1, 1).threads) == (1, 1)


def test_values_beyond_float16_and_no_values(ask):
    assert ask._half("last", torch.tensor([1e6, -1e6, 2.0])).tolist() == [65504.0, -65504.0, 2.0]
    with pytest.raises(UserError, match="layer 'last' gives features that are not finite"):
        ask._half("last", torch.tensor([float("nan")]))
