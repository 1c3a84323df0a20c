"""The driver of a run: check, start Ray and the trainers, keep the record, and say how it ended."""

from __future__ import annotations

import logging
import platform
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from mimray import __version__
from mimray.data.decode import REASONS
from mimray.errors import RunFailed, Stopped, UserError
from mimray.recipe import Recipe
from mimray.tracking import Tracker
from mimray.train import checkpoint
from mimray.train.cleanup import clear_cache
from mimray.train.cluster import ray_session
from mimray.train.job import Job
from mimray.train.mailbox import Mailbox
from mimray.train.prepare import prepare, too_many_damaged
from mimray.train.resources import Layout, cluster_nodes, lay_out
from mimray.train.run_folder import RunFolder, remove_empty
from mimray.train.shared import check_hosts
from mimray.train.signals import stop_signals
from mimray.train.trainer import Fit

log = logging.getLogger("mimray")
_POLL_SECONDS = 0.3
_SAVE_SECONDS = 5.0  # between two writings of run.json for damaged pictures alone
_END_SECONDS = 60.0  # for trainers to end after something went wrong


class Progress(Protocol):
    """What a run tells the person in front of it while it goes on."""

    def say(self, text: str) -> None: ...

    def row(self, row: dict[str, Any], total: int) -> None: ...


Draw = Callable[[list[dict[str, Any]], str], bytes]
"""Rows of `metrics.jsonl` and a title -> PNG of the loss curve."""


def pretrain(recipe: Recipe, progress: Progress, draw: Draw) -> tuple[dict[str, Any], bool]:
    """Run, or go on with, a pre-training: its record (`run.json`), and whether it was finished already.

    `draw` makes the loss curve (figures belong to a higher floor). Raises UserError, RunFailed or
    Stopped.
    """
    record = RunFolder.of(recipe).record()
    if record is not None and is_finished(record, recipe):
        return record, True
    job = prepare(recipe)
    made = job.run.make()
    lock = job.run.lock()
    try:
        return Driver(job, progress, draw).drive(), False
    except SystemExit:  # Ray's own answer to SIGTERM, while it starts or ends
        raise Stopped("stopped while Ray started or ended; the same command goes on") from None
    finally:
        refused = job.run.record() is None
        if lock is not None:
            if refused:
                Path(lock.name).unlink()
            lock.close()
        if refused:  # before it began: nothing is left of it
            remove_empty(made)


def is_finished(record: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a record is that of this very recipe, and of a run that reached its end."""
    return record["status"] == "finished" and record["recipe_digest"] == recipe.digest()


class Driver:
    """One start of one run. The only writer of `run.json` and of MLflow."""

    def __init__(self, job: Job, progress: Progress, draw: Draw) -> None:
        self.job, self.run, self.recipe = job, job.run, job.recipe
        self.progress, self.draw = progress, draw
        self.record = self.run.record() or self._new_record()
        self.tracker: Tracker | None = None
        self.saved_at = 0.0
        self.record.setdefault("mask", job.mask)
        self.damaged = {(d["stream"], d["row"]): d for d in self.record["damaged"]}

    # ----- the record -----------------------------------------------------------------------------

    def _new_record(self) -> dict[str, Any]:
        job = self.job
        return {
            "name": job.recipe.run_name(),
            "recipe": job.recipe.name,
            "status": "starting",
            "recipe_digest": job.recipe.digest(),
            "data_digest": job.data_digest,
            "photos": {"train": len(job.order), "val": len(job.val_rows)},
            "steps": 0,
            "total_steps": job.clock.total,
            "starts": [],
            "final": {},
            "damaged": [],
            "mlflow_run_id": None,
            "checkpoint": None,
        }

    def _save(self, **changes: Any) -> None:
        self.record.update(changes)
        self.saved_at = time.monotonic()
        if self.tracker is not None:
            self.record["mlflow_run_id"] = self.tracker.run_id
        self.run.write_record(self.record)

    def _begin(self) -> None:
        """Write recipe and record, and open the tracker: nothing is in the way of a start any more."""
        self.run.write("recipe.yaml", self.recipe.to_yaml().encode())
        versions = {p: version(p) for p in ("torch", "torchvision", "timm", "ray", "mlflow")}
        ours = {"mimray": __version__, "python": platform.python_version()}  # of a job: uploaded
        self._save(versions=versions | ours)
        settings = self.recipe.model_dump(mode="json")
        params = {
            f"{section}.{key}": str(value)
            for section, values in settings.items()
            if isinstance(values, dict)
            for key, value in values.items()
        }
        self.tracker = Tracker(
            self.recipe.run.tracking,
            self.recipe.run.experiment,
            self.record["name"],
            params | {"recipe": self.recipe.name},
            {
                "mimray.kind": "pretrain",
                "mimray.data_digest": self.record["data_digest"],
                "mimray.recipe_digest": self.record["recipe_digest"],
                "mimray.run_dir": self.run.uri,
            },
            self.recipe.to_yaml(),
            self.record["mlflow_run_id"],
        )

    # ----- the run --------------------------------------------------------------------------------

    def drive(self) -> dict[str, Any]:
        """Start Ray and the trainers, follow them to the end, and close the record."""
        photos = self.record["photos"]
        step = checkpoint.newest(self.run) or 0
        if step:  # the last start may have died before it noted it
            self.record.update(steps=step, checkpoint=checkpoint.name_of(step))
        chosen = self.recipe.data.subset
        subset = f" (data.subset={chosen}, less what is held out)" if chosen else ""
        self.progress.say(
            f"{self.record['name']}: {photos['train']} photos{subset}, {photos['val']} held out, "
            + (f"going on from step {step}" if step else f"{self.job.clock.total} steps")
        )
        # in this order, for Ray puts a handler of SIGTERM in place when it starts
        with ray_session(self.recipe.speed.workers) as private, stop_signals() as stopping:
            nodes = cluster_nodes()
            layout = lay_out(self.recipe.speed, nodes)
            check_hosts(self.job)
            where = "a private Ray" if private else f"Ray on {len(nodes)} host(s)"
            kind = "GPU" if layout.use_gpu else "CPU"
            self.progress.say(f"{where}: {layout.workers} {kind} trainer(s) and the data stream")
            self._say_what_the_model_asks(layout)
            self._begin()
            self._send_mask()
            self._send_rows_until(step)
            try:
                try:
                    status = self._follow(layout, stopping)
                finally:
                    if self.job.train_source.cache is not None:
                        clear_cache(self.job.train_source.cache)
            except (UserError, RunFailed) as error:
                self._close("failed", "FAILED", error=str(error))
                raise
            except BaseException:
                self._close("failed", "FAILED", error="an error of mimray's own")
                raise
            return self._end(status)

    def _say_what_the_model_asks(self, layout: Layout) -> None:
        """How much the masks hide; and where results depend on the number of trainers."""
        from mimray.mim.encoders import ENCODERS

        mask, encoder = self.record["mask"], self.recipe.model.encoder
        self.progress.say(
            f"masks: {mask['hidden_ratio']:.1%} hidden, AvgDist {mask['average_distance']:.1f} px"
        )
        if ENCODERS[encoder].batch_norm:
            self.progress.say(
                f"{encoder} has batch norm, so this run is not elastic: results depend on "
                f"speed.workers ({layout.workers}) and speed.micro_batch ({self.job.micro_batch})"
            )

    def _end(self, status: str) -> dict[str, Any]:
        """Close a run whose trainers are done; raises Stopped, or RunFailed if it learned nothing."""
        if status == "stopped":
            self._close("stopped", "KILLED")
            raise Stopped(f"stopped at step {self.record['steps']}; the same command goes on")
        loss = next((r["val/loss"] for r in reversed(self.run.rows()) if "val/loss" in r), None)
        if loss is None:
            error = (
                f"the loss is not finite any more; lower optim.lr={self.recipe.optim.lr:g}, which "
                f"makes another run of it"
            )
            self._close("failed", "FAILED", error=error)
            raise RunFailed(error)
        self._close("finished", "FINISHED")
        return self.record

    def _send_mask(self) -> None:
        """Beside the losses in MLflow, for these do not compare over masks and AvgDist tells why."""
        assert self.tracker is not None
        mask = {f"mask/{name}": value for name, value in self.record["mask"].items()}
        self.tracker.rows([{"images": 0, "time": time.time(), **mask}])

    def _send_rows_until(self, step: int) -> None:
        """What an earlier start may not have delivered to MLflow."""
        assert self.tracker is not None
        self.tracker.rows([row for row in self.run.rows() if row["step"] <= step])

    def _follow(self, layout: Layout, stopping: threading.Event) -> str:
        """Run the trainers in a thread; meanwhile empty the mailbox. Returns how they ended."""
        import ray

        here = ray.get_runtime_context().get_node_id()
        pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        mailbox = Mailbox.options(scheduling_strategy=pin).remote(len(self.record["starts"]))  # type: ignore[attr-defined]
        self.job.mailbox = mailbox
        fit = Fit(self.job, layout)
        fit.start()
        try:
            self._watch(fit, mailbox, stopping)
        except BaseException:
            # a thread that still talks to a Ray that ends would end this process, and say nothing
            fit.last.set()
            mailbox.request_stop.remote()
            fit.join(_END_SECONDS)
            raise
        return fit.outcome()

    def _watch(self, fit: Fit, mailbox: Any, stopping: threading.Event) -> None:
        """Empty the mailbox until the trainers have ended; pass a request to stop on."""
        import ray

        asked = False
        while fit.is_alive():
            fit.join(_POLL_SECONDS)
            self._take(ray.get(mailbox.take.remote()))
            if stopping.is_set() and not asked:
                asked = True
                fit.last.set()
                self.progress.say("stopping after this step, with a checkpoint")
                mailbox.request_stop.remote()
        self._take(ray.get(mailbox.take.remote()))

    def _take(self, messages: list[dict[str, Any]]) -> None:
        """Act on what the trainers wrote."""
        assert self.tracker is not None
        rows = [m["row"] for m in messages if m["kind"] == "row"]
        self.tracker.rows(rows)
        if rows:
            self.progress.row(rows[-1], self.job.clock.total or 0)
        for message in messages:
            if message["kind"] == "start":
                self.record["starts"].append({k: v for k, v in message.items() if k != "kind"})
                self._save(status="running", error=None)
            elif message["kind"] == "checkpoint":
                self._save(steps=message["step"], checkpoint=message["name"])
            elif message["kind"] == "picture":
                self.run.write("figures/reconstruction.png", message["png"])
                self.tracker.picture(message["png"], "reconstruction", message["images"])
            elif message["kind"] == "damaged":
                self._count_damaged(message)
            elif message["kind"] == "failed":
                raise RunFailed(message["error"])

    def _count_damaged(self, message: dict[str, Any]) -> None:
        """Name the pictures that could not be read; raises UserError when there are too many."""
        stream, data = message["stream"], self.recipe.data
        source = self.job.val_source if stream == "val" else self.job.train_source
        before = len(self.damaged)
        for row, reason in message["pictures"]:
            if (stream, row) not in self.damaged:
                found = {"stream": stream, "row": row, "name": source.name(row)}
                self.damaged[stream, row] = found | {"reason": REASONS[reason]}
        if len(self.damaged) == before:
            return
        self.record["damaged"] = list(self.damaged.values())
        if (
            time.monotonic() - self.saved_at > _SAVE_SECONDS
        ):  # else with the next checkpoint, or at the end
            self._save()
        bad = [d for d in self.damaged.values() if d["stream"] == stream]
        count = len(self.job.val_rows if stream == "val" else self.job.order)
        if len(bad) > data.max_damaged * count:
            where = (
                f"data.val={data.val}"
                if stream == "val" and data.val
                else f"data.train={data.train}"
            )
            pictures = [(d["name"], d["reason"]) for d in bad]
            raise UserError(too_many_damaged(where, pictures, count, data.max_damaged))

    def _close(self, status: str, mlflow_status: str, error: str | None = None) -> None:
        """Write how the run ended, here and in MLflow."""
        assert self.tracker is not None
        rows = self.run.rows()
        if rows:
            curve = self.draw(rows, self.record["name"])
            self.run.write("figures/loss.png", curve)
            self.tracker.figure("loss.png", curve)
        self.record["final"] = final_metrics(rows)
        self._save(status=status, error=error)
        with suppress(OSError):  # Ray Train's own notes; another start makes others
            self.run.filesystem.delete_dir(self.run.file("ray"))
        self.tracker.finish(mlflow_status)
        if self.record["mlflow_run_id"] != self.tracker.run_id:  # known only by now
            self._save()


def final_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The last validation, and the median of the last start's pictures a second."""
    final: dict[str, float] = {}
    for row in rows:
        final.update({k: v for k, v in row.items() if k.startswith("val/")})
    rates = [row["speed/images_per_s"] for row in rows if row["attempt"] == rows[-1]["attempt"]]
    return final | ({"images_per_s": statistics.median(rates)} if rates else {})
