"""A table's file as rows of cells: CSV, Parquet, or either of them in a study's folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimray.errors import UserError

_PARTED_BY = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class Row:
    """A row's cells by the header's names. `where`: `line 2` of a CSV file, `row 1` of a Parquet file."""

    where: str
    cells: Mapping[str, Any]


def find_table(place: str) -> Path:
    """The file that is meant. Raises UserError where there is none, or one of another kind."""
    path = Path(place).expanduser().absolute()
    if path.is_dir():
        for name in ("table.parquet", "table.csv"):
            if (path / name).is_file():
                return path / name
        raise UserError(f"{path}: holds neither table.parquet nor table.csv; is it a study?")
    if not path.is_file():
        raise UserError(f"{path}: no such table; give a .csv or .parquet file, or a study's folder")
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path}: a table ends in .csv or .parquet")
    return path


def read_rows(file: Path) -> tuple[list[str], list[Row]]:
    """The header and the rows. Raises UserError where the file is not what its name says, has no header,
    is not parted by commas, or has a row with more cells than its header."""
    return _parquet(file) if file.suffix == ".parquet" else _csv(file)


def _csv(file: Path) -> tuple[list[str], list[Row]]:
    try:
        reader = csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig")))
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a CSV file: {error}") from None
    if not lines:
        raise UserError(f"{file}: is empty; its first line names the columns, each other is a run")
    (_, header), *rest = lines
    if len(header) == 1 and (mark := next((m for m in _PARTED_BY if m in header[0]), None)):
        raise UserError(
            f"{file}: its columns are parted by {_PARTED_BY[mark]}; "
            "save it with commas between columns and points in numbers"
        )
    for line, cells in rest:
        if len(cells) > len(header):
            raise UserError(
                f"{file}: line {line}: has {len(cells)} cells for {len(header)} columns; "
                "put a value that has a comma in it in quotes"
            )
    return header, [
        Row(f"line {line}", dict(zip(header, cells, strict=False))) for line, cells in rest
    ]


def _parquet(file: Path) -> tuple[list[str], list[Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: not a Parquet file: {' '.join(str(error).split())}") from None
    rows = enumerate(table.to_pylist(), start=1)
    return table.column_names, [Row(f"row {number}", cells) for number, cells in rows]
