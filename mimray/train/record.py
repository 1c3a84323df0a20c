"""`run.json`: what a run is, how far it is, and what happened to it. Written by the driver alone."""

from __future__ import annotations

import logging
import platform
import statistics
import time
import uuid
from importlib.metadata import version
from typing import Any

from mimray import __version__
from mimray.data.decode import REASONS
from mimray.errors import UserError
from mimray.redaction import redact
from mimray.train.job import Job
from mimray.train.prepare import too_many_damaged

log = logging.getLogger("mimray")
_SAVE_SECONDS = 5.0  # between two writings for damaged pictures alone
_EVENTS = 1000  # that are kept; a run with more has other worries


class Record(dict[str, Any]):
    """The object of `run.json`; `save` writes it."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.run.record() or _new(job))
        for name, value in job.task.about.items():
            self.setdefault(name, value)
        self.setdefault("uid", uuid.uuid4().hex)
        self.setdefault("events", [])
        self.job, self.run = job, job.run
        self.saved_at = 0.0
        self.damaged = {(d["stream"], d["row"]): d for d in self["damaged"]}

    def save(self, **changes: Any) -> None:
        """Take in changes and write. Storage that does not take it now gets it with the next change;
        only the last one of a run, which says how it ended, must succeed."""
        if changes.get("error"):  # may quote an address
            changes["error"] = redact(changes["error"])
        self.update(changes)
        self.saved_at = time.monotonic()
        try:
            self.run.write_record(self)
        except OSError as error:
            if changes.get("status") not in (None, "running"):
                raise
            log.warning("run.json cannot be written: %s", error)

    def note_versions(self) -> None:
        """What this start runs with."""
        versions = {p: version(p) for p in ("torch", "torchvision", "timm", "ray", "mlflow")}
        ours = {"mimray": __version__, "python": platform.python_version()}  # of a job: uploaded
        self.save(versions=versions | ours)

    def note_start(self, start: dict[str, Any]) -> None:
        """A group of trainers has begun."""
        self["starts"].append(start)
        self.save(status="running", error=None)

    def note_event(self, what: str, **more: Any) -> None:
        """Something that a reader of the run should know: updates left out, trainers lost, ..."""
        said = {name: redact(v) if isinstance(v, str) else v for name, v in more.items()}
        self["events"] = [*self["events"], {"time": time.time(), "what": what, **said}][-_EVENTS:]
        self.save()

    def note_damaged(self, stream: str, pictures: list[tuple[int, int]]) -> None:
        """Name (row, reason) of the pictures that could not be read; raises UserError when there are
        too many."""
        job, data = self.job, self.job.recipe.data
        source = job.val_source if stream == "val" else job.train_source
        before = len(self.damaged)
        for row, reason in pictures:
            if (stream, row) not in self.damaged:
                found = {"stream": stream, "row": row, "name": source.name(row)}
                self.damaged[stream, row] = found | {"reason": REASONS[reason]}
        if len(self.damaged) == before:
            return
        self["damaged"] = list(self.damaged.values())
        if time.monotonic() - self.saved_at > _SAVE_SECONDS:  # else with what comes next
            self.save()
        bad = [d for d in self.damaged.values() if d["stream"] == stream]
        count = len(job.val_rows if stream == "val" else job.order)
        if len(bad) > data.max_damaged * count:
            of_val = stream == "val" and data.val
            where = f"data.val={data.val}" if of_val else f"data.train={data.train}"
            named = [(d["name"], d["reason"]) for d in bad]
            raise UserError(too_many_damaged(where, named, count, data.max_damaged))


def _new(job: Job) -> dict[str, Any]:
    return {
        "name": job.recipe.run_name(),
        "kind": job.task.kind,
        "recipe": job.recipe.name,
        "status": "starting",
        "recipe_digest": job.recipe.digest(),
        "data_digest": job.data_digest,
        "files": job.task.files,
        "photos": {"train": len(job.order), "val": len(job.val_rows)},
        "steps": 0,
        "total_steps": job.clock.total,
        "starts": [],
        "final": {},
        "damaged": [],
        "mlflow_run_id": None,
        "mlflow_pending": False,
        "checkpoint": None,
    }


def speed_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """`images_per_s`: the median of the last start's."""
    rates = [row["speed/images_per_s"] for row in rows if row["attempt"] == rows[-1]["attempt"]]
    return {"images_per_s": statistics.median(rates)} if rates else {}
