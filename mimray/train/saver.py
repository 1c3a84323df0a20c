"""Checkpoints beside the training: the step waits for a copy in memory, a thread does the rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from mimray.errors import RunFailed, TakenOver
from mimray.train import checkpoint
from mimray.train.checkpoint import Shard
from mimray.train.run_folder import RunFolder
from mimray.train.state import tensors_of

log = logging.getLogger("mimray")


class Snapshot:
    """A copy of tensors in host memory, kept from one checkpoint to the next: touching fresh memory
    takes longer than copying into it. Pinned for a GPU, whose copies run beside its kernels."""

    def __init__(self) -> None:
        self.tensors: dict[str, dict[str, Tensor]] = {}
        self.copied: torch.cuda.Event | None = None

    def take(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy; what is on a GPU is complete only after `wait`, and may change only after it too."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # one uses up the memory's speed; two wait for each other's core
        try:
            self._copy(tensors)
        finally:
            torch.set_num_threads(threads)

    def _copy(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        for file, named in tensors.items():
            kept = self.tensors.setdefault(file, {})
            for name, tensor in named.items():
                if name not in kept:
                    pinned = tensor.device.type == "cuda"
                    kept[name] = torch.empty_like(tensor, device="cpu", pin_memory=pinned)
                kept[name].copy_(tensor.detach(), non_blocking=True)
                if tensor.device.type == "cuda" and self.copied is None:
                    self.copied = torch.cuda.Event()
        if self.copied is not None:
            self.copied.record()  # behind the copies, in the stream of the next update too

    def wait(self) -> None:
        """Until the copies have arrived."""
        if self.copied is not None:
            self.copied.synchronize()


class Saver:
    """Writes one trainer's share of checkpoints, one at a time.

    A checkpoint that cannot be written (a full disk) leaves the ones before as they are; training
    goes on, and the last one of a run must succeed. `done`: those completed, on the first rank.
    """

    def __init__(self, run: RunFolder, keep: int, shard: Shard | None = Shard()) -> None:  # noqa: B008
        """`shard`: see `shard_of`."""
        self.run, self.keep, self.shard = run, keep, shard
        self.snapshot = Snapshot()
        self.thread: threading.Thread | None = None
        self.done: list[tuple[int, str]] = []
        self.failed: list[tuple[int, str]] = []

    def late(self, wait: bool) -> bool:
        """Whether the checkpoint before is still being written; with `wait`, not before it is.

        Ask on all ranks, and let them agree, before any begins another: one that is ahead would leave
        a part that nobody completes.
        """
        if wait:
            self.finish()
        return self.thread is not None and self.thread.is_alive()

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loop: dict[str, Any],
        criterion: float | None,
    ) -> None:
        """Begin to write a checkpoint of `step`, after the one before."""
        self.finish()
        if self.shard is None:
            return
        self.snapshot.take(tensors_of(model, optimizer, self.shard))
        self.thread = threading.Thread(
            target=self._write,
            args=(self.shard, step, loop, criterion),
            name="checkpoint",
            daemon=True,
        )
        self.thread.start()

    def _write(
        self, shard: Shard, step: int, loop: dict[str, Any], criterion: float | None
    ) -> None:
        try:
            if shard.rank == 0:
                checkpoint.remove_torn(self.run, step)
            self.snapshot.wait()
            name = checkpoint.write(self.run, step, self.snapshot.tensors, loop, criterion, shard)
        except TakenOver as error:  # what lies there is another's
            self.failed.append((step, str(error)))
            return
        except Exception as error:  # storage fails in many ways; none of them may end the training
            self._give_up(shard, step, error)
            return
        if shard.rank:
            return
        self.done.append((step, name))
        try:
            checkpoint.prune(self.run, step, self.keep)
        except (OSError, TakenOver) as error:
            log.warning("old checkpoints could not be removed: %s", error)

    def _give_up(self, shard: Shard, step: int, error: Exception) -> None:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("the checkpoint of step %d could not be written: %s", step, words)
        self.failed.append((step, words))
        with suppress(Exception):  # nor may what it leaves behind
            if shard.rank:
                checkpoint.write_note(self.run, step, shard, {"error": words})
            else:
                checkpoint.remove_torn(self.run, step + 1)

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def close(self, step: int) -> None:
        """Wait for the last checkpoint; raises RunFailed when that of `step` is not there."""
        self.finish()
        for failed, words in self.failed:
            if failed == step:
                raise RunFailed(
                    f"the checkpoint of step {step} could not be written ({words}); make room or "
                    "mend run.storage, and the same command goes on from the one before"
                )
