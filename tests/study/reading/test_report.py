import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mimray.cli import main
from mimray.study.reading.findings import analyse
from mimray.study.reading.overfitting import split_runs
from mimray.study.reading.published import PUBLISHED as FILE
from mimray.study.reading.sentences import sentences
from mimray.study.reading.table import StudyTable
from tests.study.reading.tables import LENGTHS, PUBLISHED, change, law_table

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
        "per doubling of the pictures (ImageNet-1K 50% to ImageNet-1K" in s and "cannot say" in s
        for s in said
    )
    assert any(
        s.startswith("ImageNet-22K in place of ImageNet-1K") and "+0.0026" in s for s in said
    )
    assert any(
        s.startswith(
            "Cannot say: which lowers the loss most next, twice the length or the parameters; each does "
            "more than twice the pictures. Twice the length"
        )
        for s in said
    )
    assert "SwinV2-giant (+0.0204) on ImageNet-1K 50%." in said[0]
    assert any(
        "of another model's runs, 90 % lie within 0.70 points of the others'" in s for s in said
    )
    assert any("12 of 12 lie in their 90 % intervals" in s for s in said)


def test_each_kind_of_cell_is_named_so(report):
    said = report[0]["sentences"]
    assert any(
        s.startswith("So far, per doubling of the length (250k to 500k, 21 comparisons): ")
        for s in said
    )
    assert any(
        s.startswith(
            "On the largest subset alone, ImageNet-1K, per doubling of the length (250k to"
        )
        for s in said
    )
    (falling,) = (
        s for s in said
        if s.startswith("Where cells do not over-fit, which is to say where the loss fell, per doubling")
    )  # fmt: skip
    assert "12 comparisons): validation loss -0.0044; top-1 +0.42 points (no interval" in falling
    assert any("per doubling of the parameters (SwinV2-Huge to SwinV2-giant," in s for s in said)
    assert any("per doubling of the pictures (ImageNet-1K 50% to ImageNet-1K," in s for s in said)
    assert not any("So far, twice" in s for s in said)


def test_the_published_law_is_written_with_what_it_takes_to_use_it(report):
    """Sources' shifts, which exponent is assumed, and whose interval is which."""
    (said,) = (s for s in report[0]["sentences"] if s.startswith("Law of the 36 runs"))
    law = report[0]["law"]
    low, high = law["intervals"]["E"]
    assert f"L = {law['E']:.4f} ({low:.4f} to {high:.4f}) + " in said
    assert f"(D/2.4M)^-{law['alpha']:.2f} [exponent assumed] + " in said
    assert said.count("[exponent assumed]") == len(law["assumed"]) == 1
    assert law["shifts"]["ImageNet-22K"] > 0.004 and "ImageNet-1K" not in said
    assert f"; on ImageNet-22K {law['shifts']['ImageNet-22K']:+.4f}; " in said
    assert said.endswith(f"; root mean square error {law['rms_error']:.4f}.")
    assert law["flattered"] == ["gamma"]


def test_the_formula_in_words_gives_the_losses(report):
    """What a reader reckons from the sentence: each published run to within the rounding and the error."""
    (said,) = (s for s in report[0]["sentences"] if s.startswith("Law of the 36 runs"))
    floor = float(re.search(r"L = ([\d.]+)", said)[1])
    terms = re.findall(r"\+ ([\d.]+) \((\w)/([\d.]+)([kMB])\)\^-([\d.]+)", said)
    shift = float(re.search(r"on ImageNet-22K ([+-][\d.]+)", said)[1])
    letters = {"k": 1e3, "M": 1e6, "B": 1e9}
    off = []
    for run in split_runs(PUBLISHED)["not_overfitting"]:
        sizes = {"D": run.images, "N": run.parameters, "T": run.iterations}
        told = floor + shift * (run.source == "ImageNet-22K")
        for part, letter, unit, power, exponent in terms:
            told += float(part) * (sizes[letter] / (float(unit) * letters[power])) ** -float(
                exponent
            )
        off.append(told - run.val_loss)
    assert len(terms) == 3 and np.sqrt(np.mean(np.square(off))) < 0.001


def lowest_overfits():
    """The largest model, which over-fits on all but the most data, has the lowest loss before it does."""
    table = law_table(lengths=LENGTHS[:2])
    table = change(table, ("d", "all", LENGTHS[0]), val_loss=0.3)
    return change(table, ("d", "all", LENGTHS[1]), val_loss=0.42)


def test_that_the_lowest_loss_is_of_a_pair_that_over_fits_is_said():
    table = lowest_overfits()
    double = next(r for r in table.runs if (*r.pair, r.iterations) == ("d", "double", LENGTHS[1]))
    said = sentences(analyse(table))
    assert (
        "The lowest validation loss is of d on all at 100k, which over-fits: more data first "
        f"(per doubling so far, {double.val_loss - 0.42:+.4f})."
    ) in said
    assert any(
        "from d on double at 200k, the lowest that does not over-fit, validation loss" in s
        for s in said
    )
    quiet = sentences(analyse(law_table(lengths=LENGTHS[:2])))
    assert not any(s.startswith("The lowest") for s in quiet)
    assert any("from d on double at 200k, validation loss for" in s for s in quiet)


def test_too_few_pairs_are_said_to_be_too_few():
    """Three pairs tell a law and no interval: it is not that no doubling lowers the loss."""
    said = sentences(analyse(law_table(models={"a": 5e7, "b": 1e8, "c": 2e8}, images={"all": 1e6})))
    assert "Cannot say: what pays next, with too few pairs." in said


def test_shares_of_nobody_knows_how_many_pictures_are_said_to_be_shares():
    table = law_table(images={"10%": 0.1, "50%": 0.5, "100%": 1.0})
    (said,) = (s for s in sentences(analyse(table)) if s.startswith("Law of"))
    assert "(D/0.368)^" in said and "for D the share of all pictures, N parameters and T" in said


def test_a_line_is_drawn_only_where_losses_and_scores_surely_go_together():
    rows = law_table().runs
    generator = np.random.default_rng(0)
    loose = tuple(replace(run, scores={"top1": generator.normal(80, 1)}) for run in rows)
    said = " ".join(sentences(analyse(StudyTable("t", loose))))
    assert "cannot say whether they go together" in said and "lower by 0.01" not in said


def test_a_large_quiet_table_is_told_plainly():
    said = sentences(analyse(law_table(images={"half": 5e5, "all": 1e6})))
    assert said[0] == (
        "Of 8 pairs of a model and its data none over-fits: longer training never raised the "
        "validation loss."
    )
    assert any(
        s.startswith("Twice the length lowers the loss most next, more than twice the")
        for s in said
    )


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
        ("model,data,iterations,val_loss,top1\nm,d,1,0.5,80\n", "too few to say anything"),
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
