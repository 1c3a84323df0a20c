"""What is said, and what is not, where a table is small, of one kind, or has runs that came to nothing."""

import math
from dataclasses import replace

import pytest

from mimray.study.reading.correlation import correlations
from mimray.study.reading.findings import analyse
from mimray.study.reading.gains import gains
from mimray.study.reading.overfitting import split_runs
from mimray.study.reading.report import as_json
from mimray.study.reading.sentences import sentences
from mimray.study.reading.table import Run, StudyTable, read_table
from mimray.study.reading.wording import loss_change
from tests.study.reading.tables import LENGTHS, PUBLISHED, change, law_table

pytestmark = pytest.mark.unit

ONE_LENGTH = law_table(lengths=LENGTHS[:1])


def said_of(table):
    return sentences(analyse(table))


# ----- runs without a finite loss -------------------------------------------------------------------------


def table_with_losses(tmp_path, *losses):
    lines = ["model,data,iterations,val_loss,top1"]
    for model in ("a", "b"):
        lines += [f"{model},d,{length},{0.5 - length / 1e5},80" for length in (1000, 2000, 4000)]
    lines += [f"c,d,{1000 * number},{loss}," for number, loss in enumerate(losses, start=1)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    return read_table(str(tmp_path / "t.csv"))


def test_what_diverged_and_what_is_not_finished_is_named(tmp_path):
    table = table_with_losses(tmp_path, 0.5, "nan", "", "inf", "-inf", "NaN", "nan")
    said = said_of(table)
    assert said[0] == (
        "Left out: of 13 runs 5 diverged (a validation loss that is not finite): c on d at 2k, "
        "c on d at 4k, c on d at 5k and 2 more."
    )
    assert said[1] == "Left out: of 13 runs 1 not finished (no validation loss): c on d at 3k."
    told = as_json(analyse(table), said, [])
    assert (told["runs"], told["diverged"], told["unfinished"]) == (7, 5, 1)


def test_nothing_is_left_out_of_a_whole_table():
    assert not any(sentence.startswith("Left out") for sentence in said_of(law_table()))


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("nan", "c on d, which diverged on its way to 4k, should have come to 0."),
        ("", "c on d, not trained to 4k, should come to 0."),
    ],
)
def test_a_run_that_diverged_is_not_one_that_was_not_trained(tmp_path, loss, said):
    table = table_with_losses(tmp_path, 0.45, 0.44, "", loss)
    assert any(sentence.startswith(said) for sentence in said_of(table))


# ----- kinds that a table does not show -------------------------------------------------------------------


def test_without_two_lengths_nothing_is_said_of_kinds():
    said = said_of(ONE_LENGTH)
    assert said[0].startswith("Cannot say: whether longer training over-fits 12 pairs")
    assert not any("not over-fit" in sentence for sentence in said)
    assert any(s.startswith("Validation loss and top-1 over 12 runs: the lower the") for s in said)
    assert any(s.startswith("There, a validation loss lower by 0.01 goes with +1.00") for s in said)
    assert any(s.startswith("Law of the 12 runs: ") for s in said)
    found = correlations(ONE_LENGTH)["top1"]
    assert [found[kind].runs for kind in ("all", "not_overfitting", "overfitting")] == [12, 0, 0]
    assert found["not_overfitting"].pearson is None


def test_one_pair_with_two_lengths_shows_kinds():
    runs = (*ONE_LENGTH.runs, replace(ONE_LENGTH.runs[0], iterations=LENGTHS[1], val_loss=0.9))
    kinds = split_runs(StudyTable("t", runs))
    assert (len(kinds["overfitting"]), len(kinds["not_overfitting"])) == (2, 11)


def test_of_four_pairs_in_perfect_order_nobody_is_sure():
    said = said_of(law_table(images={"all": 1e6}, lengths=LENGTHS[:1]))
    (one,) = (s for s in said if s.startswith("Validation loss and top-1"))
    assert one == (
        "Validation loss and top-1 over 4 runs: Spearman -1.000, Pearson -1.000, cannot say how sure with "
        "so few pairs."
    )


def test_a_table_without_scores_says_what_is_missing():
    table = StudyTable("t", tuple(replace(run, scores={}) for run in law_table().runs))
    said = said_of(table)
    assert (
        "Cannot say: what the validation loss predicts, for no run has a score: add a column top1."
        in said
    )
    assert not any(" top-1 over " in sentence for sentence in said)


# ----- the largest subset ---------------------------------------------------------------------------------


def of(sizes, sources=None):
    """Two models on data sets of these sizes, by default each of a source of its own."""
    runs = tuple(
        Run(model, data, length, 0.5 - length / 1e4, images=images, source=(sources or {}).get(data, data))
        for model in "mn"
        for data, images in sizes.items()
        for length in (1000, 2000)
    )  # fmt: skip
    return StudyTable("t", runs)


ONE = dict.fromkeys(("x", "y", "z"), "s")


@pytest.mark.parametrize(
    "table",
    [
        of({"x": 1.0, "y": 1.0}),
        of({"x": 500.0, "y": 900.0}),
        of({"x": 1.0, "y": 1.0, "z": 0.1}, ONE),
        of({"x": None, "y": None}, ONE),
        of({"x": 900.0, "y": None}, ONE),
    ],
)
def test_no_subset_is_the_largest_where_nobody_knows_it(table):
    assert "length_most_data" not in {gain.factor for gain in gains(table)}
    assert not any("largest subset" in sentence for sentence in said_of(table))


@pytest.mark.parametrize("sizes", [{"x": 0.1, "y": 1.0}, {"x": 500.0, "y": 900.0}])
def test_the_largest_subset_is_told_by_shares_or_pictures_of_one_source(sizes):
    (most,) = (gain for gain in gains(of(sizes, ONE)) if gain.factor == "length_most_data")
    assert most.data == ("y",)


def test_a_source_whose_largest_part_nobody_knows_does_not_stand_for_it():
    table = of({"x": 500.0, "y": 500.0, "z": 900.0}, {"x": "s", "y": "s", "z": "o"})
    assert not any(gain.factor == "source" for gain in gains(table))


# ----- what there are too few of, and grammar -------------------------------------------------------------


def test_what_there_are_too_few_of_is_named():
    (one,) = (
        s
        for s in said_of(law_table(models={"a": 5e7}))
        if s.startswith("So far, per doubling of the l")
    )
    assert "(200k to 400k, 3 comparisons): validation loss" in one
    assert one.count("cannot say with one model only") == 2
    (one,) = (
        s
        for s in said_of(law_table(images={"x": 1e6}))
        if s.startswith("So far, per doubling of the p")
    )
    assert one.count("cannot say with one data set only") == 2


def test_one_pair_over_fits_and_two_over_fit():
    table = change(law_table(), ("a", "all", LENGTHS[1]), val_loss=0.6, scores={"top1": 1.0})
    said = said_of(table)
    assert said[0].startswith(
        "Of 12 pairs of a model and its data 1 over-fits, which is to say that"
    )
    assert "longer training raised its validation loss. From 100k to 200k: a (" in said[0]
    assert said[1] == "Its top-1 fell with longer training."
    two = change(table, ("b", "all", LENGTHS[1]), val_loss=0.6)
    assert " 2 over-fit, which is to say that longer training raised their " in said_of(two)[0]


# ----- what the figures leave out -------------------------------------------------------------------------


def test_a_prediction_of_what_is_not_trained_says_how_often_others_over_fitted():
    """Of the published runs, 4 of 16 pairs that fell to 250k rose to 500k: far outside of the intervals."""
    kept = [
        r
        for r in PUBLISHED.runs
        if (*r.pair, r.iterations) != ("SwinV2-giant", "ImageNet-1K 50%", 500_000)
    ]
    said = said_of(replace(PUBLISHED, runs=tuple(kept)))
    assert any(
        s.startswith("SwinV2-giant on ImageNet-1K 50%, not trained to 500k, should come to")
        for s in said
    )
    assert said[-1] == (
        "That holds where longer training does not begin to over-fit: of 15 pairs whose validation loss "
        "fell to 250k, 3 rose to 500k."
    )
    assert not any("begin to over-fit" in s for s in said_of(PUBLISHED))


def test_top1_that_rose_more_with_another_factor_is_said():
    """The law is of losses; here they fall most with length, and scores go by the parameters."""
    table = law_table()
    by_size = [
        replace(r, scores={"top1": 40 + 3 * math.log2(r.parameters / 5e7)}) for r in table.runs
    ]
    steep = [replace(r, val_loss=r.val_loss + 0.2 * (r.iterations / 1e5) ** -0.5) for r in by_size]
    said = said_of(replace(table, runs=tuple(steep)))
    at = next(
        n for n, s in enumerate(said) if s.startswith("Twice the length lowers the loss most next")
    )
    assert said[at + 1] == (
        "Top-1 says otherwise: per doubling so far, of the parameters +3.00 points (+3.00 to +3.00) and "
        "of the length +0.00 points (+0.00 to +0.00), cannot say up or down."
    )
    assert not any(s.startswith("Top-1") for s in said_of(law_table()))


def test_scores_that_overlap_do_not_say_otherwise():
    said = said_of(read_table("docs/studies/scaling_photos/table.csv"))
    (one,) = [s for s in said if s.startswith("Top-1")]
    assert one.startswith(
        "Top-1 does not tell: per doubling so far, of the parameters +3.03 points (+2.36 to "
    )
    assert any("knn/top1 +1.78 points" in s for s in said)


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.0044, "-0.0044"), (-1.3e-6, "-1e-06"), (4e-5, "+4e-05"), (0.0, "+0.0000")],
)
def test_a_small_change_is_not_said_to_be_none(value, said):
    assert loss_change(value) == said
