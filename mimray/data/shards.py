"""Writing one shard: read, scale down, encode, and put into a Parquet file of the image layout."""

from __future__ import annotations

import io
import json
import mmap
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mimray.data.decode import Unreadable, decode
from mimray.data.exif import ORIENTATION, orientation
from mimray.data.files import sync_folder, write_atomic
from mimray.data.inspect import whole_groups
from mimray.data.prepare import Destination, Plan
from mimray.data.sources import Source
from mimray.errors import RunFailed

_READ = 32  # pictures read at a time, or a row group
_GROUP_BYTES = 64 * 2**20  # a row group ends here, whatever its rows: it is read as a whole
_JPEG_SIDE = 65_500  # pixels, the most that libjpeg writes

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_Row = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """One shard's work. `rows`: int64 (n,), of the source; `labels`: int64 (n,), where it has any.

    `classes`: their names, where the source knows them.
    """

    number: int
    rows: np.ndarray
    labels: np.ndarray | None
    classes: list[str] | None

    def schema(self) -> pa.Schema:
        """The Hugging Face image layout, with the class names where `datasets` looks for them."""
        features: dict[str, object] = {"image": {"_type": "Image"}}
        fields = [("image", _IMAGE)]
        if self.labels is not None:
            fields.append(("label", pa.int64()))
            features["label"] = (
                {"dtype": "int64", "_type": "Value"}
                if self.classes is None
                else {"names": self.classes, "_type": "ClassLabel"}
            )
        return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


@dataclass
class _Tally:
    """What has come of a shard's rows."""

    rows: int = 0
    bytes: int = 0
    source_bytes: int = 0
    resized: int = 0
    left_out: list[dict[str, object]] = field(default_factory=list)


def shrink(data: bytes, shorter_side: int, quality: int) -> bytes:
    """A picture whose shorter side has at most `shorter_side` pixels. Raises Unreadable.

    One that is no larger comes back byte for byte. Others are scaled by Lanczos (antialiased) and
    become JPEGs of three channels; a camera's note of how it was held stays with them.
    """
    pixels = decode(data)
    height, width, _ = pixels.shape
    scale = shorter_side / min(height, width)
    size = (max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale)))
    if scale >= 1 or max(size) > _JPEG_SIDE:
        return data
    exif, out = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation(data)
    note = exif.tobytes() if exif[ORIENTATION] != 1 else b""
    scaled = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    scaled.save(out, "JPEG", quality=quality, exif=note)
    return out.getvalue()


def write_shard(source: Source, destination: Destination, shard: Shard) -> Iterator[int]:
    """Write a shard and then the note that it is complete; yields how many rows are done.

    The same shard gives the same bytes. Rows are read in the source's order, so that a row group is
    read once; those of a shuffled plan wait in memory until all are there. Raises RunFailed where
    something cannot be read or written any more.
    """
    plan, tally = destination.plan, _Tally()
    ascending = np.argsort(shard.rows, kind="stable")
    waiting: list[tuple[int, _Row]] = []
    file = None
    try:
        file = _ShardFile(destination, shard)
        for part in whole_groups(source, shard.rows[ascending], _READ):
            places = ascending[part]
            for place, row in _pictures(source, plan, shard, places, tally):
                if plan.shuffle is None:
                    file.add(row)
                else:
                    waiting.append((place, row))
            yield part.stop
        for _, row in sorted(waiting, key=lambda one: one[0]):
            file.add(row)
        note = asdict(tally) | {"plan": plan.digest, "file_bytes": file.finish()}
        write_atomic(
            destination.filesystem, destination.note_path(shard.number), json.dumps(note).encode()
        )
    except (OSError, pa.ArrowException) as error:
        path = destination.shard_path(shard.number)
        raise RunFailed(f"{path}: cannot be written: {str(error).splitlines()[0]}") from None
    finally:
        if file is not None:
            file.discard()


def _pictures(
    source: Source, plan: Plan, shard: Shard, places: np.ndarray, tally: _Tally
) -> Iterator[tuple[int, _Row]]:
    """The rows of some places of a shard, with their places; what cannot be read is tallied."""
    rows = shard.rows[places]
    for place, row, data in zip(places.tolist(), rows.tolist(), source.read(rows), strict=True):
        tally.source_bytes += len(data)
        out = data
        if plan.shorter_side is not None:
            assert plan.quality is not None
            try:
                out = shrink(data, plan.shorter_side, plan.quality)
            except Unreadable as error:
                name = source.name(row)
                tally.left_out.append({"row": row, "name": name, "reason": error.reason})
                continue
        tally.rows += 1
        tally.bytes += len(out)
        tally.resized += out is not data
        picture: _Row = {"image": {"bytes": out, "path": source.name(row)}}
        yield place, picture if shard.labels is None else picture | {"label": shard.labels[place]}


class _ShardFile:
    """A Parquet file under way, which gets its name when it is whole.

    Until then it has another name; one for a store lies among this host's temporary files, without
    a name, and is written in one go. Not compressed and without dictionaries or
    statistics: the bytes are compressed pictures, all different.
    """

    def __init__(self, destination: Destination, shard: Shard) -> None:
        self.destination, self.schema = destination, shard.schema()
        self.path = destination.shard_path(shard.number)
        name = f"{destination.plan.name(shard.number)}.{secrets.token_hex(4)}.part"
        self.part = Path(destination.notes) / name
        self.rows: list[_Row] = []
        self.bytes = 0
        self.file = open(self.part, "x+b") if destination.local else tempfile.TemporaryFile()  # noqa: SIM115
        self.writer = pq.ParquetWriter(
            self.file,
            self.schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        )

    def add(self, row: _Row) -> None:
        """Add a row; a row group is written when it is full."""
        self.rows.append(row)
        self.bytes += len(row["image"]["bytes"])
        if len(self.rows) >= self.destination.plan.row_group_size or self.bytes >= _GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        table = pa.Table.from_pylist(self.rows, self.schema)
        self.writer.write_table(table, row_group_size=len(self.rows))
        self.rows, self.bytes = [], 0

    def finish(self) -> int:
        """Write what is left and put the file in its place; returns its size in bytes."""
        if self.rows:
            self._write_group()
        self.writer.close()
        self.file.flush()
        size = self.file.tell()
        if self.destination.local:
            os.fsync(self.file.fileno())
            self.part.replace(self.path)
            sync_folder(Path(self.path).parent)
        else:
            self._store()
        return size

    def _store(self) -> None:
        """One call writes all, so that no signal comes between: closing an object makes it appear."""
        with (
            mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
            self.destination.filesystem.open_output_stream(self.path) as stream,
        ):
            stream.write(whole)

    def discard(self) -> None:
        """Remove what is not whole; a shard that stands, of this writer or another, stays."""
        with suppress(OSError, pa.ArrowException):
            self.writer.close()
        with suppress(OSError):
            self.file.close()
        if self.destination.local:
            self.part.unlink(missing_ok=True)
