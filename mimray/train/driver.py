"""The driver of a run: start Ray and the trainers, keep the record, and say how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mimray.errors import RunFailed, Stopped, TakenOver, UserError
from mimray.train import checkpoint, manifest
from mimray.train.cleanup import clear_cache
from mimray.train.clerk import Clerk, Progress
from mimray.train.cluster import ray_session
from mimray.train.fence import Fence
from mimray.train.follow import Follower
from mimray.train.job import Job
from mimray.train.mailbox import LocalPost
from mimray.train.record import Record, speed_of
from mimray.train.resources import cluster_nodes, lay_out
from mimray.train.shared import check_hosts
from mimray.train.signals import stop_signals
from mimray.train.spool import head_of
from mimray.train.sync import deliver_earlier_runs
from mimray.train.tracker import Tracker

Draw = Callable[[list[dict[str, Any]], str], bytes]
"""Rows of `metrics.jsonl` and a title -> PNG of the loss curve."""


class Driver:
    """One start of one run. The only writer of `run.json` and of MLflow."""

    def __init__(self, job: Job, fence: Fence, progress: Progress, draw: Draw) -> None:
        self.job, self.run, self.recipe = job, job.run, job.recipe
        self.fence, self.progress, self.draw = fence, progress, draw
        self.record = Record(job)
        self.tracker: Tracker | None = None

    def drive(self) -> dict[str, Any]:
        """Start Ray and the trainers, follow them to the end, and close the record."""
        self._say_what_it_is()
        # in this order, for Ray puts a handler of SIGTERM in place when it starts
        speed = self.recipe.speed
        with ray_session(speed.most_workers) as private, stop_signals() as stopping:
            nodes = cluster_nodes()
            layout = lay_out(speed, nodes)
            check_hosts(self.job)
            where = "a private Ray" if private else f"Ray on {len(nodes)} host(s)"
            kind = "GPU" if layout.use_gpu else "CPU"
            self.progress.say(f"{where}: {layout.workers} {kind} trainer(s) and the data stream")
            self._say_what_the_model_asks(layout.workers)
            with self._open() as clerk:
                follower = Follower(self.job, self.fence, clerk)
                status = follower.follow(layout, stopping)
            return self._end(status)

    def drive_here(self) -> dict[str, Any]:
        """The same with one trainer in this very process, and a Ray or none around it: for runs that are
        small or tasks themselves. The job has `speed` as `here` makes it."""
        from mimray.train.loop import train

        checkpoint.verified(self.run)
        self._say_what_it_is()
        self._say_what_the_model_asks(1)
        with stop_signals() as stopping, self._open() as clerk:
            self.job.post = LocalPost(clerk.take, len(self.record["starts"]), stopping)
            status = train(self.job)["status"]
        return self._end(status)

    @contextmanager
    def _open(self) -> Iterator[Clerk]:
        """The run is under way in here; what ends it is noted."""
        self.tracker = self._begin()
        try:
            yield Clerk(self.job, self.record, self.tracker, self.progress)
        except TakenOver:  # the record is another's now
            raise
        except Stopped:  # whoever hears of its rows wants no more of them
            self._close("stopped")
            raise
        except (UserError, RunFailed) as error:
            self._close_failed(str(error))
            raise
        except BaseException:
            self._close_failed("an error of mimray's own")
            raise
        finally:
            if self.job.train_source.cache is not None:
                clear_cache(self.job.train_source.cache)

    def _close_failed(self, error: str) -> None:
        """The same where storage may be what failed: the first error is the one to show."""
        with suppress(OSError):
            self._close("failed", error)

    def _note_checkpoint(self) -> int:
        """How far the run is; the trainers' own word may have been lost with them."""
        step = checkpoint.newest(self.run) or 0
        if step:
            self.record.update(steps=step, checkpoint=manifest.name_of(step))
        return step

    def _say_what_it_is(self) -> None:
        step = self._note_checkpoint()
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

    def _say_what_the_model_asks(self, workers: int) -> None:
        """What the task is; and where results depend on the number of trainers."""
        from mimray.mim.encoders import ENCODERS

        for line in self.job.task.lines():
            self.progress.say(line)
        encoder = self.recipe.model.encoder
        if ENCODERS[encoder].batch_norm:
            self.progress.say(
                f"{encoder} has batch norm, so this run is not elastic: results depend on "
                f"speed.workers ({workers}) and speed.micro_batch ({self.job.micro_batch})"
            )

    def _begin(self) -> Tracker:
        """Write recipe and record, and open the tracker: nothing is in the way of a start any more."""
        self.run.write("recipe.yaml", self.recipe.to_yaml().encode())
        head = head_of(self.run, self.record)
        self.record["mlflow_pending"] = head.uri != "off"  # until all of it is delivered
        self.record.note_versions()  # its uid is on disk before MLflow hears of it
        tracker = Tracker(self.run, head, self.record["mlflow_run_id"])
        if tracker.on:
            deliver_earlier_runs(self.run, head.uri)
        return tracker

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
        with suppress(OSError):
            if rows:
                self.run.write("figures/loss.png", self.draw(rows, self.record["name"]))
        self._note_checkpoint()
        self.record["final"] = self.job.task.final(rows) | speed_of(rows)
        self.record.save(status=status, error=error, mlflow_run_id=self.tracker.run_id)
        with suppress(OSError):  # Ray Train's own notes; another start makes others
            self.run.filesystem.delete_dir(self.run.file("ray"))
        delivered = self.tracker.finish(status)
        self.record.save(mlflow_run_id=self.tracker.run_id, mlflow_pending=not delivered)
