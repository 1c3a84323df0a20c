"""MLflow: the only file that imports it.

The run folder is the truth; MLflow has a copy for its pages that compare. A request that failed may
have been carried out all the same, so how far the copy is gets read from MLflow, never remembered:
the metric `step` goes with every row, and its last value is that of the last row that arrived.
"""

from __future__ import annotations

import io
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimray.environment import project_folder, start_folder

_PARAMS_A_BATCH = 100  # MLflow's limits
_METRICS_A_BATCH = 1000
_PARAM_LENGTH = 6000
_NO_METRICS = ("position", "attempt", "images", "time")  # `images` is the axis
_STATUS = {"finished": "FINISHED", "failed": "FAILED"}  # all else did not come to its end: KILLED
_PARENT = "mlflow.parentRunId"  # by which MLflow's pages lay a run under another
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # pages for runs, not for chats


def default_uri() -> str:
    """A sqlite file in the project's folder, by absolute path (workers run elsewhere)."""
    return f"sqlite:///{project_folder() / 'mlflow.db'}"


def absolute_store(uri: str) -> str:
    """A sqlite address with its path made absolute: `sqlite:///mlflow.db` is relative otherwise."""
    path = uri.removeprefix("sqlite:///")
    return f"sqlite:///{start_folder() / path}" if path != uri else uri


@dataclass(frozen=True)
class Parent:
    """The run that another one starts from, in the same MLflow.

    `run_id`: MLflow's. `images`: how many pictures it had seen in the end, the step of what is told to it.
    `scores`: what its child tells it when it is finished, by the names that they have there; `ending`: of
    the names that they get.
    """

    run_id: str
    images: int
    scores: tuple[str, ...] = ()
    ending: str = ""


@dataclass(frozen=True)
class Head:
    """What a run opens with in MLflow.

    `uid`: the run's own name for all times, by which it is found again. `uri`: MLflow's address, or
    `off`. `constants`: metrics that stand at step 0. `began`: in seconds since 1970; now, when None.
    `parent`: the run lies under it, in its experiment, where MLflow has it.
    """

    uid: str
    uri: str
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    constants: dict[str, float]
    began: float | None = None
    parent: Parent | None = None


class Copy:
    """A run's copy in MLflow, found or, once, created.

    Every method raises whatever MLflow does; then another Copy must be made, which looks how far the
    first one came. `run_id`: MLflow's, of an earlier time, or None. `delivered`: the optimiser step
    of the last row that MLflow has, or -1.
    """

    def __init__(self, head: Head, run_id: str | None) -> None:
        from mlflow import MlflowClient

        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        self._client = MlflowClient(tracking_uri=head.uri)
        self._head = head
        above = None if head.parent is None else self._known(head.parent.run_id)
        self._parent = None if above is None else head.parent
        # MLflow's pages show children of one experiment only
        self._experiment_id = self._experiment() if above is None else above.info.experiment_id
        run = self._known(run_id) or next(iter(self._found()), None) or self._create()
        self.run_id = str(run.info.run_id)
        self._status = run.info.status
        self.delivered = int(run.data.metrics.get("step", -1))
        self._complete(run)

    # ----- finding --------------------------------------------------------------------------------

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name, place = self._head.experiment, None
        if self._head.uri.startswith("sqlite:"):  # its default place is relative to each process
            store = Path(self._head.uri.removeprefix("sqlite:///"))
            place = (store.parent / "mlartifacts").as_uri()
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(self._client.create_experiment(name, place, _TRAINING))
            except MlflowException as error:  # made by another run, a moment ago
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            known = self._client.get_experiment_by_name(name)
            assert known is not None
        return str(known.experiment_id)

    def _known(self, run_id: str | None) -> Any:
        """The run of that id, or None if MLflow has lost it or somebody deleted it there."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run and run.info.lifecycle_stage == "active" else None

    def _found(self) -> list[Any]:
        """MLflow's runs of this uid: one, or several where a lost answer had a request repeated."""
        wanted = f"tags.`mimray.uid` = '{self._head.uid}'"
        return list(self._client.search_runs([self._experiment_id], wanted))

    def _create(self) -> Any:
        began = None if self._head.began is None else int(self._head.began * 1000)
        tags = self._head.tags | {"mimray.uid": self._head.uid}
        if self._parent is not None:
            tags |= {_PARENT: self._parent.run_id}
        return self._client.create_run(self._experiment_id, began, tags, self._head.name)

    def _complete(self, run: Any) -> None:
        """Send what lacks of params and constants. Their times are the run's: sent twice is once."""
        from mlflow.entities import Metric, Param

        constants = [
            Metric(name, value, run.info.start_time, 0)
            for name, value in self._head.constants.items()
            if name not in run.data.metrics and _finite(value)
        ]
        if constants:
            self._client.log_batch(self.run_id, metrics=constants)
        if self._parent is not None and _PARENT not in run.data.tags:  # it was not known then
            self._client.set_tag(self.run_id, _PARENT, self._parent.run_id)
        params = [
            Param(name, value[:_PARAM_LENGTH])
            for name, value in self._head.params.items()
            if name not in run.data.params
        ]
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(self.run_id, params=params[start : start + _PARAMS_A_BATCH])

    # ----- writing --------------------------------------------------------------------------------

    def reopen(self) -> None:
        """Say that the run goes on."""
        if self._status != "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")

    def rename(self, name: str) -> None:
        """Give the run a name that tells it from its neighbours on MLflow's pages."""
        self._client.update_run(self.run_id, name=name)

    def rows(self, rows: Iterable[dict[str, Any]]) -> int:
        """Send rows of `metrics.jsonl` after the last one that MLflow has; returns how many.

        A row arrives as a whole or not at all. MLflow has its `images` as the step.
        """
        sent = 0
        for part in _batches(self._fresh(rows)):
            self._client.log_batch(self.run_id, metrics=[m for row in part for m in _metrics(row)])
            self.delivered = part[-1]["step"]
            sent += len(part)
        return sent

    def _fresh(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows whose step is higher than of all before: steps trained again are not sent again."""
        last = self.delivered
        for row in rows:
            if row["step"] > last:
                last = row["step"]
                yield row

    def picture(self, png: bytes, key: str, images: int) -> None:
        """Log a picture that MLflow shows with a slider over steps. A second time, it is there twice."""
        from PIL import Image

        self._client.log_image(self.run_id, Image.open(io.BytesIO(png)), key=key, step=images)

    def file(self, name: str, data: bytes) -> None:
        """Log a file under its name, `figures/loss.png`; one that is there is written over."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(name).name
            file.write_bytes(data)
            self._client.log_artifact(self.run_id, str(file), name.rpartition("/")[0] or None)

    def close(self, status: str, not_finite: int, ended: float) -> None:
        """Say how the run ended, by the status in its `run.json`, and when (seconds since 1970)."""
        if not_finite:
            self._client.set_tag(self.run_id, "mimray.not_finite", str(not_finite))
        if status == "finished":
            self._tell_parent()
        self._client.set_terminated(
            self.run_id, _STATUS.get(status, "KILLED"), end_time=int(ended * 1000)
        )
        for run in self._found():  # created by a request that was given up, and came late
            if run.info.run_id != self.run_id and not run.data.metrics:
                self._client.delete_run(run.info.run_id)

    def _tell_parent(self) -> None:
        """Give the parent the last and the best of what it is told; sent twice, it is there once."""
        parent = self._parent
        if parent is None or self._known(parent.run_id) is None:  # or somebody deleted it meanwhile
            return
        for name in parent.scores:
            points = self._client.get_metric_history(self.run_id, f"val/{name}")
            if points:
                last = max(points, key=lambda point: int(point.step))
                scores = {
                    f"finetune/{name}{parent.ending}": last.value,
                    f"finetune/{name}_best{parent.ending}": max(point.value for point in points),
                }
                _add(self._client, parent, scores, last.timestamp)


def add_scores(uri: str, parent: Parent, scores: dict[str, float], when: float) -> None:
    """Metrics for a run that MLflow has, found `when` (seconds since 1970).

    The same ones a second time are there once. Raises whatever MLflow does.
    """
    from mlflow import MlflowClient

    _add(MlflowClient(tracking_uri=uri), parent, scores, int(when * 1000))


def _add(client: Any, parent: Parent, scores: dict[str, float], milliseconds: int) -> None:
    """MLflow takes a value with the time and step of one that it has for that very one."""
    from mlflow.entities import Metric

    metrics = [Metric(name, value, milliseconds, parent.images) for name, value in scores.items()]
    client.log_batch(parent.run_id, metrics=metrics)


def reason(error: Exception) -> str:
    """What MLflow raised, in a line."""
    if getattr(error, "error_code", None) == "UNAUTHENTICATED":
        return (
            "it does not know this user and password; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    return (str(error) or type(error).__name__).splitlines()[0]


def count_not_finite(rows: Iterable[dict[str, Any]]) -> int:
    """How many values of rows MLflow cannot show; in `metrics.jsonl` they are null."""
    return sum(1 for row in rows for value in row.values() if value is None)


def _metrics(row: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(name, value, int(row["time"] * 1000), row["images"])
        for name, value in row.items()
        if name not in _NO_METRICS and _finite(value)
    ]


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many whole rows at a time as MLflow takes metrics."""
    part: list[dict[str, Any]] = []
    metrics = 0
    for row in rows:
        if part and metrics + len(row) > _METRICS_A_BATCH:
            yield part
            part, metrics = [], 0
        part.append(row)
        metrics += len(row)
    if part:
        yield part


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
