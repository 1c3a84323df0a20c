"""A preparation under way: shards handed to Ray, a task of one CPU each, until all are written."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

from mimray.data.inspect import in_class_order
from mimray.data.node_cache import NodeCache
from mimray.data.prepare import Destination
from mimray.data.sources import Source
from mimray.errors import MimrayError, RunFailed, Stopped, UserError
from mimray.recipe import Data
from mimray.train.console import Console
from mimray.train.signals import stop_signals
from mimray.verbs.data.progress import Progress

_POLL_SECONDS = 0.3
_CACHE_BYTES = 16 * 2**30  # two windows of a shuffle
_WINDOW = int(Data.model_fields["shuffle_window"].default)


class Preparation:
    """One start of a preparation: what is left to do, as Ray tasks of one CPU and one shard each."""

    def __init__(self, source: Source, destination: Destination) -> None:
        self.source, self.destination, self.plan = source, destination, destination.plan
        self.labels = source.labels()
        if max(int(source.groups.max()), self.plan.window or 0) > self.plan.rows_per_shard:
            source.cache = NodeCache(_CACHE_BYTES)  # several tasks need the same row groups
        self.order = self.plan.order(source.groups)
        self.notes = destination.complete()

    def run(self) -> dict[int, dict[str, Any]]:
        """The notes of all shards. Raises RunFailed or Stopped."""
        left = [shard for shard in range(len(self.plan)) if shard not in self.notes]
        if not left:
            return self.notes
        from mimray.train.cleanup import clear_cache
        from mimray.train.cluster import ray_session

        Console().say(self._opening())
        # in this order, for Ray puts a handler of SIGTERM in place when it starts
        with ray_session(1), stop_signals() as stopping:
            try:
                self._write(left, stopping)
            finally:
                if self.source.cache is not None:
                    clear_cache(self.source.cache)
        return self.notes

    def _opening(self) -> str:
        """What is about to be done, and what had better be done otherwise."""
        text = f"{self.plan.rows:,} pictures, {len(self.plan):,} shard(s) in {self.destination.uri}"
        if self.notes:
            text += f"; {len(self.notes):,} complete already"
        labels = self.labels if self.plan.shuffle is None else None
        if labels is not None and in_class_order(labels, _WINDOW):
            text += (
                f"\nthe pictures lie class by class and stay so: --shuffle 0 mixes them, which a "
                f"run's shuffle of {_WINDOW:,} at a time cannot"
            )
        return text

    def _rows(self, shard: int) -> int:
        per = self.plan.rows_per_shard
        return min(per, self.plan.rows - shard * per)

    def _write(self, left: list[int], stopping: Event) -> None:
        """Have all shards written, and show how far it is."""
        import ray

        from mimray.train.resources import cluster_nodes

        if not any(node.cpus >= 1 for node in cluster_nodes()):
            raise UserError("no host of the cluster has a whole free CPU; wait for others to end")
        most = 2 * int(ray.cluster_resources()["CPU"])
        rows_done = {shard: self._rows(shard) for shard in self.notes}
        progress = Progress(self.plan.rows, sum(rows_done.values()))
        try:
            for shard, rows in self._rows_written(left, most, stopping):
                rows_done[shard] = rows
                progress.show(sum(rows_done.values()))
        finally:
            progress.clear()

    def _rows_written(
        self, left: list[int], most: int, stopping: Event
    ) -> Iterator[tuple[int, int]]:
        """Keep at most `most` tasks under way; yields a shard and how many of its rows are done."""
        import ray

        reference, waiting = ray.put(self.source), left[::-1]
        under_way: dict[Any, int] = {}
        while waiting or under_way:
            while waiting and len(under_way) < most:
                shard = waiting.pop()
                under_way[self._start(reference, shard)] = shard
            ready: list[Any] = ray.wait([*under_way], timeout=_POLL_SECONDS, fetch_local=False)[0]
            if stopping.is_set():
                raise Stopped(
                    f"stopped with {len(self.notes):,} of {len(self.plan):,} shards complete; the "
                    f"same command goes on"
                )
            for task in ready:
                shard = under_way[task]
                try:
                    yield shard, ray.get(next(task))
                except StopIteration:
                    del under_way[task]
                    self._note(shard)
                except ray.exceptions.RayError as error:
                    raise _failure(error, self.plan.name(shard)) from None

    def _start(self, reference: Any, number: int) -> Any:
        """Hand a shard to Ray: a stream of how many of its rows are done."""
        import ray

        from mimray.data.shards import Shard, write_shard

        rows = self.plan.rows_of(number, self.order)
        labels = None if self.labels is None else self.labels[rows]
        shard = Shard(number, rows, labels, self.source.classes)
        task = ray.remote(num_cpus=1, num_returns="streaming")(write_shard)
        return task.remote(reference, self.destination, shard)

    def _note(self, shard: int) -> None:
        note = self.destination.note(shard)
        if note is None:
            raise RunFailed(
                f"{self.destination.shard_path(shard)} was written on another host and is not seen "
                f"here; name a place that all hosts share, like s3://..."
            )
        self.notes[shard] = note


def _failure(error: Exception, shard: str) -> MimrayError:
    """What a failed task means, in a line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MimrayError):
        return cause
    why = str(cause or error).strip().splitlines()
    return RunFailed(f"{shard}: {why[0] if why else type(error).__name__}")
