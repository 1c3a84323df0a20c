"""What an analysis leaves: its table, its maps, and a child of the pre-training in MLflow."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mimray.evaluate.diagnosis_kinds import Maps, Rows
from mimray.evaluate.frozen import Record
from mimray.tracking import Copy, Head
from mimray.train.parent import parent_of, run_behind, settings_of, store_of, tell_parent

log = logging.getLogger("mimray")


def packed_table(rows: Rows) -> dict[str, bytes]:
    """As `parquet` and `csv`: a column for each name that any row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text, packed = io.StringIO(), io.BytesIO()
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), packed)
    csv.writer(text, lineterminator="\n").writerows(
        [names, *([row.get(name) for name in names] for row in rows)]
    )
    return {"parquet": packed.getvalue(), "csv": text.getvalue().encode()}


def packed_maps(maps: dict[str, Maps]) -> dict[str, bytes]:
    """Each model's arrays as one NumPy file, by model/layer; none where there are none."""
    named = {f"{model}/{layer}": one for model, own in maps.items() for layer, one in own.items()}
    out = io.BytesIO()
    np.savez_compressed(out, **named)  # type: ignore[arg-type]
    return {"maps.npz": out.getvalue()} if named else {}


def versions() -> dict[str, str]:
    """Of what computes."""
    return {name: version(name) for name in ("torch", "timm", "numpy")}


def tell_mlflow(weights: str, label: str, record: Record, files: dict[str, bytes]) -> None:
    """A child of the run behind `weights`, with the files and a few figures, and those for the run itself.

    Says so where MLflow does not take it, and fails nothing. No run, or none in MLflow: nothing to do.
    """
    run = run_behind(weights)
    above = None if run is None else run.record()
    if run is None or above is None or (store := store_of(settings_of(run))) == "off":
        return
    (own,) = (model for model in record["models"] if model["label"] == label)
    scores = {f"analysis/{name}": value for name, value in own["summary"].items()}
    uid = hashlib.sha256(f"{record['name']} {above.get('uid')}".encode()).hexdigest()[:16]
    settings = {"name": record["name"], "model": {"weights": weights}, "run": {"tracking": store}}
    parent = parent_of(settings, {"uid": uid})
    if parent is None:
        return
    head = Head(
        uid=uid,
        uri=store,
        experiment=(settings_of(run).get("run") or {}).get("experiment") or "mimray",
        name=record["name"],
        params=_params(record, own),
        tags={"mimray.kind": "analysis", "mimray.uri": record["uri"]},
        constants={},
        began=record["time"],
        parent=replace(parent, scores=()),
    )
    try:
        copy = Copy(head, None)
        row = {"step": 0, "images": parent.images, "time": record["time"]}
        copy.rows([row | scores])
        for name, data in files.items():
            copy.file(f"figures/{name}" if name.endswith(".png") else name, data)
        copy.close("finished", 0, record["time"])
    except Exception as error:  # MLflow raises of every kind
        reason = (str(error) or type(error).__name__).splitlines()[0]
        log.warning("MLflow at %s does not have %s: %s", store, record["name"], reason)
        return
    if scores:
        tell_parent(weights, scores, record["time"])


def _params(record: Record, own: dict[str, Any]) -> dict[str, str]:
    """Flat, as a recipe's."""
    told = {
        "analysis.kind": record["kind"],
        "analysis.models": ", ".join(model["label"] for model in record["models"]),
        **{f"analysis.{name}": value for name, value in record["options"].items()},
        **{f"data.{name}": record[name] for name in ("data", "split", "pictures", "batch")},
        **{f"model.{name}": own[name] for name in ("encoder", "image_size", "window", "weights")},
    }
    return {name: str(value) for name, value in told.items() if value is not None}
