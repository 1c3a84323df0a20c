"""`mimray evaluate linear` and `knn` on the shipped photos, in this process."""

import errno
import json

import numpy as np
import pytest
from PIL import Image

from mimray.cli import main
from mimray.data.collections import COLLECTIONS, open_pictures
from mimray.data.subset import choose
from mimray.evaluate.extraction import Extraction
from mimray.evaluate.probing import chosen, labels_of
from mimray.recipe.finetuning import FinetuneModel
from mimray.words.evaluate import side
from tests.data.collection_fixtures import small
from tests.evaluate.conftest import PHOTOS

pytestmark = pytest.mark.unit


@pytest.fixture
def evaluate(capsys, pretrained, tmp_path):
    """Run the verb: (status, standard output, standard error)."""

    def run(*words):
        status = main(
            [
                *("evaluate", words[0], "--from", str(pretrained), "--here"),
                *("--storage", str(tmp_path / "runs"), *map(str, words[1:])),
            ]
        )
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(("kind", "last"), [("linear", "rate"), ("knn", "k")])
def test_scores_of_every_layer_once(evaluate, folder, kind, last, monkeypatch):
    words = (kind, "--data", folder, "--layers", "last,block 3", "--json")
    status, out, err = evaluate(*words)
    assert status == 0 and "40 pictures to learn from, 20 to test" in err
    found = json.loads(out)
    assert [row["layer"] for row in found["layers"]] == ["block 3", "last"]
    for row in found["layers"]:
        assert 0 <= row["top1"] <= 1 and row["mean_per_class"] == pytest.approx(row["top1"])
        assert row[last] > 0
    assert found["photos"] == {"train": 40, "val": 20} and found["classes"] == 10
    monkeypatch.setattr(Extraction, "compute", None)  # cannot be called
    again = json.loads(evaluate(*words)[1])
    assert again == found
    status, out, _ = evaluate(*words[:-1])
    assert status == 0 and "is finished" in out and "accuracy.png" in out


def test_colours_are_told_apart(evaluate, tmp_path):
    for split, count in (("train", 8), ("val", 3)):
        for number, name in enumerate(("red", "green", "blue")):
            place = tmp_path / "colours" / split / name
            place.mkdir(parents=True)
            for k in range(count):
                colour = [20 + k, 20 + k, 20 + k]
                colour[number] = 200
                Image.new("RGB", (40, 40), tuple(colour)).save(place / f"{k}.png")
    for kind in ("linear", "knn"):
        words = (kind, "--data", tmp_path / "colours", "--layers", "block 1", "--json")
        found = json.loads(evaluate(*words)[1])
        assert found["chosen"]["top1"] == 1.0
    assert Image.open(f"{found['uri']}/accuracy.png").size[0] > 300


def test_few_labels_are_those_of_fine_tuning(evaluate):
    words = ("knn", *PHOTOS, "--layers", "block 1", "--labels", "5%", "--json")
    found = json.loads(evaluate(*words)[1])
    rows = choose(open_pictures("builtin:photos/train", "train"), 0.05, stratified=True).rows()
    assert found["photos"] == {"train": len(rows), "val": 120} and found["labels"] == "5%"


def test_several_labels_a_picture(evaluate, tmp_path, monkeypatch):
    monkeypatch.setitem(COLLECTIONS, "voc2007", small("voc2007", tmp_path))
    uri = f"collection:voc2007:{tmp_path}"
    given = open_pictures(uri, "train")
    theirs, ours = given.multi_labels(), labels_of(given)
    assert {(int(a), int(b)) for a, b in zip(theirs.flat, ours.flat, strict=True)} == {
        (1, 1),
        (0, -1),
        (-1, 0),
    }
    found = json.loads(evaluate("linear", "--data", uri, "--layers", "last", "--json")[1])
    (row,) = found["layers"]
    assert 0 < row["map11"] <= 1 and "top1" not in row
    status, _, err = evaluate("knn", "--data", uri, "--layers", "last")
    assert status == 2 and "several labels" in err
    share = ("linear", "--data", uri, "--layers", "last", "--labels")
    status, _, err = evaluate(*share, "10%")
    (line,) = err.strip().splitlines()
    assert status == 2 and "--labels 10%: a share is taken of each class" in line
    again = json.loads(evaluate(*share, "100%", "--json")[1])
    assert again == found  # all of them are no share


def test_a_class_of_birdsnap_that_has_lost_its_test(evaluate, tmp_path, monkeypatch):
    monkeypatch.setitem(COLLECTIONS, "birdsnap", small("birdsnap", tmp_path))
    (tmp_path / "birdsnap/download/images/Bird_3/2.jpg").unlink()
    words = ("--data", f"collection:birdsnap:{tmp_path}", "--layers", "last", "--json")
    found = json.loads(evaluate("knn", *words)[1])
    assert found["photos"] == {"train": 8, "val": 3} and found["classes"] == 4


def test_a_positive_that_nobody_can_read(evaluate, tmp_path, monkeypatch):
    """The test has no average precision then."""
    monkeypatch.setitem(COLLECTIONS, "voc2007", small("voc2007", tmp_path))
    monkeypatch.setattr("mimray.evaluate.probing.labels_of", lambda s: np.full((len(s), 20), -1))
    words = ("--data", f"collection:voc2007:{tmp_path}", "--layers", "last")
    status, _, err = evaluate("linear", *words)
    assert status == 2 and "no label is positive" in err.strip().splitlines()[-1]


def test_upright_pictures_are_another_question(evaluate, folder):
    words = ("knn", "--data", folder, "--layers", "last", "--json")
    found, upright = (json.loads(evaluate(*words, *more)[1]) for more in ((), ("--upright",)))
    assert (found["upright"], upright["upright"]) == (False, True)
    assert found["name"] != upright["name"]
    assert found["layers"] == upright["layers"]  # no camera has noted anything


def test_the_test_has_no_part_in_what_stands_for_all():
    rows = [
        {"layer": "block 1", "top1": 0.9, "held_out": 0.1},
        {"layer": "block 2", "top1": 0.1, "held_out": 0.8},
    ]
    assert chosen(rows)["layer"] == "block 2"
    neighbours = [{"layer": "block 1", "top1": 0.9, "k": 1}, {"layer": "last", "top1": 0.1, "k": 1}]
    assert chosen(neighbours)["layer"] == "last"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--layers", "block 9"], "layer 'block 9' is not one of the encoder's; did you mean"),
        (["--labels", "200%"], "is not a share"),
        (["--labels", "0%"], "is not a share"),
        (["--labels", "nan"], "is not a share"),
        (["--seed", "-1"], "--seed -1"),
        (["--window", "7"], "vit_nano has no windows, so leave out --window 7"),
        (["--image-size", "36"], "not a multiple of vit_nano's stride 8; 32 is"),
        (["--pretrained-windows", "6,6"], "vit_nano is no SwinV2, so leave out"),
        (["--encoder", "swin_nano", "--image-size", "96"], "weights of vit: embed 144"),
        (["--val", "builtin:photos/train"], "are the same pictures"),
        (["--data", "/nowhere"], "/nowhere: no such file or folder"),
        (["--from", "/nowhere"], "/nowhere: no such file or folder"),
        (["--storage", "s3://bucket/x"], "name a local folder"),
    ],
)
def test_a_user_s_mistakes(evaluate, tmp_path, words, says):
    status, out, err = evaluate("knn", *PHOTOS, *words)
    (line,) = err.strip().splitlines()
    assert status == 2 and says in line and not out
    assert not (tmp_path / "runs" / "evaluate").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--image-size", "100000000"], "--image-size: '100000000' must be 4096 or less"),
        (
            ["--pretrained-windows", "12,x"],
            "'12,x' is no list of windows; write it like 12,12,12,6",
        ),
    ],
)
def test_words_that_cannot_be_meant(evaluate, capsys, words, says):
    with pytest.raises(SystemExit) as caught:
        evaluate("knn", *PHOTOS, *words)
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_the_largest_side_is_that_of_recipes():
    """Beyond it the allocator fails, with a stack trace."""
    limits = FinetuneModel.model_fields["image_size"].metadata
    assert side("4096") in [getattr(limit, "le", None) for limit in limits]


@pytest.mark.parametrize("action", [("knn", *PHOTOS), ("suite", "semantic", "--sets", "/x")])
def test_a_storage_without_a_right_to_write(pretrained, tmp_path, capsys, monkeypatch, action):
    """A folder that is there says nothing; root may write anywhere, so it is pretended."""

    def refused(dir):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("mimray.verbs.evaluate.TemporaryFile", refused)
    words = [*action, "--from", str(pretrained), "--storage", str(tmp_path)]
    assert main(["evaluate", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == f"mimray: --storage {tmp_path}: cannot be written (Permission denied)"


def test_a_disk_that_is_full(evaluate, folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mimray.evaluate.layer_files.write_atomic", full)
    status, out, err = evaluate("knn", "--data", folder, "--layers", "last")
    assert status == 3 and not out
    line = f"mimray: --storage {tmp_path / 'runs'}: [Errno 28] No space left on device"
    assert err.strip().splitlines()[-1] == line and "Traceback" not in err


def test_neighbours_draw_nothing(evaluate, folder, monkeypatch):
    """So the seed is no part of their result's name; how it is scored is."""
    scores = dict.fromkeys(("top1", "mean_per_class", "held_out"), 0.5)
    row = {"layer": "last", "k": 1, "rate": 1.0} | scores
    monkeypatch.setattr("mimray.evaluate.probing.score", lambda *_, device: [row])
    words = ("--data", folder, "--layers", "last", "--json")
    named = json.loads(evaluate("knn", *words)[1])["name"]
    assert json.loads(evaluate("knn", *words, "--seed", 1)[1])["name"] == named
    assert "--seed" not in evaluate("knn", *words[:-1])[1]
    drawn = json.loads(evaluate("linear", *words)[1])["name"]
    assert json.loads(evaluate("linear", *words, "--seed", 1)[1])["name"] != drawn
    assert "another --seed makes another one" in evaluate("linear", *words[:-1])[1]
    monkeypatch.setattr("mimray.evaluate.probing.FORMAT", 0)
    assert json.loads(evaluate("knn", *words)[1])["name"] != named


def test_a_class_token_where_there_is_none(tmp_path, capsys):
    from tests.evaluate.test_checkpoint import weights_file

    file = weights_file(tmp_path / "swin.safetensors", "swin_nano", 96, 6)
    words = ["knn", "--from", file, "--image-size", "96", *PHOTOS, "--pooling", "cls", "--here"]
    assert main(["evaluate", *words, "--storage", str(tmp_path)]) == 2
    assert "a swin has no class token; take pooling mean" in capsys.readouterr().err
