"""The run that another one starts from: found behind `model.weights`, and told what became of it.

MLflow shows a fine-tuning below the pre-training that it starts from, and the pre-training's own page
shows what it was worth. As everything of MLflow, this is a copy: whatever it lacks, no run fails for it.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import yaml

from mimray.data.subset import share
from mimray.errors import UserError
from mimray.tracking import Parent, absolute_store, add_scores, default_uri
from mimray.train.run_folder import RunFolder

log = logging.getLogger("mimray")

CELL = "transfer-"
"""Begins the names of the recipes of a suite's cells, whose scores reach the pre-training as means."""

_DEEP = 3  # folders from a file of weights up to its run: step-00000125, checkpoints, the run


def settings_of(run: RunFolder) -> dict[str, Any]:
    """`recipe.yaml` as plain YAML, for the run may be of an older mimray; empty where there is none."""
    settings = yaml.safe_load(run.read("recipe.yaml") or b"{}")
    return settings if isinstance(settings, dict) else {}


def store_of(settings: dict[str, Any]) -> str:
    """MLflow's address of a run with these settings, or `off`."""
    tracking = (settings.get("run") or {}).get("tracking")
    return "off" if tracking == "off" else absolute_store(tracking or default_uri())


def run_behind(weights: str | None) -> RunFolder | None:
    """The run of mimray that a setting of `model.weights` names: it, a checkpoint of it, or a file of
    one; None where the weights are no run's."""
    path = None if weights is None else Path(weights).expanduser().absolute()
    if path is None:
        return None
    for place in (path, *path.parents[:_DEEP]):
        if (place / "run.json").is_file():
            run = RunFolder(str(place))
            try:
                return run if run.record() is not None else None
            except UserError:  # somebody else's
                return None
    return None


def parent_of(settings: dict[str, Any], record: dict[str, Any]) -> Parent | None:
    """The run that one with these settings and this record starts from, where both are in one MLflow.

    A run that was given an experiment of its own is left in it, and has no parent in another.
    """
    run = run_behind((settings.get("model") or {}).get("weights"))
    above = None if run is None else run.record()
    if run is None or above is None or above.get("uid") == record["uid"]:
        return None
    own, theirs = ((s.get("run") or {}).get("experiment") for s in (settings, settings_of(run)))
    if own not in (None, "mimray", theirs) or store_of(settings) != store_of(settings_of(run)):
        return None
    name = str(settings.get("name"))
    labels = (settings.get("data") or {}).get("labels")
    scores = () if name.startswith(CELL) else ("top1",)
    return _parent(run, above, scores, of_labels(labels))


def tell_parent(weights: str, scores: dict[str, float], when: float) -> None:
    """Give the run behind `weights` metrics that were found `when`; twice is once.

    Says so where MLflow does not take them, and fails nothing. No run, or none in MLflow: nothing to do.
    """
    run = run_behind(weights)
    record = None if run is None else run.record()
    if run is None or record is None:
        return
    parent, uri = _parent(run, record), store_of(settings_of(run))
    if parent is None or uri == "off":
        return
    try:
        add_scores(uri, parent, scores, when)
    except Exception as error:  # MLflow raises of every kind
        reason = (str(error) or type(error).__name__).splitlines()[0]
        log.warning("MLflow at %s does not have %s: %s", uri, ", ".join(scores), reason)


def labels_share(labels: str | None) -> float:
    """The share of labels that `--labels` or `data.labels` means, 1 for all; NaN where it is none."""
    fraction = 1.0 if labels is None else share(labels)
    return math.nan if fraction is None else fraction


def of_labels(labels: str | None) -> str:
    """The end of a metric's name in MLflow: scores with fewer labels are no scores with all of them."""
    fraction = labels_share(labels)
    return "" if fraction == 1.0 else f"_labels_{fraction:g}"


def _parent(
    run: RunFolder, record: dict[str, Any], scores: tuple[str, ...] = (), ending: str = ""
) -> Parent | None:
    """As MLflow knows a run; None where it never answered."""
    run_id = record.get("mlflow_run_id")
    batch = (settings_of(run).get("optim") or {}).get("batch", 1)
    return Parent(run_id, record["steps"] * int(batch), scores, ending) if run_id else None
