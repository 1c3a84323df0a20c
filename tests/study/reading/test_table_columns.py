"""What a newcomer's file may look like, and what is refused in one line that names the place."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimray.errors import UserError
from mimray.study.reading.gains import gains
from mimray.study.reading.table import read_table

pytestmark = pytest.mark.unit

HEAD = "model,data,iterations,val_loss,top1\n"
ROWS = "m,d,125k,0.5,80\nm,d,250k,0.4,81\nm,d,500k,0.3,82\n"


@pytest.fixture
def table_of(tmp_path):
    def read(text):
        (tmp_path / "t.csv").write_text(text)
        return read_table(str(tmp_path / "t.csv"))

    return read


def refused(table_of, text):
    with pytest.raises(UserError) as caught:
        table_of(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ----- top-1 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((0.5, 0.6, 65), "line 4: top1 is 65, in percent, and 0.5, a share of 1, in line 2; write all"),
        ((50, "60%", 65), "line 2: top1 is 50, in percent, and 60%, a share of 1, in line 3; write all"),
        ((0, 1, 1.5), "line 4: top1 is 1.5, in percent, and 1, a share of 1, in line 3; write all"),
        ((50, 150, 65), "line 3: top1 '150' is no accuracy; it lies between 0 and 100 percent"),
        ((50, 60, -4), "line 4: top1 '-4' is no accuracy"),
        ((50, 60, "150%"), "line 4: top1 '150%' is no accuracy"),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_or_do_not_compare_are_refused(table_of, scores, said):
    rows = (f"m,d,{length},0.5,{score}\n" for length, score in enumerate(scores, start=1))
    assert said in refused(table_of, HEAD + "".join(rows))


def test_a_percent_sign_is_a_hundredth(table_of):
    table = table_of(HEAD + "m,d,1,0.5,50%\nm,d,2,0.4,0.6\nm,d,3,0.3,65 %\n")
    assert [run.scores["top1"] for run in table.runs] == pytest.approx([0.5, 0.6, 0.65])
    assert table.percent() == 100.0


def test_nothing_right_and_all_right_may_stand_beside_either(table_of):
    assert table_of(HEAD + "m,d,1,0.5,0\nm,d,2,0.4,60\nm,d,3,0.3,100\n").percent() == 1.0
    assert table_of(HEAD + "m,d,1,0.5,0\nm,d,2,0.4,0.6\nm,d,3,0.3,1\n").percent() == 100.0


def test_top1_may_be_missing(table_of):
    table = table_of("model,data,iterations,val_loss\nm,d,1,0.5\nm,d,2,0.4\nm,d,3,0.3\n")
    assert len(table.runs) == 3 and not any(run.scores for run in table.runs)


# ----- the header, and how a file is parted ---------------------------------------------------------------


def test_names_are_read_in_any_case_and_with_blanks_around(table_of):
    table = table_of(
        " Model , DATA,Iterations,Val_Loss,Top1,Depth/RMSE , COCO\n m , d,1,0.5,80,1,50\n"
        "m,d,2,0.4,81,2,51\nm,d,3,0.3,82,3,52\n"
    )
    assert table.tasks == ("top1", "Depth/RMSE", "coco") and list(table.pairs()) == [("m", "d")]
    assert table.runs[0].scores == {"top1": 80.0, "Depth/RMSE": 1.0, "coco": 50.0}


def test_of_two_names_of_a_column_the_first_counts(table_of):
    table = table_of("encoder,model,data,steps,val_loss\ne,m,d,1,0.5\ne,m,d,2,0.4\ne,m,d,3,0.3\n")
    assert {run.model for run in table.runs} == {"m"}


@pytest.mark.parametrize("twice", ["model", " Model", "depth/rmse,depth/rmse", "coco,COCO"])
def test_a_column_that_is_read_stands_once(table_of, twice):
    name = twice.partition(",")[0].strip().lower()
    said = refused(table_of, HEAD.replace("\n", f",{twice}\n") + ROWS)
    assert f"column {name} stands twice; give it once" in said


def test_other_columns_may_stand_twice(table_of):
    assert len(table_of(HEAD.replace("\n", ",note,note,,\n") + ROWS).runs) == 3


def test_a_parquet_table_has_rows(tmp_path):
    row = {"model": "m", "data": "d", "iterations": 1, "val_loss": 0.5, "params": 0}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="row 1: params '0' is too small"):
        read_table(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n\n", "t.csv: is empty; its first line names the columns"),
        ((HEAD + ROWS).replace(",", ";"), "its columns are parted by semicolons; save it with commas"),
        ((HEAD + ROWS).replace(",", "\t"), "its columns are parted by tabs; save it with commas"),
        (HEAD + "m,d,1,0.5,80,9\n", "line 2: has 6 cells for 5 columns; put a value"),
        (HEAD + "\n\n" + ROWS + "m,photos, all,1,0.5,80\n", "line 7: has 6 cells"),
        (HEAD + "m,d,-100,0.5,80\n", "line 2: iterations '-100' is not a count; write it like 125000"),
        (HEAD + ROWS + "m,d,0,0.5,80\n", "line 5: iterations '0' is too small; it takes 1 at least"),
        (HEAD + "m,d,0.4,0.5,80\n", "line 2: iterations '0.4' is too small"),
        (HEAD + "m,d,,0.5,80\n", "line 2: iterations is empty; every row needs"),
        (HEAD.replace("model", "encoder") + ",d,1,0.5,80\n", "line 2: encoder is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(table_of, text, said):
    assert said in refused(table_of, text)


# ----- sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        (
            "params",
            ("49M", "51M", ""),
            "line 3: params of m is 51M, and 49M in line 2; give it one",
        ),
        (
            "images",
            ("", "880", "881"),
            "line 4: images of d is 881, and 880 in line 3; give it one",
        ),
        ("source", ("a", "a", "b"), "line 4: source of d is b, and a in line 2; give it one"),
        ("params", ("0", "49M", "49M"), "line 2: params '0' is too small; it takes 1 at least"),
    ],
)
def test_rows_agree_on_a_size(table_of, column, values, said):
    lines = zip(ROWS.splitlines(), values, strict=True)
    text = "".join(f"{row},{value}\n" for row, value in lines)
    assert said in refused(table_of, HEAD.replace("\n", f",{column}\n") + text)


def test_a_size_may_stand_in_one_row_and_in_any_form(table_of):
    table = table_of(
        HEAD.replace("\n", ",params,images\n")
        + "m,d,1,0.5,80,,880\nm,d,2,0.4,81,49M,\nm,d,3,0.3,82,49000000,880.0\n"
    )
    assert {(run.parameters, run.images) for run in table.runs} == {(49e6, 880.0)}


def test_a_share_and_a_number_of_pictures_do_not_compare(table_of):
    """The whole has no known number, so neither has its tenth; by their shares the whole is the larger."""
    rows = (
        "p 10%,1,0.5,,88",
        "p 10%,2,0.45,,88",
        "p,1,0.4,,",
        "p,2,0.35,,",
        "q,1,0.4,,50",
        "q,2,0.3,,50",
    )
    table = table_of(HEAD.replace("\n", ",images\n") + "".join(f"m,{row}\n" for row in rows))
    assert {r.data: r.images for r in table.runs} == {"p 10%": 0.1, "p": 1.0, "q": 50.0}
    (step,) = (gain for gain in gains(table) if gain.factor == "data")
    assert (step.before, step.after) == (("p 10%",), ("p",))
