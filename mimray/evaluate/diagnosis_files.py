"""What an analysis leaves beside its tables: maps, and what MLflow shows of it."""

from __future__ import annotations

import io
from importlib.metadata import version
from typing import Any

import numpy as np

from mimray.evaluate.diagnosis_kinds import Maps
from mimray.evaluate.frozen import Record
from mimray.train.parent import Finding

MAPS = "maps.npz"


def packed_maps(maps: dict[str, Maps]) -> dict[str, bytes]:
    """Each model's arrays as one NumPy file, by model/layer; none where there are none."""
    named = {f"{model}/{layer}": one for model, own in maps.items() for layer, one in own.items()}
    out = io.BytesIO()
    np.savez_compressed(out, **named)  # type: ignore[arg-type]
    return {MAPS: out.getvalue()} if named else {}


def unpacked_maps(data: bytes) -> dict[str, Maps]:
    """What `packed_maps` was given."""
    maps: dict[str, Maps] = {}
    with np.load(io.BytesIO(data)) as named:
        for name in named.files:
            model, _, layer = name.rpartition("/")
            maps.setdefault(model, {})[layer] = named[name]
    return maps


def versions() -> dict[str, str]:
    """Of what computes."""
    return {name: version(name) for name in ("torch", "timm", "numpy")}


def finding_of(record: Record, label: str, files: dict[str, bytes]) -> Finding:
    """What MLflow is to show below the run that one of the models is of."""
    (own,) = (model for model in record["models"] if model["label"] == label)
    return Finding(
        kind="analysis",
        name=record["name"],
        uri=record["uri"],
        time=record["time"],
        params=_params(record, own),
        scores={f"analysis/{name}": value for name, value in own["summary"].items()},
        files={
            f"figures/{name}" if name.endswith(".png") else name: data
            for name, data in files.items()
        },
    )


def _params(record: Record, own: dict[str, Any]) -> dict[str, Any]:
    """Flat, as a recipe's."""
    return {
        "analysis.kind": record["kind"],
        "analysis.models": ", ".join(model["label"] for model in record["models"]),
        **{f"analysis.{name}": value for name, value in record["options"].items()},
        **{f"data.{name}": record[name] for name in ("data", "split", "pictures", "batch")},
        **{f"model.{name}": own[name] for name in ("encoder", "image_size", "window", "weights")},
    }
