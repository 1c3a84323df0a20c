"""The driver of a run: start Ray and the trainers, keep the record, and say how it ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import ray

from mimray.errors import RunFailed, Stopped, TakenOver, UserError
from mimray.train import checkpoint
from mimray.train.cleanup import clear_cache
from mimray.train.cluster import ray_session
from mimray.train.elastic import Growth
from mimray.train.heartbeat import Watchdog, end_trainers
from mimray.train.job import Job
from mimray.train.mailbox import Mailbox, Message
from mimray.train.record import Record, final_metrics
from mimray.train.resources import Layout, cluster_nodes, lay_out
from mimray.train.shared import check_hosts
from mimray.train.signals import stop_signals
from mimray.train.spool import head_of
from mimray.train.sync import deliver_earlier_runs
from mimray.train.tracker import Tracker
from mimray.train.trainer import Fit

log = logging.getLogger("mimray")
_POLL_SECONDS = 0.3
_END_SECONDS = 60.0  # for trainers to end after something went wrong


class Progress(Protocol):
    """What a run tells the person in front of it while it goes on."""

    def say(self, text: str) -> None: ...

    def row(self, row: dict[str, Any], total: int) -> None: ...


Draw = Callable[[list[dict[str, Any]], str], bytes]
"""Rows of `metrics.jsonl` and a title -> PNG of the loss curve."""


class Driver:
    """One start of one run. The only writer of `run.json` and of MLflow."""

    def __init__(self, job: Job, progress: Progress, draw: Draw) -> None:
        self.job, self.run, self.recipe = job, job.run, job.recipe
        self.progress, self.draw = progress, draw
        self.record = Record(job)
        self.tracker: Tracker | None = None
        self.watchdog, self.growth = Watchdog(), Growth(job.recipe.speed)

    # ----- from the beginning to the end ----------------------------------------------------------

    def drive(self) -> dict[str, Any]:
        """Start Ray and the trainers, follow them to the end, and close the record."""
        step = checkpoint.newest(self.run) or 0
        if step:  # the last start may have died before it noted it
            self.record.update(steps=step, checkpoint=checkpoint.name_of(step))
        self._say_what_it_is(step)
        # in this order, for Ray puts a handler of SIGTERM in place when it starts
        speed = self.recipe.speed
        with ray_session(speed.most_workers) as private, stop_signals() as stopping:
            nodes = cluster_nodes()
            layout = lay_out(speed, nodes)
            check_hosts(self.job)
            where = "a private Ray" if private else f"Ray on {len(nodes)} host(s)"
            kind = "GPU" if layout.use_gpu else "CPU"
            self.progress.say(f"{where}: {layout.workers} {kind} trainer(s) and the data stream")
            self._say_what_the_model_asks(layout)
            self._begin()
            try:
                try:
                    status = self._follow(layout, stopping)
                finally:
                    if self.job.train_source.cache is not None:
                        clear_cache(self.job.train_source.cache)
            except TakenOver:  # the record is another's now
                raise
            except (UserError, RunFailed) as error:
                self._close("failed", str(error))
                raise
            except BaseException:
                self._close("failed", "an error of mimray's own")
                raise
            return self._end(status)

    def _say_what_it_is(self, step: int) -> None:
        photos, chosen = self.record["photos"], self.recipe.data.subset
        subset = f" (data.subset={chosen}, less what is held out)" if chosen else ""
        self.progress.say(
            f"{self.record['name']}: {photos['train']} photos{subset}, {photos['val']} held out, "
            + (f"going on from step {step}" if step else f"{self.job.clock.total} steps")
        )
        warmup, total = self.recipe.schedule.warmup, self.job.clock.total
        if self.job.clock.steps(warmup) > (total or 0):
            self.progress.say(
                f"schedule.warmup={warmup} is longer than the run ({total} steps): the learning rate "
                f"does not reach optim.lr={self.recipe.optim.lr:g}; set schedule.warmup=5%"
            )

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

    def _begin(self) -> None:
        """Write recipe and record, and open the tracker: nothing is in the way of a start any more."""
        self.run.write("recipe.yaml", self.recipe.to_yaml().encode())
        self.record.note_versions()
        head = head_of(self.run, self.record)
        self.tracker = Tracker(self.run, head, self.record["mlflow_run_id"])
        if self.tracker.on:
            deliver_earlier_runs(self.run, head.uri)

    def _end(self, status: str) -> dict[str, Any]:
        """Close a run whose trainers are done; raises Stopped, or RunFailed if it learned nothing."""
        if status == "stopped":
            self._close("stopped")
            raise Stopped(f"stopped at step {self.record['steps']}; the same command goes on")
        loss = next((r["val/loss"] for r in reversed(self.run.rows()) if "val/loss" in r), None)
        if loss is None:
            error = (
                f"the loss is not finite any more; lower optim.lr={self.recipe.optim.lr:g}, which "
                f"makes another run of it"
            )
            self._close("failed", error)
            raise RunFailed(error)
        self._close("finished")
        return self.record

    def _close(self, status: str, error: str | None = None) -> None:
        """Write how the run ended, here and in MLflow."""
        assert self.tracker is not None
        rows = self.run.rows()
        if rows:
            self.run.write("figures/loss.png", self.draw(rows, self.record["name"]))
        self.record["final"] = final_metrics(rows)
        self.record.save(status=status, error=error, mlflow_run_id=self.tracker.run_id)
        with suppress(OSError):  # Ray Train's own notes; another start makes others
            self.run.filesystem.delete_dir(self.run.file("ray"))
        delivered = self.tracker.finish(status)
        self.record.save(mlflow_run_id=self.tracker.run_id, mlflow_pending=not delivered)

    # ----- while the trainers work ----------------------------------------------------------------

    def _follow(self, layout: Layout, stopping: threading.Event) -> str:
        """Run the trainers in a thread; meanwhile look after them. Returns how they ended."""
        here = ray.get_runtime_context().get_node_id()
        pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        mailbox = Mailbox.options(scheduling_strategy=pin).remote(len(self.record["starts"]))  # type: ignore[attr-defined]
        self.job.mailbox = mailbox
        self.growth.began()
        fit = Fit(self.job, layout)
        fit.start()
        try:
            self._watch(fit, mailbox, stopping)
        except BaseException as error:
            # a thread that still talks to a Ray that ends would end this process, and say nothing
            fit.last.set()
            mailbox.request_stop.remote()
            fit.join(_END_SECONDS)
            if isinstance(error, ray.exceptions.RayError):
                log.debug("Ray is gone", exc_info=error)
                raise RunFailed("Ray has ended under this run; the same command goes on") from None
            raise
        return fit.outcome()

    def _watch(self, fit: Fit, mailbox: Any, stopping: threading.Event) -> None:
        """Empty the mailbox until the trainers have ended; pass a request to stop on."""
        asked = False
        while fit.is_alive():
            fit.join(_POLL_SECONDS)
            messages, beats = ray.get([mailbox.take.remote(), mailbox.pulse.remote()])
            self._take(messages)
            self.watchdog.hear(beats, time.monotonic())
            self._look_for_the_stuck()
            if stopping.is_set() and not asked:
                asked = True
                fit.last.set()
                self.progress.say("stopping after this step, with a checkpoint")
                mailbox.request_stop.remote()
            elif not asked and not fit.resize.is_set() and self.growth.due(fit.layout):
                self._grow(fit, mailbox)
        self._take(ray.get(mailbox.take.remote()))

    def _look_for_the_stuck(self) -> None:
        """End trainers that give no sign of life; Fit starts a group again when one is gone."""
        verdict = self.watchdog.verdict(time.monotonic())
        if verdict is None:
            return
        beats, why = verdict
        self.watchdog.forget()
        self.progress.say(f"{why}: ended, to be started again")
        self.record.note_event("trainers ended", why=why, ranks=[b.rank for b in beats])
        end_trainers(beats)

    def _grow(self, fit: Fit, mailbox: Any) -> None:
        """Let the trainers stop with a checkpoint, to be started again as a larger group."""
        self.growth.began()
        try:
            check_hosts(self.job)
        except UserError as error:
            self.progress.say(f"there is room for more trainers, but {error}")
            return
        self.progress.say("there is room for more trainers: starting again after this step")
        fit.resize.set()
        mailbox.request_stop.remote()

    def _take(self, messages: list[Message]) -> None:
        """Act on what the trainers wrote."""
        assert self.tracker is not None
        rows = [m["row"] for m in messages if m["kind"] == "row"]
        self.tracker.rows(rows)
        if rows:
            self.progress.row(rows[-1], self.job.clock.total or 0)
        for message in messages:
            self._act_on(message["kind"], {k: v for k, v in message.items() if k != "kind"})

    def _act_on(self, kind: str, content: Message) -> None:
        assert self.tracker is not None
        self.record["mlflow_run_id"] = self.tracker.run_id
        if kind == "start":
            self.watchdog.forget()
            self.record.note_start(content)
        elif kind == "checkpoint":
            self.record.save(steps=content["step"], checkpoint=content["name"])
        elif kind == "picture":
            with suppress(OSError):  # the next one may be taken
                self.run.write("figures/reconstruction.png", content["png"])
            self.tracker.picture(content["png"], "reconstruction", content["images"])
        elif kind == "damaged":
            self.record.note_damaged(**content)
        elif kind == "event":
            self.progress.say(say_event(content))
            self.record.note_event(**content)
        elif kind == "failed":
            raise RunFailed(content["error"])


def say_event(event: Message) -> str:
    """What happened, in a line."""
    more = ", ".join(f"{name} {value}" for name, value in event.items() if name != "what")
    return f"{event['what']} ({more})"
