"""Trains one tiny run in several ways on one Ray and notes what every rank saw, from inside the loop.

`python -m tests.train.elastic FOLDER` prints one JSON object: for each way, the samples of every
position as (row, digest of its pixels, digest of its mask, weight), and the pictures reported unreadable.
The digest of the pixels covers crop box and flip, for they make them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mimray.data.plan import Plan
from mimray.train.job import Job

WAYS = {
    "undisturbed": [(2, "ray", None)],  # trainers, loader, the step to stop after
    "stopped": [(3, "ray", 2), (1, "torch", 5), (2, "ray", None)],
}


class ShortSegments(Job):
    """A job whose stream is several Ray Data executions, as only a very long one's is."""

    def plan(self, start: int) -> Plan:
        return replace(super().plan(start), segment_blocks=4)


def noting(job: Job) -> dict:
    """`mimray.train.loop.train`, in a trainer, with an eye on what goes through it."""
    from mimray.train import loop
    from mimray.train.batches import Batches
    from mimray.train.tasks.pretraining import Pretraining

    at = {"position": -1}
    notes: list[dict] = []

    class Noting(Batches):
        def __iter__(self) -> Iterator:
            for position, received in super().__iter__():
                at["position"] = position
                yield position, received

    real = Pretraining.micro_batch

    def noted(self, received, epoch):
        micro = real(self, received, epoch)
        images, weight = received.images, received.weight
        for k, row in enumerate(received.rows.tolist()):
            if row >= 0:
                pixels = hashlib.sha256(images[k].contiguous().numpy().tobytes()).hexdigest()[:12]
                hidden = hashlib.sha256(micro.supervision[k].numpy().tobytes()).hexdigest()[:12]
                sample = [row, pixels, hidden, float(weight[k])]
                notes.append({"position": at["position"], "sample": sample})
        return micro

    class Stopping(loop.RemotePost):
        def stop_requested(self) -> bool:
            super().stop_requested()
            return job.stop_after is not None and at["position"] + 1 >= job.stop_after

    loop.Batches, Pretraining.micro_batch, loop.RemotePost = Noting, noted, Stopping
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    try:
        return loop_train(job)
    finally:
        (Path(job.notes) / f"{rank}.jsonl").write_text("\n".join(map(json.dumps, notes)))


from mimray.train.loop import train as loop_train  # noqa: E402  (the real one, before it is replaced)


def run(folder: Path, way: str, start: tuple, mailbox) -> dict:
    """One start of a run; what its ranks saw."""
    from mimray.recipe import load_recipe
    from mimray.train import loop
    from mimray.train.prepare import prepare
    from mimray.train.resources import Layout
    from mimray.train.trainer import build_trainer

    workers, loader, stop_after = start
    words = [
        *(f"data.train={folder}/train", f"data.val={folder}/val", "data.max_damaged=0.5"),
        *("optim.batch=10", "optim.lr=0.001", "schedule.length=9it", "schedule.warmup=0it"),
        *("run.validate_every=100it", "run.checkpoint_every=100it", "run.log_every=1it"),
        *(f"run.storage={folder}", f"run.name={way}", "run.tracking=off", "speed.micro_batch=3"),
        *(f"speed.workers={workers}", "speed.block_rows=7", "speed.device=cpu"),
        f"speed.loader={loader}",
    ]
    job = prepare(load_recipe("demo", words))
    job.__class__ = ShortSegments
    job.run.make()
    job.mailbox, job.stop_after = mailbox, stop_after
    job.notes = folder / f"{way}-{workers}"
    job.notes.mkdir()
    loop.train = noting
    build_trainer(job, Layout(workers, False, 0.5)).fit()
    positions: dict[int, list] = {}
    for file in sorted(job.notes.iterdir()):
        for line in file.read_text().splitlines():
            note = json.loads(line)
            positions.setdefault(note["position"], []).append(note["sample"])
    return {p: sorted(samples) for p, samples in positions.items()}


def main(folder: Path) -> None:
    """All ways, one after the other."""
    import ray

    from mimray.train.cluster import ray_session
    from mimray.train.mailbox import Mailbox

    result: dict[str, dict] = {}
    with ray_session(3):
        for way, starts in WAYS.items():
            seen: list[dict] = []
            damaged: list[list] = []
            for start in starts:
                mailbox = Mailbox.remote(0)
                seen.append(run(folder, way, start, mailbox))
                messages = [m for m in ray.get(mailbox.take.remote()) if m["kind"] == "damaged"]
                damaged.append(sorted(p for m in messages for p in m["pictures"]))
            result[way] = {"seen": seen, "damaged": damaged}
    print(json.dumps(result))


if __name__ == "__main__":
    from tests.train import elastic  # by name, so that trainers find what they are sent

    elastic.main(Path(sys.argv[1]))
