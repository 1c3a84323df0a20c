import json
from dataclasses import replace

import pytest

from mimray.cli import main
from mimray.study.reading.findings import analyse
from mimray.study.reading.published import PUBLISHED as FILE
from mimray.study.reading.sentences import sentences
from mimray.study.reading.table import StudyTable
from tests.study.reading.tables import LENGTHS, PUBLISHED, law_table

pytestmark = pytest.mark.unit

KEYS = "pearson spearman overfitting_cells extrapolation extrapolation_mae law sentences files"
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What `mimray study report` prints for the published runs, and where it writes."""
    import contextlib
    import io

    folder, out = tmp_path_factory.mktemp("study") / "out", io.StringIO()
    with contextlib.redirect_stdout(out):
        words = ["study", "report", str(FILE), "--json", "--over", "published", "--out"]
        assert main([*words, str(folder)]) == 0
    return json.loads(out.getvalue()), folder


def test_one_object_with_the_published_figures(report):
    found, _ = report
    assert set(KEYS.split()) <= set(found)
    assert found["pearson"]["not_overfitting"] == pytest.approx(-0.956, abs=5e-4)
    assert found["all"]["spearman"] == found["spearman"]["all"] == pytest.approx(-0.897, abs=5e-4)
    assert len(found["overfitting_cells"]) == 9
    assert found["overfitting_cells"][0]["model"] == "SwinV2-Small"
    assert found["extrapolation_mae"] <= 0.0004 and len(found["extrapolation"]) == 12
    assert set(found["extrapolation"][0]) == {
        "model", "data", "predicted", "low", "high", "actual",
    }  # fmt: skip
    law = found["law"]
    assert {"E", "a", "alpha", "b", "beta", "c", "gamma"} <= set(law) == set(law) | {"intervals"}
    assert law["assumed"] == ["alpha"]
    for name, (low, high) in law["intervals"].items():
        assert low <= law[name] <= high, name


def test_the_files_are_there_and_whole(report):
    found, folder = report
    names = {
        "curves.png", "score_against_loss.png", "predicted.png", "over_published.png",
        "report.md", "report.json",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == names
    assert found["files"] == [str(folder / path.rsplit("/", 1)[1]) for path in found["files"]]
    assert all(path.read_bytes().startswith(PNG) for path in folder.glob("*.png"))
    kept = json.loads((folder / "report.json").read_text())
    assert kept | {"files": found["files"]} == found
    told = (folder / "report.md").read_text()
    assert all(sentence in told for sentence in found["sentences"])
    assert all(f"({path.name})" in told for path in folder.glob("*.png"))


def test_what_the_published_table_says(report):
    said = report[0]["sentences"]
    assert said[0].startswith("Of 21 pairs of a model and its data 9 over-fit")
    assert any(
        "twice the pictures (ImageNet-1K 50% to ImageNet-1K" in s and "cannot say" in s
        for s in said
    )
    assert any(
        s.startswith("ImageNet-22K in place of ImageNet-1K") and "+0.0026" in s for s in said
    )
    assert any("each more than twice the pictures" in s for s in said)
    assert any("12 of 12 lie in their 90 % intervals" in s for s in said)


def test_a_large_quiet_table_is_told_plainly():
    said = sentences(analyse(law_table(images={"half": 5e5, "all": 1e6})))
    assert said[0] == (
        "Of 8 pairs of a model and its data none over-fits: longer training never raised the "
        "validation loss."
    )
    assert any(s.startswith("Twice the length pays most next, more than twice the") for s in said)


@pytest.mark.parametrize(
    "table",
    [
        law_table(models={"a": 5e7}, images={"x": 1e6}),
        law_table(lengths=LENGTHS[:1]),
        law_table(models={"a": None, "b": None}),
        law_table(models={"a": 5e7, "b": 1e8}, lengths=LENGTHS[:2]),
        StudyTable("t", tuple(replace(run, scores={}) for run in law_table().runs)),
        StudyTable("t", tuple(replace(run, val_loss=0.5) for run in law_table().runs)),
        StudyTable("t", PUBLISHED.runs[:9]),
        StudyTable("t", PUBLISHED.runs[:3]),
    ],
)
def test_a_small_or_odd_table_says_what_it_cannot_say(table):
    said = sentences(analyse(table))
    assert any("annot say" in sentence for sentence in said)
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in said)
    assert not any(word in " ".join(said) for word in ("None ", "nan", "inf "))


def test_a_table_of_other_columns_is_drawn(tmp_path, capsys):
    rows = [
        "model,params,data,images,source,iterations,val_loss,train_loss,finetune/top1,depth/rmse"
    ]
    for run in law_table(models={"a": 5e7, "b": 1e8}, images={"all": 1e6}).runs:
        rows.append(
            f"{run.model},{run.parameters},{run.data},{run.images},s,{run.iterations},{run.val_loss},"
            f"{run.val_loss - 0.1},{run.scores['top1'] / 100},{1 + run.val_loss}"
        )
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "table.csv").write_text("\n".join(rows))
    assert main(["study", "report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "depth/rmse" in out and "Training loss and top-1" in out
    assert (folder / "report" / "train_against_val.png").read_bytes().startswith(PNG)
    assert {p.suffix for p in (folder / "report").iterdir()} == {".png", ".md", ".json"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,data,iterations,val_loss,top1\n", "the table is empty"),
        ("model,data,iterations,top1\nm,d,1,80\n", "has no column val_loss"),
        ("model,data,iterations,val_loss,top1\nm,d,1,0.5,80\n", "too few"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, capsys, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(text)
    assert main(["study", "report", "t.csv", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["study", "report", str(FILE), "--out", str(tmp_path / "file" / "x")]) == 2
    assert "give --out" in capsys.readouterr().err
