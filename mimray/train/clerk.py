"""What is done with the trainers' messages: they become the record, MLflow's copy and lines to read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Protocol

from mimray.errors import RunFailed
from mimray.train.gauges import Gauges
from mimray.train.job import Job
from mimray.train.mailbox import Message
from mimray.train.record import Record
from mimray.train.tracker import Tracker


class Progress(Protocol):
    """What a run tells the person in front of it while it goes on."""

    def say(self, text: str) -> None: ...

    def row(self, row: dict[str, Any], total: int) -> None: ...


class Clerk:
    """Acts on messages, in the driver's process."""

    def __init__(self, job: Job, record: Record, tracker: Tracker, progress: Progress) -> None:
        self.job, self.run = job, job.run
        self.record, self.tracker, self.progress = record, tracker, progress
        self.gauges = Gauges(PurePosixPath(job.run.path).name)

    def take(self, messages: list[Message]) -> None:
        """Act on what the trainers wrote. Raises RunFailed if one said that the run failed."""
        if any(message["kind"] == "start" for message in messages):
            self.tracker.missed_some()  # mail of the group before may have died with it
        rows = [m["row"] for m in messages if m["kind"] == "row"]
        self.tracker.rows(rows)
        self.gauges.again()
        if rows:
            self.progress.row(rows[-1], self.job.clock.total or 0)
        for row in rows:  # not the last alone: an earlier one may have the validation
            self.gauges.row(row, len(self.record.damaged))
        for message in messages:
            self._act_on(message["kind"], {k: v for k, v in message.items() if k != "kind"})

    def _act_on(self, kind: str, content: Message) -> None:
        self.record["mlflow_run_id"] = self.tracker.run_id
        if kind == "start":
            self.record.note_start(content)
        elif kind == "checkpoint":
            self.record.save(steps=content["step"], checkpoint=content["name"])
            self.gauges.checkpoint(content["step"])
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
