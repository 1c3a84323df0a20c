"""Tables as Parquet, CSV and JSON."""

import io
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimray.evaluate.table_files import packed, table_files, write_files

pytestmark = pytest.mark.unit
ROWS = [{"name": "a", "score": 0.5, "seeds": [0, 1]}, {"name": "b", "other": 1}]


def parquet(data):
    return pq.read_table(io.BytesIO(data))


def test_columns_are_always_the_same():
    columns = {"name": pa.string(), "score": pa.float64(), "seeds": pa.list_(pa.int64())}
    for rows in (ROWS, []):
        files = table_files(rows, columns, "runs", about="x")
        assert list(files) == ["runs.parquet", "runs.csv", "runs.json"]
        assert parquet(files["runs.parquet"]).schema == pa.schema(list(columns.items()))
    files = table_files(ROWS, columns, about="x")
    chosen = [ROWS[0], {"name": "b", "score": None, "seeds": None}]
    assert parquet(files["table.parquet"]).to_pylist() == chosen
    assert json.loads(files["table.json"]) == {"about": "x", "rows": chosen}
    assert files["table.csv"] == b"name,score,seeds\na,0.5,0 1\nb,,\n"


def test_without_columns_they_are_all_that_any_row_has():
    files = packed(ROWS)
    assert parquet(files["parquet"]).to_pylist() == [
        {"name": "a", "score": 0.5, "seeds": [0, 1], "other": None},
        {"name": "b", "score": None, "seeds": None, "other": 1},
    ]
    assert files["csv"].splitlines()[0] == b"name,score,seeds,other"


def test_what_is_not_finite_is_null_in_json_alone(tmp_path):
    files = table_files([{"x": math.nan}], {"x": pa.float64()})
    assert json.loads(files["table.json"])["rows"] == [{"x": None}]
    assert math.isnan(parquet(files["table.parquet"]).to_pylist()[0]["x"])
    write_files(str(tmp_path / "there"), files)
    assert {p.name: p.read_bytes() for p in (tmp_path / "there").iterdir()} == files
