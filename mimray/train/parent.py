"""The run that another one starts from: found behind `model.weights`, and told what became of it.

MLflow shows a fine-tuning below the pre-training that it starts from, and the pre-training's own page
shows what it was worth. As everything of MLflow, this is a copy: whatever it lacks, no run fails for it.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pyarrow import fs

from mimray.environment import start_folder
from mimray.errors import UserError
from mimray.shares import of_labels
from mimray.tracking import Copy, Head, Parent, absolute_store, add_scores, default_uri, reason
from mimray.train.run_folder import RunFolder

log = logging.getLogger("mimray")

CELL = "transfer-"
"""Begins the names of the recipes of a suite's cells, whose scores reach the pre-training as means."""

_PATH_OR_SCHEME = re.compile(r"[/.~]|[a-z][a-z0-9+-]*:(?!\d+(/|$))")  # and no host:5000
_DEEP = 3  # folders from a file of weights up to its run: step-00000125, checkpoints, the run


def settings_of(run: RunFolder) -> dict[str, Any]:
    """`recipe.yaml` as plain YAML, for the run may be of an older mimray; empty where there is none."""
    settings = yaml.safe_load(run.read("recipe.yaml") or b"{}")
    return settings if isinstance(settings, dict) else {}


def store_of(settings: dict[str, Any]) -> str:
    """MLflow's address of a run with these settings, or `off`."""
    tracking = (settings.get("run") or {}).get("tracking")
    return "off" if tracking == "off" else absolute_store(tracking or default_uri())


def check_address(tracking: str | None) -> None:
    """Raises UserError for what is neither an address nor a file, like mlflow.example.org: MLflow would
    make a folder of that name."""
    if tracking in (None, "off", "databricks") or "://" in tracking:
        return
    if not _PATH_OR_SCHEME.match(tracking) and not (start_folder() / tracking).exists():
        scheme = "http" if tracking.startswith(("localhost", "127.")) else "https"
        raise UserError(
            f"run.tracking={tracking}: is neither an address nor a file; write "
            f"run.tracking={scheme}://{tracking} for a server, or run.tracking=off"
        )


def run_behind(weights: str | None) -> RunFolder | None:
    """The run of mimray that a setting of `model.weights` names: it, a checkpoint of it, or a file of
    one; None where the weights are no run's."""
    if weights is None:
        return None
    for place in _upwards(weights):
        try:
            run = RunFolder(place)
            if run.filesystem.get_file_info(run.file("run.json")).type == fs.FileType.File:
                return run if run.record() is not None else None
        except (UserError, OSError):  # somebody else's
            return None
    return None


def _upwards(weights: str) -> list[str]:
    """A path or URI, and the folders that it lies in, as far up as a run may be."""
    if "://" not in weights:
        path = Path(weights).expanduser().absolute()
        return [str(place) for place in (path, *path.parents[:_DEEP])]
    head, mark, options = weights.partition("?")
    scheme, _, path_in_store = head.rstrip("/").partition("://")
    parts = path_in_store.split("/")
    depths = range(len(parts), max(1, len(parts) - _DEEP - 1), -1)  # a bucket is no run
    return [f"{scheme}://{'/'.join(parts[:depth])}{mark}{options}" for depth in depths]


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
    known = _in_mlflow(weights)
    if known is None:
        return
    parent, uri, _ = known
    try:
        add_scores(uri, parent, scores, when)
    except Exception as error:  # MLflow raises of every kind
        _say_what_is_missing(uri, ", ".join(scores), error)


class Finding(NamedTuple):
    """What was found out about a run, to be shown below it in MLflow as a run of its own.

    `kind`: its tag there; `name`, `uri`: of its folder; `time`: when it was found; `scores`: metrics of
    both; `files`: artifacts by name.
    """

    kind: str
    name: str
    uri: str
    time: float
    params: dict[str, Any]
    scores: dict[str, float]
    files: dict[str, bytes]


def tell_finding(weights: str, found: Finding) -> None:
    """Show it below the run behind `weights`, and tell that run its scores; twice is once.

    Says so where MLflow does not take it, and fails nothing. No run, or none in MLflow: nothing to do.
    """
    known = _in_mlflow(weights)
    if known is None:
        return
    parent, uri, experiment = known
    head = Head(
        uid=hashlib.sha256(f"{found.name} {parent.run_id}".encode()).hexdigest()[:16],
        uri=uri,
        experiment=experiment,
        name=found.name,
        params={name: str(value) for name, value in found.params.items() if value is not None},
        tags={"mimray.kind": found.kind, "mimray.uri": found.uri},
        constants={},
        began=found.time,
        parent=parent,
    )
    row: dict[str, Any] = {"step": 0, "images": parent.images, "time": found.time}
    try:
        copy = Copy(head, None)
        copy.rows([row | found.scores])
        for name, data in found.files.items():
            copy.file(name, data)
        copy.close("finished", 0, found.time)
        add_scores(uri, parent, found.scores, found.time)
    except Exception as error:  # MLflow raises of every kind
        _say_what_is_missing(uri, found.name, error)


def _say_what_is_missing(uri: str, what: str, error: Exception) -> None:
    log.warning("MLflow at %s does not have %s: %s", uri, what, reason(error))


def _in_mlflow(weights: str) -> tuple[Parent, str, str] | None:
    """The run behind `weights` as MLflow knows it, MLflow's address and the run's experiment; None where
    there is no such run, or MLflow never answered it."""
    run = run_behind(weights)
    record = None if run is None else run.record()
    if run is None or record is None:
        return None
    settings, parent = settings_of(run), _parent(run, record)
    uri = store_of(settings)
    if parent is None or uri == "off":
        return None
    return parent, uri, (settings.get("run") or {}).get("experiment") or "mimray"


def _parent(
    run: RunFolder, record: dict[str, Any], scores: tuple[str, ...] = (), ending: str = ""
) -> Parent | None:
    """As MLflow knows a run; None where it never answered."""
    run_id = record.get("mlflow_run_id")
    batch = (settings_of(run).get("optim") or {}).get("batch", 1)
    return Parent(run_id, record["steps"] * int(batch), scores, ending) if run_id else None
