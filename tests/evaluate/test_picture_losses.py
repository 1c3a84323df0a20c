"""The loss of each validation picture, under the masks of the run's own validation."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mimray.cli import main
from mimray.data.sources import open_source
from mimray.errors import UserError
from mimray.evaluate.picture_losses import Masked

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def masked(pretrained):
    return Masked.open(str(pretrained))


@pytest.fixture(scope="module")
def losses(masked):
    return masked.losses()


def test_together_they_are_the_run_s_own_validation(pretrained, losses):
    final = json.loads((pretrained / "run.json").read_text())["final"]
    assert len(losses.rows) == 120 and losses.unreadable == 0
    assert losses.mean == pytest.approx(final["val/loss"], rel=2e-3)  # the run's may be of bf16
    fill = (losses.fill * losses.weight).sum() / losses.weight.sum()
    assert fill == pytest.approx(final["val/fill_nearest"], rel=1e-5)
    assert np.std(losses.loss) > 0.01


def test_other_pictures_and_one_that_cannot_be_read(pretrained, losses, tmp_path):
    source = open_source("builtin:photos/val")
    for row, data in enumerate(source.read(np.arange(3))):
        (tmp_path / f"{row}.jpg").write_bytes(data)
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    other = Masked.open(str(pretrained), str(tmp_path)).losses()
    assert other.rows.tolist() == [0, 1, 2] and other.unreadable == 1
    np.testing.assert_allclose(other.loss, losses.loss[:3], rtol=1e-5)


def test_the_verb_lists_the_hardest_and_the_easiest(pretrained, losses, tmp_path, capsys):
    ask = ["analyze", "losses", str(pretrained), "--pictures", "3", "--here"]
    assert main([*ask, "--storage", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (place,) = tmp_path.glob("analyses/losses-*")
    order = losses.rows[np.argsort(-losses.loss)]
    shown = {
        name: [r for r in told["pictures"] if r["which"] == name] for name in ("hardest", "easiest")
    }
    assert [row["row"] for row in shown["hardest"]] == order[:3].tolist()
    assert [row["row"] for row in shown["easiest"]] == order[::-1][:3].tolist()
    assert shown["hardest"][0]["path"] == open_source("builtin:photos/val").name(int(order[0]))
    table = pq.read_table(place / "pictures.parquet").to_pylist()
    assert [row["row"] for row in table] == order.tolist()
    (sheet,) = place.glob("pictures-*.png")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert main([*ask, "--storage", str(tmp_path)]) == 0
    assert "hardest" in capsys.readouterr().out


def test_no_picture_is_hard_and_easy(pretrained, tmp_path, capsys):
    source = open_source("builtin:photos/val")
    ask = ["analyze", "losses", str(pretrained), "--pictures", "60", "--here", "--json"]
    for count, hard, easy in ((1, 1, 0), (5, 3, 2)):
        folder = tmp_path / str(count)
        folder.mkdir()
        for row, data in enumerate(source.read(np.arange(count))):
            (folder / f"{row}.jpg").write_bytes(data)
        assert main([*ask, "--data", str(folder), "--storage", str(tmp_path / "s")]) == 0
        shown = json.loads(capsys.readouterr().out)["pictures"]
        assert [row["which"] for row in shown] == ["hardest"] * hard + ["easiest"] * easy
        assert len({row["row"] for row in shown}) == count
    ask[4] = "61"
    assert main([*ask, "--storage", str(tmp_path / "none")]) == 2
    assert "--pictures 61: a sheet shows at most 60 of each" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_model_that_has_diverged(masked, monkeypatch):
    model = masked._model()
    with torch.no_grad():
        next(model.head.parameters()).fill_(torch.nan)
    monkeypatch.setattr(Masked, "_model", lambda self: model)
    with pytest.raises(UserError, match="its losses are not finite; has its run diverged"):
        masked.losses()
