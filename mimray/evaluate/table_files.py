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
"""Of a table: names of columns and plain values."""
Columns = Mapping[str, pa.DataType | None]
"""Of a table, in their order; None for the type of its values."""


def packed(rows: Rows, columns: Columns | None = None) -> dict[str, bytes]:
    """As `parquet` and `csv`. `columns`: all that any row has, of their values' types, when not given."""
    if columns is None:
        columns = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row.get(name) for row in rows] for name in columns}
    arrays = {name: pa.array(values[name], kind) for name, kind in columns.items()}
    text, binary = io.StringIO(), io.BytesIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(list(columns))
    writer.writerows([_flat(row.get(name)) for name in columns] for row in rows)
    pq.write_table(pa.table(arrays), binary)
    return {"parquet": binary.getvalue(), "csv": text.getvalue().encode()}


def table_files(
    rows: Rows, columns: Mapping[str, pa.DataType], stem: str = "table", **about: Any
) -> dict[str, bytes]:
    """`<stem>.parquet`, `.csv` and `.json`, which says `about` beside the rows.

    Columns, their order and their types are always these, also where nothing is known yet.
    """
    chosen = [{name: row.get(name) for name in columns} for row in rows]
    told = to_json({**about, "rows": chosen}, indent=2)
    files = packed(chosen, columns) | {"json": told.encode() + b"\n"}
    return {f"{stem}.{ending}": data for ending, data in files.items()}


def write_files(place: str, files: Mapping[str, bytes]) -> None:
    """Each as a whole, in a folder or below a URI. Raises OSError where that cannot be."""
    filesystem, path = resolve(place)
    for name, data in files.items():
        write_atomic(filesystem, f"{path}/{name}", data)


def _flat(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value
