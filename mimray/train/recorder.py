"""Rank 0's record of a run: rows, pictures and checkpoints. On other ranks it only counts."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mimray.mim.guard import Guard
from mimray.mim.learner import Learner
from mimray.mim.step import StepResult
from mimray.train.checkpoint import Shard
from mimray.train.group import Trainer
from mimray.train.heartbeat import Heart
from mimray.train.job import Job
from mimray.train.mailbox import Post
from mimray.train.saver import Saver

log = logging.getLogger("mimray")
_FLUSH_SECONDS = 5.0

Found = dict[tuple[str, int], int]
"""Pictures that could not be read: (stream, row) -> reason."""


class Recorder:
    """Turns step results into rows of `metrics.jsonl` and sends them to the driver.

    A row averages the steps since the row before; time spent validating and saving is not counted
    in its speed. Rows are durable before the checkpoint that relies on them is complete.
    `about`: what is noted of the start. `kept`: (stream, row, reason) of the pictures that the
    checkpoint knows to be unreadable.
    """

    def __init__(
        self,
        job: Job,
        post: Post,
        heart: Heart,
        trainer: Trainer,
        guard: Guard,
        shard: Shard | None,
        start: int,
        about: dict[str, Any],
        kept: list[list[Any]],
    ) -> None:
        self.job, self.post, self.heart, self.guard = job, post, heart, guard
        self.rank, self.device = trainer.rank, trainer.device
        self.skipped = guard.skipped
        self.log_every = job.clock.steps(job.recipe.run.log_every)
        self.step = self.logged = start
        self.found: Found = {}
        self.kept = kept
        self.unwritten: list[dict[str, Any]] = []
        self.extra: dict[str, float] = {}
        self.written_at = time.monotonic()
        self.waited_before = 0.0
        self.attempt = 0
        self.saver = Saver(job.run, job.recipe.run.keep, shard)
        self.criterion: tuple[int, float] | None = None
        if self.rank == 0:
            job.run.keep_rows_until(start)
            begun = {"step": start, "time": time.time(), **about}
            self.attempt = post.begin(begun)
            for stream in ("train", "val"):
                known = [(row, reason) for of, row, reason in kept if of == stream]
                if known:
                    self.post.send("damaged", stream=stream, pictures=known)
        self._reset()

    def _reset(self) -> None:
        self.error = torch.zeros((), dtype=torch.float64, device=self.device)
        self.values = torch.zeros((), dtype=torch.float64, device=self.device)
        self.began = time.perf_counter()
        self.paused = 0.0

    def add(self, step: int, result: StepResult, lr: float, waited: float) -> None:
        """Take in one step; `waited`: seconds that this trainer has waited for data so far."""
        self.step, self.lr, self.norm = step, lr, result.norm
        self.error += result.error
        self.values += result.values
        self.waited = waited

    def damaged(self, stream: str, pictures: list[tuple[int, int]]) -> None:
        """Pass on (row, reason) of pictures that could not be read, on every rank; empties the list.

        Each of them once a start; checkpoints keep them too, for mail can be lost with a process.
        """
        new = [(row, reason) for row, reason in pictures if (stream, row) not in self.found]
        self.found |= {(stream, row): reason for row, reason in new}
        if new:
            self.post.send("damaged", stream=stream, pictures=new)
        pictures.clear()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time spent in here does not count as training."""
        began = time.perf_counter()
        with self.heart.pause():
            yield
        self.paused += time.perf_counter() - began

    def validated(self, metrics: dict[str, float], picture: bytes | None) -> None:
        """Put validation metrics in this step's row."""
        self.extra = metrics
        self.criterion = (self.step, self.job.task.criterion(metrics))
        if picture is not None and self.rank == 0:
            images = self.step * self.job.recipe.optim.batch
            self.post.send("picture", png=picture, step=self.step, images=images)

    def rolled_back(self, step: int) -> None:
        """Note that the weights went back to those of a checkpoint."""
        if self.rank == 0:
            self.post.send("event", what="rolled back", step=self.step, to=step)

    def write_row(self, force: bool = False) -> None:
        """Make a row if one is due: every `log_every` steps, and with every validation."""
        if self.rank or not (force or self.extra or self.step % self.log_every == 0):
            return
        row = self._row()
        self.unwritten.append(row)
        self.post.send("row", row=row)
        if time.monotonic() - self.written_at > _FLUSH_SECONDS:
            self._flush_rows()
        self.logged, self.extra, self.waited_before = self.step, {}, self.waited
        self._reset()

    def _row(self) -> dict[str, Any]:
        batch, skipped = self.job.recipe.optim.batch, self.guard.skipped
        if skipped > self.skipped:
            count = skipped - self.skipped
            self.post.send("event", what="updates left out", step=self.step, count=count)
        self.skipped = skipped
        elapsed = max(time.perf_counter() - self.began - self.paused, 1e-9)
        return {
            "step": self.step,
            "position": self.step,
            "attempt": self.attempt,
            "images": self.step * batch,
            "time": time.time(),
            "train/loss": float(self.error / self.values),  # NaN where all updates were left out
            "train/lr": self.lr,
            "train/grad_norm": float(self.norm),
            "train/skipped": skipped,
            "speed/images_per_s": (self.step - self.logged) * batch / elapsed,
            "speed/seconds": elapsed,
            "speed/data_wait_s": self.waited - self.waited_before,
            "speed/peak_memory_gib": self._peak_memory(),
            **self.extra,
        }

    def _peak_memory(self) -> float:
        """GiB: of the GPU, or of this process where there is none."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def _flush_rows(self) -> bool:
        """Make rows durable; what storage does not take now is tried again. Returns whether it did."""
        self.written_at = time.monotonic()
        try:
            self.job.run.append_rows(self.unwritten)
        except OSError as error:
            log.warning("metrics.jsonl cannot be written: %s", error)
            return False
        self.unwritten = []
        return True

    def save(
        self,
        model: Learner,
        optimizer: torch.optim.Optimizer,
        found: list[Found],
        rollbacks: int,
    ) -> None:
        """Begin to write a checkpoint of the last step; `found`: every rank's own."""
        if self.saver.shard is None:
            return
        if self.rank == 0 and not self._flush_rows():  # a checkpoint relies on the rows before it
            self.saver.failed.append((self.step, "nor could its rows"))
            return
        damaged = self.kept + [[*key, reason] for one in found for key, reason in one.items()]
        loop = {
            "step": self.step,
            "position": self.step,
            "recipe": self.job.recipe.digest(),
            "guard": self.guard.to_list(),
            "rollbacks": rollbacks,
            "damaged": [list(entry) for entry in sorted({tuple(entry) for entry in damaged})],
        }
        measured = self.criterion[1] if self.criterion and self.criterion[0] == self.step else None
        self.saver.save(self.step, model, optimizer, loop, measured)

    def save_left_out(self) -> None:
        """Note that storage is so slow that the checkpoint before is still being written."""
        if self.rank == 0:
            log.warning(
                "no checkpoint of step %d: the one before is still being written", self.step
            )
            self.post.send("event", what="checkpoint left out", step=self.step)

    def report_saved(self) -> None:
        """Tell the driver of checkpoints that have become complete."""
        while self.saver.done:
            step, name = self.saver.done.pop(0)
            self.post.send("checkpoint", step=step, name=name)

    def close(self) -> None:
        """Wait for the last checkpoint. Raises RunFailed if it could not be written."""
        with self.pause():
            self.saver.finish()
        self.report_saved()
        self.saver.close(self.step)
