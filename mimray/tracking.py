"""MLflow: the only file that imports it.

The run folder is the truth; MLflow has a copy for its pages that compare. A request that failed may
have been carried out all the same, so how far the copy is gets read from MLflow, never remembered:
the metric `step` goes with every row, and its last value is that of the last row that arrived.
"""

from __future__ import annotations

import io
import logging
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mimray.environment import project_folder, start_folder

_PARAMS_A_BATCH = 100  # MLflow's limits
_METRICS_A_BATCH = 1000
_PARAM_LENGTH = 6000
_NO_METRICS = ("position", "attempt", "images", "time")  # `images` is the axis
_STATUS = {"finished": "FINISHED", "failed": "FAILED"}  # all else did not come to its end: KILLED


def default_uri() -> str:
    """A sqlite file in the project's folder, by absolute path (workers run elsewhere)."""
    return f"sqlite:///{project_folder() / 'mlflow.db'}"


def absolute_store(uri: str) -> str:
    """A sqlite address with its path made absolute: `sqlite:///mlflow.db` is relative otherwise."""
    path = uri.removeprefix("sqlite:///")
    return f"sqlite:///{start_folder() / path}" if path != uri else uri


@dataclass(frozen=True)
class Head:
    """What a run opens with in MLflow.

    `uid`: the run's own name for all times, by which it is found again. `uri`: MLflow's address, or
    `off`. `constants`: metrics that stand at step 0. `began`: in seconds since 1970; now, when None.
    """

    uid: str
    uri: str
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    constants: dict[str, float]
    began: float | None = None


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
        self._experiment_id = self._experiment()
        run = self._known(run_id) or next(iter(self._found()), None) or self._create()
        self.run_id = str(run.info.run_id)
        self._status = run.info.status
        self.delivered = int(run.data.metrics.get("step", -1))
        self._complete(run)

    # ----- finding --------------------------------------------------------------------------------

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(self._head.experiment)
        if known is not None:
            return str(known.experiment_id)
        place = None
        if self._head.uri.startswith("sqlite:"):  # its default place is relative to each process
            store = Path(self._head.uri.removeprefix("sqlite:///"))
            place = (store.parent / "mlartifacts").as_uri()
        return str(self._client.create_experiment(self._head.experiment, place))

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
        self._client.set_terminated(
            self.run_id, _STATUS.get(status, "KILLED"), end_time=int(ended * 1000)
        )
        for run in self._found():  # created by a request that was given up, and came late
            if run.info.run_id != self.run_id and not run.data.metrics:
                self._client.delete_run(run.info.run_id)


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


def serve(uri: str | None, host: str, port: int) -> NoReturn:
    """Become MLflow's own server over the store, so that signals reach it."""
    artifacts = project_folder() / "mlartifacts"
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", absolute_store(uri or default_uri())),
        *("--artifacts-destination", artifacts.as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]
    # Its job runner executes code for whoever reaches the port; comparing runs needs none of it.
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(sys.executable, command, quiet)  # noqa: S606


# --- until mimray/train/driver.py uses mimray.train.tracker; then this is deleted to the end -------

import queue  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

log = logging.getLogger("mimray")
_RETRY_SECONDS = 5.0
_LAST_WORDS_SECONDS = 20.0
_DISPENSABLE = ("head", "picture", "figure")
_TRIES = 3
_ONLY_IN_ROWS = ("step", "position", "attempt", "images", "time")


class Tracker:
    """Writes one run to MLflow from a queue; every public method returns at once.

    `run_id`: MLflow's, of an earlier start of the same run, or None; it is known once the server has
    answered. `step` of every metric is the number of images seen.
    """

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        name: str,
        params: dict[str, str],
        tags: dict[str, str],
        recipe: str,
        run_id: str | None = None,
    ) -> None:
        self.uri = absolute_store(uri or default_uri())
        self.experiment, self.name, self.params, self.tags = experiment, name, params, tags
        self.recipe_yaml = recipe
        self.run_id = run_id
        self.delivered = -1  # images of the last row that MLflow has
        self.not_finite = 0
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._queue.put(("head", None))
        self._new = False  # whether MLflow's run was created by this start
        self._client: Any = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        if self.uri != "off":
            self._thread.start()

    # ----- called by the driver -------------------------------------------------------------------

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """Log rows of `metrics.jsonl`."""
        for row in rows:
            self.not_finite += sum(1 for v in row.values() if v is None or not _finite(v))
        if rows:
            self._put("rows", rows)

    def picture(self, png: bytes, key: str, images: int) -> None:
        """Log a picture that MLflow shows with a slider over steps."""
        self._put("picture", (png, key, images))

    def figure(self, path: str, data: bytes) -> None:
        """Log a file under `figures/`."""
        self._put("figure", (path, data))

    def finish(self, status: str) -> bool:
        """Deliver what is left and close the run: FINISHED, FAILED or KILLED.

        Waits a while for a server that does not answer; returns whether all was delivered.
        """
        if self.uri == "off":
            return True
        self._put("finish", status)
        self._thread.join(_LAST_WORDS_SECONDS)
        if self._thread.is_alive():
            log.warning("MLflow at %s does not answer; the run is in its folder", self.uri)
        return not self._thread.is_alive()

    def _put(self, kind: str, content: Any) -> None:
        if self.uri != "off":
            self._queue.put((kind, content))

    # ----- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        kind = ""
        while kind != "finish":
            kind, content = self._queue.get()
            self._deliver(kind, content)

    def _deliver(self, kind: str, content: Any) -> None:
        """Try until it has arrived; what is not needed to compare runs is given up after a while."""
        tries = 0
        while True:
            try:
                self._connect()
                getattr(self, f"_send_{kind}")(content)
                return
            except Exception as error:  # MLflow raises of every kind; none may stop the run
                tries += 1
                if tries == 1:
                    reason = (str(error) or type(error).__name__).splitlines()[0]
                    log.warning("MLflow at %s: %s; trying on", self.uri, reason)
                if self._client is not None and kind in _DISPENSABLE and tries >= _TRIES:
                    return
                time.sleep(_RETRY_SECONDS)

    def _connect(self) -> None:
        """Find or create MLflow's run. A run that MLflow has forgotten is created anew."""
        if self._client is not None:
            return
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient(tracking_uri=self.uri)
        if self.run_id is not None and not self._new:
            try:
                client.update_run(self.run_id, status="RUNNING")
                history = client.get_metric_history(self.run_id, "train/loss")
                self.delivered = max((point.step for point in history), default=-1)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self.run_id = None
        if self.run_id is None:
            experiment = self._experiment(client)
            run = client.create_run(experiment, tags=self.tags, run_name=self.name)
            self.run_id, self._new = run.info.run_id, True
        self._client = client

    def _experiment(self, client: Any) -> str:
        known = client.get_experiment_by_name(self.experiment)
        if known is not None:
            return str(known.experiment_id)
        if self.uri.startswith("sqlite:"):  # its default place is relative to each process
            artifacts = Path(self.uri.removeprefix("sqlite:///")).parent / "mlartifacts"
            return str(client.create_experiment(self.experiment, artifacts.as_uri()))
        return str(client.create_experiment(self.experiment))

    def _send_head(self, content: None) -> None:
        """What a new run opens with: its settings, one by one and as a whole."""
        if not self._new:
            return
        from mlflow.entities import Param

        params = [Param(name, value[:6000]) for name, value in self.params.items()]
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(self.run_id, params=params[start : start + _PARAMS_A_BATCH])
        self._client.log_text(self.run_id, self.recipe_yaml, "recipe.yaml")

    def _send_rows(self, rows: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        fresh = [row for row in rows if row["images"] > self.delivered]
        size = max(1, _METRICS_A_BATCH // max([1, *map(len, fresh)]))  # whole rows
        for start in range(0, len(fresh), size):
            part = fresh[start : start + size]
            metrics = [
                Metric(name, value, int(row["time"] * 1000), row["images"])
                for row in part
                for name, value in row.items()
                if name not in _ONLY_IN_ROWS and _finite(value)
            ]
            self._client.log_batch(self.run_id, metrics=metrics)
            self.delivered = part[-1]["images"]

    def _send_picture(self, content: tuple[bytes, str, int]) -> None:
        from PIL import Image

        png, key, images = content
        self._client.log_image(self.run_id, Image.open(io.BytesIO(png)), key=key, step=images)

    def _send_figure(self, content: tuple[str, bytes]) -> None:
        import tempfile

        name, data = content
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(data)
            self._client.log_artifact(self.run_id, str(file), "figures")

    def _send_finish(self, status: str) -> None:
        if self.not_finite:
            self._client.set_tag(self.run_id, "mimray.not_finite", str(self.not_finite))
        self._client.set_terminated(self.run_id, status)
