"""`analyze layer-drop` before anything is trained: its status, and the words of its table."""

import json

import pytest

from mimray.cli import main
from mimray.verbs.analyze import layer_drop

pytestmark = pytest.mark.unit
ASK = [
    "analyze",
    "layer-drop",
    "--from",
    "scratch",
    "--data",
    "builtin:photos/train",
    "--drop",
    "0,1",
]
SMALL = ["model.encoder=vit_nano", "model.image_size=32", "model.window=null"]


def test_its_status_writes_nothing(tmp_path, capsys):
    storage = tmp_path / "runs"
    ask = [*ASK, "--seeds", "0", "--storage", str(storage), "--status", *SMALL]
    assert main(ask) == 0
    out = capsys.readouterr().out
    assert "top1 (%)" in out and "- (waiting)" in out and "curve.png" not in out
    assert main([*ask, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["drop"], row["status"]) for row in rows] == [(0, "waiting"), (1, "waiting")]
    assert not storage.exists()


def test_its_recipe_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["analyze", "layer-drop", "--help"])
    assert "of fine-tuning (default finetune_transfer)" in " ".join(capsys.readouterr().out.split())


def test_one_layer_is_no_layers():
    said = [layer_drop._without(count) for count in (0, 1, 2)]
    assert said == ["with all layers", "without 1 layer", "without 2 layers"]
