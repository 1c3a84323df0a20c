"""Tables as files: Parquet for programs, CSV for spreadsheets, JSON for people and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimray.data.files import resolve, write_atomic
from mimray.train.run_folder import to_json

Rows = list[dict[str, Any]]


def table_files(rows: Rows, columns: Mapping[str, pa.DataType], **about: Any) -> dict[str, bytes]:
    """`table.parquet`, `table.csv` and `table.json`, which says `about` beside the rows.

    Columns, their order and their types are always these, also where nothing is known yet.
    """
    chosen = [{name: row.get(name) for name in columns} for row in rows]
    text, packed = io.StringIO(), io.BytesIO()
    csv.writer(text, lineterminator="\n").writerows(
        [list(columns), *([_flat(value) for value in row.values()] for row in chosen)]
    )
    pq.write_table(pa.Table.from_pylist(chosen, pa.schema(list(columns.items()))), packed)
    told = to_json({**about, "rows": chosen}, indent=2)
    return {
        "table.parquet": packed.getvalue(),
        "table.csv": text.getvalue().encode(),
        "table.json": told.encode() + b"\n",
    }


def write_files(place: str, files: Mapping[str, bytes]) -> None:
    """Each as a whole, in a folder or below a URI. Raises OSError where that cannot be."""
    filesystem, path = resolve(place)
    for name, data in files.items():
        write_atomic(filesystem, f"{path}/{name}", data)


def _flat(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value
