"""How the shipped photos were made: `python -m mimray.photos.build SOURCE` (kept as a record).

SOURCE is a Parquet copy of `alexeygrigorev/clothing-dataset-small` (CC0) whose shorter side is
128 px. The first rows of each class are taken, resized to a shorter side of 96 px (Lanczos) and
encoded as JPEG, quality 78.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).parent
TAKE = {"train": (88, 3), "val": (12, 1)}  # split: (photos a class, shards)


def shrink(data: bytes, shorter: int = 96) -> bytes:
    """Re-encode a picture so that its shorter side has `shorter` pixels."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = shorter / min(image.size)
    size = (max(shorter, round(image.width * scale)), max(shorter, round(image.height * scale)))
    out = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=78, optimize=True)
    return out.getvalue()


def main(source: Path) -> None:
    """Write `train-*.parquet` and `val-*.parquet` beside this file."""
    for split, (per_class, shards) in TAKE.items():
        table = pa.concat_tables(pq.read_table(f) for f in sorted(source.glob(f"data/{split}-*")))
        taken: dict[int, int] = {}
        rows = []
        for row in table.to_pylist():
            if taken.setdefault(row["label"], 0) < per_class:
                taken[row["label"]] += 1
                rows.append(
                    row | {"image": row["image"] | {"bytes": shrink(row["image"]["bytes"])}}
                )
        for k in range(shards):
            part = pa.Table.from_pylist(rows[k::shards], schema=table.schema)
            path = HERE / f"{split}-{k:05d}-of-{shards:05d}.parquet"
            pq.write_table(
                part,
                path,
                row_group_size=64,
                compression="none",
                write_statistics=False,  # of pictures' bytes, which every job would carry
                use_dictionary=False,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
