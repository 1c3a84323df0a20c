"""Subsets of a source: a share of its rows, or some of its classes, as a manifest that names them.

The data-scaling paper trains on 10, 20 and 50 % of ImageNet-1K and on 100 of its classes. Shares of
the same seed nest: 10 % lies inside 20 %.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mimray.data.files import read_bytes, resolve, write_atomic
from mimray.data.rowset import RowSet
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.hashing import Purpose, key
from mimray.settings_errors import nearest
from mimray.shares import share

_PARTS = 20_000  # files that a manifest lists one by one; more are listed by folder


def choose(
    source: Source,
    fraction: float = 1.0,
    seed: int = 0,
    stratified: bool = False,
    classes: list[str] | None = None,
) -> RowSet:
    """Rows whose hash of (seed, row) is smallest: `fraction` of all, of each class, or of `classes`.

    Raises UserError where classes are asked for that the source does not tell.
    """
    if not 0.0 < fraction <= 1.0:
        raise UserError(f"a share of {fraction:g} is none; write it like 10% or 0.1, at most 1")
    if not stratified and classes is None:
        return RowSet.smallest(len(source), round(fraction * len(source)), Purpose.SUBSET, seed)
    labels = source.labels()
    if labels is None:
        raise UserError(f"{source.uri}: has no labels, which --stratified and --classes go by")
    wanted = np.unique(labels) if classes is None else _numbers(source, labels, classes)
    members = [np.flatnonzero(labels == c) for c in wanted]
    if not stratified:
        members = [np.concatenate(members)]
    taken = []
    for rows in members:
        by_hash = np.argsort(key(Purpose.SUBSET, seed, rows), kind="stable")
        least = 1 if stratified and len(rows) else 0  # a class without pictures cannot be learned
        taken.append(rows[by_hash[: max(least, round(fraction * len(rows)))]])
    return RowSet.of(np.concatenate(taken), len(source))


def _numbers(source: Source, labels: np.ndarray, classes: list[str]) -> list[int]:
    """Labels of classes given by name, or by number where the source has no names."""
    known = source.classes or [str(c) for c in np.unique(labels[labels >= 0])]
    for name in classes:
        if name not in known:
            raise UserError(f"--classes: no class {name!r} in {source.uri}{nearest(name, known)}")
    numbers = {name: c for c, name in enumerate(known)} if source.classes else None
    return [numbers[name] if numbers else int(name) for name in classes]


def read_classes(path: str) -> list[str]:
    """The first word of every line of a class list; empty lines and what follows # are nothing."""
    try:
        lines = Path(path).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes {path}: cannot be read: {error}") from None
    names = [words[0] for line in lines if (words := line.partition("#")[0].split())]
    if not names:
        raise UserError(f"--classes {path}: names no class; write one a line")
    return list(dict.fromkeys(names))


def digest(rows: RowSet) -> str:
    """Hex digest of which rows a set holds."""
    return hashlib.sha256(rows.bits.tobytes()).hexdigest()[:16]


def write_manifest(path: str, source: Source, rows: RowSet, how: dict[str, Any]) -> None:
    """Write a Parquet file of row ids; its metadata name the source, its files, and `how`."""
    about = {
        "source": {"uri": source.uri, "digest": source.digest, "rows": len(source)},
        "parts": _parts(source),
        "subset": {"rows": len(rows), "digest": digest(rows), **how},
    }
    schema = pa.schema([("row", pa.int64())], {"mimray": json.dumps(about)})
    data = io.BytesIO()
    with pq.ParquetWriter(
        data,
        schema,
        compression="zstd",
        column_encoding={"row": "DELTA_BINARY_PACKED"},
        use_dictionary=False,
    ) as writer:
        for piece in rows.pieces():
            writer.write_table(pa.table({"row": piece}, schema))
    write_atomic(*resolve(path), data.getvalue())


def read_manifest(path: str, source: Source) -> RowSet:
    """The rows that a manifest names. Raises UserError if it is none, or of other data than `source`.

    Where files of the source have changed since, the first of them is named.
    """
    try:
        data = read_bytes(*resolve(path))
        if data is None:
            raise UserError(f"data.subset={path}: no such file; a share is written like 10% or 0.1")
        file = pq.ParquetFile(io.BytesIO(data))
        about = json.loads((file.schema_arrow.metadata or {})[b"mimray"])
        size, expected = about["source"]["rows"], about["subset"]["digest"]
        pieces = (part.column("row").to_numpy() for part in file.iter_batches(columns=["row"]))
        rows = RowSet.of_pieces(pieces, size)
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):
        raise UserError(
            f"data.subset={path}: not a manifest, or damaged; `mimray data subset` writes them"
        ) from None
    if digest(rows) != expected:
        raise UserError(
            f"data.subset={path}: damaged, its rows are not those written; write it again"
        )
    if about["source"]["digest"] != source.digest:
        raise UserError(
            f"data.subset={path}: written for other data ({about['source']['uri']}) than {source.uri} "
            f"holds now: {_difference(about, source)}"
        )
    return rows


def select(setting: str, source: Source) -> RowSet:
    """The rows that `data.subset` means: a share like `10%` (of seed 0), or a manifest's."""
    fraction = share(setting)
    if math.isnan(fraction):
        return read_manifest(setting, source)
    if not 0.0 < fraction <= 1.0:
        raise UserError(
            f"data.subset={setting} is not a share; write it like 10% or 0.1, above 0 and at most all"
        )
    return choose(source, fraction)


def _parts(source: Source) -> list[tuple[str, int, int]]:
    """(path, bytes, rows) of the source's files, or of its folders where there are many."""
    parts = source.parts()
    if len(parts) <= _PARTS:
        return parts
    folders = groupby(parts, key=lambda part: part[0].rpartition("/")[0])
    return [
        (f"{name}/", sum(size for _, size, _ in inside), sum(rows for _, _, rows in inside))
        for name, files in folders
        for inside in [list(files)]
    ]


def _difference(about: dict[str, Any], source: Source) -> str:
    """The first file that is not what it was, in words."""
    then = {name: (size, rows) for name, size, rows in about["parts"]}
    now = {name: (size, rows) for name, size, rows in _parts(source)}
    for name, (size, rows) in then.items():
        if name not in now:
            return f"{name} is gone"
        if now[name] != (size, rows):
            is_now = now[name]
            return f"{name} had {rows} picture(s), {size} bytes, and has {is_now[1]}, {is_now[0]}"
    new = next((name for name in now if name not in then), None)
    return f"{new} is new" if new else "its files hold other pictures"
