"""AvgDist against results: a sweep's runs, what they are worth and how far their heads look.

SimMIM (figure 3) draws fine-tuning accuracy over AvgDist: the best masks lie on a ridge of 10 to 20 px at
192 px, whatever their unit and ratio. Dark Secrets of MIM finds shorter attention there. A loss under one
mask says nothing about that under another, so none stands here; where nothing is fine-tuned there is skill.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from mimray.errors import UserError
from mimray.evaluate.score import finetuned_metric
from mimray.evaluate.table_files import Rows
from mimray.settings_errors import nearest
from mimray.shares import labels_share
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.heads import attention_distances
from mimray.train.parent import run_behind, settings_of
from mimray.train.run_folder import RunFolder
from mimray.train.sync import run_folders

SIZE = 192
"""Side in pixels of the pictures for which the paper states its ridge."""
RIDGE = (10.0, 20.0)
"""AvgDist in pixels at that size."""

COLUMNS: dict[str, pa.DataType] = {
    **dict.fromkeys(("run", "status", "encoder"), pa.string()),
    "image_size": pa.int64(),
    "strategy": pa.string(),
    "unit": pa.int64(),
    **dict.fromkeys(("ratio", "hidden_ratio", "avgdist_px", "avgdist_px_at_192"), pa.float64()),
    "on_ridge": pa.bool_(),
    **dict.fromkeys(("top1", "top1_spread"), pa.float64()),
    "top1_scores": pa.list_(pa.float64()),
    "skill": pa.float64(),
    **dict.fromkeys(("attention_distance_px", "attention_distance_px_at_192"), pa.float64()),
}
"""Of a table's rows, one a run. `top1`: mean over fine-tunings, in shares of 1, and their sample standard
deviation; `attention_distance_px`: mean over all heads, in the pixels of the pictures analysed."""


@dataclass(frozen=True)
class Ridge:
    """`rows`: of `COLUMNS`; `finetuned`: the recipe whose fine-tunings stand in `top1`, None where there
    are none; `others`: recipes of those that are left out, for they would not compare."""

    name: str
    storage: str
    rows: Rows
    finetuned: str | None
    others: tuple[str, ...]


def read_ridge(place: str, overrides: Sequence[str], finetuned: str | None = None) -> Ridge:
    """Of a sweep's YAML file, or of all pre-trainings below a folder or URI.

    `finetuned`: the fine-tuning recipe whose runs count, by name; those that most pre-trainings have when
    not given. Raises UserError where there are no such runs.
    """
    if place.endswith((".yaml", ".yml")):
        sweep, cells = load_sweep(place, list(overrides))
        name, runs = sweep.name, [RunFolder.of(cell.recipe) for cell in cells]
        storage = _above(runs[0].uri)
    else:
        if overrides:
            raise UserError(
                f"{overrides[0]!r}: settings go with a sweep's YAML file; {place} is none"
            )
        storage = RunFolder(place).uri
        name, runs = Path(storage).name, run_folders(storage)
        if not runs:
            raise UserError(
                f"{place}: holds no runs; name a folder of runs, or a sweep's YAML file"
            )
    records = [(run, record) for run in runs if (record := run.record()) is not None]
    pretrained = [(run, record) for run, record in records if "mask" in record]
    if not pretrained:
        raise UserError(f"{place}: no pre-training of it has begun; `mimray sweep` runs a sweep")
    chosen, others = _choose(_finetunings(storage, [run for run, _ in pretrained]), finetuned)
    distances = attention_distances(storage)
    rows = [
        _row(run, record, chosen.scores.get(run.uri, []) if chosen else [], distances)
        for run, record in pretrained
    ]
    rows.sort(key=lambda row: (row["avgdist_px_at_192"], row["run"]))
    return Ridge(name, storage, rows, None if chosen is None else chosen.recipe, others)


def _above(uri: str) -> str:
    """What a folder lies in; the options of a URI (`?region=...`) stay at its end."""
    head, mark, options = uri.partition("?")
    return head.rpartition("/")[0] + mark + options


def _row(
    run: RunFolder,
    record: dict[str, Any],
    scores: list[float],
    distances: dict[str, tuple[float, int]],
) -> dict[str, Any]:
    settings = settings_of(run)
    mask, size = settings["mask"], settings["model"]["image_size"]
    distance = record["mask"]["average_distance"]
    at_192 = distance * SIZE / size
    looks, seen_at = distances.get(run.uri, (None, SIZE))
    return {
        "run": record["name"],
        "status": record["status"],
        "encoder": settings["model"]["encoder"],
        "image_size": size,
        "strategy": mask["strategy"],
        "unit": mask["unit"],
        "ratio": mask["ratio"],
        "hidden_ratio": record["mask"]["hidden_ratio"],
        "avgdist_px": distance,
        "avgdist_px_at_192": at_192,
        "on_ridge": RIDGE[0] <= at_192 <= RIDGE[1],
        "top1": statistics.mean(scores) if scores else None,
        "top1_spread": statistics.stdev(scores) if len(scores) > 1 else None,
        "top1_scores": scores,
        "skill": record["final"].get("val/skill") if record["status"] == "finished" else None,
        "attention_distance_px": looks,
        "attention_distance_px_at_192": looks and looks * SIZE / seen_at,
    }


# ----- what they are worth --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finetunings:
    """Runs that differ in nothing but their seed and what they start from. `labels`: as `data.labels`;
    `scores`: top-1 after the last epoch, of the averaged weights where weights were averaged, by the URI of
    the pre-training."""

    recipe: str
    labels: str | None
    scores: dict[str, list[float]]

    @property
    def title(self) -> str:
        """For people."""
        return self.recipe if self.labels is None else f"{self.recipe} (data.labels={self.labels})"


def _finetunings(storage: str, pretrained: Iterable[RunFolder]) -> list[_Finetunings]:
    """Finished ones of whole encoders, beside the pre-trainings: those of most of them first, then those
    with more labels."""
    wanted = {run.uri for run in pretrained}
    found: dict[str, _Finetunings] = {}
    for run in run_folders(storage):
        record = run.record()
        if record is None or record["status"] != "finished" or record.get("kind") != "finetune":
            continue
        final, parent = record["final"], run_behind(record["weights"])
        score = final.get(finetuned_metric(final))
        if parent is None or parent.uri not in wanted or score is None:
            continue
        settings = settings_of(run)
        if settings["model"].get("drop_layers", 0):  # what a part of the encoder is worth
            continue
        labels = settings["data"].get("labels")
        own = _Finetunings(record["recipe"], labels, {})
        found.setdefault(_recipe_alone(settings), own).scores.setdefault(parent.uri, []).append(
            score
        )
    return sorted(
        found.values(),
        key=lambda group: (-len(group.scores), -labels_share(group.labels), group.recipe),
    )


def _recipe_alone(settings: dict[str, Any]) -> str:
    """What must be the same for scores to compare."""
    own = {k: v for k, v in settings.items() if k not in ("run", "speed")}
    own["model"] = {k: v for k, v in own["model"].items() if k != "weights"}
    return yaml.safe_dump(own)


def _choose(
    groups: list[_Finetunings], name: str | None
) -> tuple[_Finetunings | None, tuple[str, ...]]:
    """One group, and what the others are called."""
    recipes = list(dict.fromkeys(group.recipe for group in groups))
    if name is not None and name not in recipes:
        known = nearest(name, recipes) if recipes else "; none of these runs is fine-tuned"
        raise UserError(f"--finetuned {name}: no finished fine-tuning by it{known}")
    chosen = next((g for g in groups if name in (None, g.recipe)), None)
    titles = [group.title for group in groups if group is not chosen]
    same = None if chosen is None else chosen.title
    return chosen, tuple(
        dict.fromkeys(f"{t} with other settings" if t == same else t for t in titles)
    )
