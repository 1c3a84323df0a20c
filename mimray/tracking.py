"""MLflow: the only file that imports it. One writer a run, in a thread of the driver.

The run folder is the truth; this is a copy for the comparison pages. So nothing here may stop or
slow a run: when the server does not answer, rows wait in memory and are sent later, and what never
arrived is sent when the run goes on (rows up to the last one delivered are not sent twice).
"""

from __future__ import annotations

import io
import logging
import math
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from mimray.environment import project_folder, start_folder

log = logging.getLogger("mimray")
_RETRY_SECONDS = 5.0
_LAST_WORDS_SECONDS = 20.0  # how long the end of a run waits for a server
_PARAMS_A_BATCH = 100  # MLflow's limits
_METRICS_A_BATCH = 1000
_DISPENSABLE = ("head", "picture", "figure")
_TRIES = 3  # for these
_ONLY_IN_ROWS = ("step", "position", "attempt", "images", "time")


def default_uri() -> str:
    """A sqlite file in the project's folder, by absolute path (workers run elsewhere)."""
    return f"sqlite:///{project_folder() / 'mlflow.db'}"


def absolute_store(uri: str) -> str:
    """A sqlite address with its path made absolute: `sqlite:///mlflow.db` is relative otherwise."""
    path = uri.removeprefix("sqlite:///")
    return f"sqlite:///{start_folder() / path}" if path != uri else uri


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
