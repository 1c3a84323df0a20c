import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimray.errors import UserError
from mimray.study.reading.published import PUBLISHED, published_table
from mimray.study.reading.sizes import known_images, known_parameters, split_share
from mimray.study.reading.table import read_table

pytestmark = pytest.mark.unit

HEAD = "model,data,iterations,val_loss,top1\n"
ROWS = "m,d,125k,0.5,80\nm,d,250k,0.4,81\nm,d,500k,0.3,82\n"


@pytest.fixture
def table_of(tmp_path):
    def read(text, name="t.csv"):
        (tmp_path / name).write_text(text)
        return read_table(str(tmp_path / name))

    return read


def test_the_published_table_is_the_golden_one():
    golden = Path(__file__).parents[2] / "goldens" / "data_scaling_modelhub.csv"
    assert PUBLISHED.read_bytes() == golden.read_bytes()


def test_the_published_table_is_the_shared_one(shared):
    assert PUBLISHED.read_bytes() == (shared / "goldens/data_scaling_modelhub.csv").read_bytes()


def test_the_published_runs_are_read_with_their_sizes():
    table = published_table()
    assert len(table.runs) == 63 and len(table.pairs()) == 21
    assert table.lengths() == [125_000, 250_000, 500_000] and table.tasks == ("top1",)
    first = table.runs[0]
    assert first.pair == ("SwinV2-Small", "ImageNet-1K 10%")
    assert (first.parameters, first.images, first.source) == (49e6, 1.28e5, "ImageNet-1K")
    assert table.runs[-1].parameters == 1.06e9 and table.runs[-1].source == "ImageNet-22K"


def test_other_names_and_columns_are_taken(table_of):
    table = table_of(
        "encoder,subset,length,val/loss,finetune/top1,train/loss,depth/rmse,coco,speed/images_per_s,images,note\n"
        "m,d,1000it,0.5,0.8,0.4,0.3,50,99,880,x\nm,d,2M,0.4,,,,,98,880,\nm,d,3,nan,0.7,,,,,880\n"
        "m,d,4,0.3,0.7,,,,,880,\nm,d,5,,,,,,,,\n"
    )
    assert table.tasks == ("top1", "depth/rmse", "coco")
    assert table.diverged == (("m", "d", 3),) and table.waiting == (("m", "d", 5),)
    first, second, third = table.runs
    assert first.scores == {"top1": 0.8, "depth/rmse": 0.3, "coco": 50.0}
    assert (first.iterations, second.iterations, third.iterations) == (1000, 2_000_000, 4)
    assert first.train_loss == 0.4 and second.train_loss is None and second.scores == {}
    assert first.images == 880 and first.parameters is None and table.percent() == 100.0


def test_a_parquet_table_and_a_folder_are_read_alike(tmp_path):
    rows = list(csv.DictReader(PUBLISHED.open()))
    typed = [
        {
            **row,
            "iterations": int(row["iterations"][:-1]) * 1000,
            "val_loss": float(row["val_loss"]),
            "top1": float(row["top1"]),
        }
        for row in rows
    ]
    folder = tmp_path / "mine"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(typed), folder / "table.parquet")
    table = read_table(str(folder))
    assert table.runs == published_table().runs and table.name == "mine"
    assert read_table(str(folder / "table.parquet")).runs == table.runs


def test_the_order_of_rows_is_no_matter(table_of):
    rows = ROWS.splitlines(keepends=True)
    assert table_of(HEAD + "".join(reversed(rows))).pairs() == table_of(HEAD + ROWS).pairs()


@pytest.mark.parametrize("column", ["model", "data", "iterations", "val_loss"])
def test_a_missing_column_is_named(table_of, column):
    with pytest.raises(UserError, match=f"has no column {column}; a study's table needs model"):
        table_of(HEAD.replace(column, "other") + ROWS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD, "the table is empty"),
        ("", "is empty; its first line names the columns"),
        (HEAD + ROWS[:30], "2 rows have a validation loss that is finite, too few"),
        (HEAD + "m,d,1,,\nm,d,2,nan,\nm,d,3,,\n", "0 rows have a validation loss that is finite"),
        (HEAD + ROWS + "m,d,500k,0.2,83\n", "m, d, 500000 iterations stands twice"),
        (HEAD + "m,d,5 ep,0.5,80\n", "line 2: iterations '5 ep' is not a count"),
        (HEAD + ROWS + "m,d,1,half,80\n", "line 5: val_loss 'half' is not a number"),
        (
            HEAD + "m,,1,0.5,80\n",
            "line 2: data is empty; every row needs model, data and iterations",
        ),
    ],
)
def test_a_bad_table_is_refused_in_one_line(table_of, text, said):
    with pytest.raises(UserError) as caught:
        table_of(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"), [("t.txt", "ends in .csv or .parquet"), ("t.parquet", "not a Parquet file")]
)
def test_another_file_is_refused(table_of, name, said):
    with pytest.raises(UserError, match=said):
        table_of(HEAD + ROWS, name)


def test_a_place_without_a_table_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither table.parquet nor table.csv"):
        read_table(str(tmp_path))
    with pytest.raises(UserError, match="no such table"):
        read_table(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("data", "source", "share", "images"),
    [
        ("ImageNet-1K", "ImageNet-1K", 1.0, 1.28e6),
        ("ImageNet-1K 20%", "ImageNet-1K", 0.2, 2.56e5),
        ("photos 12.5 %", "photos", 0.125, None),
        ("10%", "", 0.1, None),
    ],
)
def test_shares_are_read_off_the_name(data, source, share, images):
    assert split_share(data) == (source, pytest.approx(share))
    assert known_images(data) == (None if images is None else pytest.approx(images))


def test_published_models_are_known_by_name():
    assert known_parameters("swinv2_giant") == 1061e6 and known_parameters("vit") is None
