"""How far the heads of a sweep's runs look, as `mimray analyze attention` has found."""

from __future__ import annotations

import json
import re
from typing import Any

from mimray.data.files import join, read_bytes, resolve
from mimray.train.parent import run_behind, settings_of
from mimray.train.run_folder import RunFolder
from mimray.train.sync import run_folders

_CONVENTION = {"class_token": "drop"}  # options of the analyses whose distances compare


def attention_distances(storage: str) -> dict[str, tuple[float, int]]:
    """What `mimray analyze attention` found, by the URI of the run: mean distance in pixels, and the side
    of the pictures it was found on.

    Of the latest step that was analysed, and of its analyses that on most pictures, of these the newest.
    Those that keep the class token, or have another image size or window than the run, measure something
    else and do not count.
    """
    looks = [
        (_step(model["weights"]), record.get("pictures", 0), record["time"], model)
        for record in _analyses(storage)
        for model in record["models"]
    ]
    found: dict[str, tuple[float, int]] = {}
    for *_, model in sorted(looks, key=lambda look: look[:3]):
        run = run_behind(model["weights"])
        distance = model["summary"].get("attention_distance_px")
        if run is not None and distance is not None and _as_trained(model, run):
            found[run.uri] = distance, model["image_size"]
    return found


def _as_trained(model: dict[str, Any], run: RunFolder) -> bool:
    own = settings_of(run)["model"]
    return all(model[name] == own.get(name) for name in ("image_size", "window"))


def _step(weights: str) -> int:
    """Of a run's checkpoint, by its name."""
    named = re.search(r"step-(\d+)", weights.rstrip("/").rpartition("/")[2])
    return int(named[1]) if named else -1


def _analyses(storage: str) -> list[dict[str, Any]]:
    records = []
    for folder in run_folders(join(storage, "analyses")):
        filesystem, path = resolve(join(folder.uri, "result.json"))
        try:
            record = json.loads(read_bytes(filesystem, path) or b"{}")
        except ValueError:  # `mimray analyze` says so to whoever asks for that one
            continue
        if record.get("kind") == "attention" and record["options"] == _CONVENTION:
            records.append(record)
    return records
