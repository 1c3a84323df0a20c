"""The post between the trainers and the driver: rows and events one way, a request to stop the other.

It keeps slow things (MLflow, the terminal) off the training step: a trainer never waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import ray

_INTERVAL = 0.5  # seconds between two deliveries of a trainer

Message = dict[str, Any]
"""`{"kind": "start" | "row" | "picture" | "checkpoint" | "damaged" | "event" | "failed", ...}`."""


@ray.remote(num_cpus=0)
class Mailbox:
    """An actor on the driver's host that holds messages until the driver takes them."""

    def __init__(self, starts: int) -> None:
        self.messages: list[Message] = []
        self.stop = self.failed = False
        self.starts = starts
        self.group: str | None = None
        self.beats: dict[int, Any] = {}

    def admit(self, group: str | None) -> None:
        """Take messages of this group of trainers only; one before it may not know that it was given up."""
        self.group, self.beats = group, {}

    def begin(self, group: str | None, start: Message) -> int:
        """A group of trainers begins; returns how many began before it, in all of the run."""
        if group != self.group:
            return self.starts
        self.messages.append({"kind": "start", **start})
        self.starts += 1
        return self.starts - 1

    def push(self, group: str | None, messages: list[Message]) -> bool:
        """Leave messages of a group of trainers; returns whether it shall stop."""
        if group != self.group:
            return True
        self.messages += messages
        self.failed |= any(message["kind"] == "failed" for message in messages)
        return self.stop

    def take(self) -> list[Message]:
        """All messages since the last call, in order of arrival."""
        messages, self.messages = self.messages, []
        return messages

    def beat(self, beat: Any) -> None:
        """A trainer lives; see `heartbeat.Beat`."""
        if beat.group == self.group:
            self.beats[beat.rank] = beat

    def collect(self) -> tuple[list[Message], list[Any]]:
        """What `take` returns, and the newest beat of each trainer that gave one since the last call."""
        beats, self.beats = list(self.beats.values()), {}
        return self.take(), beats

    def has_failed(self) -> bool:
        """Whether a trainer said that the run failed: starting again would end there too."""
        return self.failed

    def request_stop(self, wanted: bool = True) -> None:
        """Let the trainers stop after the step that they are in, or let those that come go on."""
        self.stop = wanted


class Post(Protocol):
    """Where a trainer leaves its messages."""

    def begin(self, start: Message) -> int:
        """See `Mailbox.begin`."""
        ...

    def send(self, kind: str, **content: Any) -> None:
        """Put a message with the next delivery."""
        ...

    def stop_requested(self) -> bool:
        """Deliver what is due; whether the driver wants the run to stop, as far as known yet."""
        ...

    def flush(self) -> None:
        """Deliver everything and wait until it has arrived."""
        ...


class RemotePost:
    """A trainer's end of the mailbox: gathers messages, delivers them without waiting.

    `group`: the fence's token that its group of trainers was given.
    """

    def __init__(self, mailbox: Any, group: str | None) -> None:
        self.mailbox, self.group = mailbox, group
        self.pending: list[Message] = []
        self.reply: Any = None
        self.sent_at = 0.0
        self.stop = False

    def begin(self, start: Message) -> int:
        """See `Mailbox.begin`; waits for the answer."""
        began: int = ray.get(self.mailbox.begin.remote(self.group, start))
        return began

    def send(self, kind: str, **content: Any) -> None:
        """Put a message with the next delivery."""
        self.pending.append({"kind": kind, **content})

    def stop_requested(self) -> bool:
        """Deliver what is due; whether the driver wants the run to stop, as far as known yet."""
        if self.reply is not None and ray.wait([self.reply], timeout=0)[0]:
            self.stop, self.reply = self.stop or ray.get(self.reply), None
        if self.reply is None and time.monotonic() - self.sent_at > _INTERVAL:
            self._deliver()
        return self.stop

    def flush(self) -> None:
        """Deliver everything and wait until it has arrived."""
        self._deliver()
        ray.get(self.reply)

    def _deliver(self) -> None:
        self.reply = self.mailbox.push.remote(self.group, self.pending)
        self.pending, self.sent_at = [], time.monotonic()


class LocalPost:
    """The post of a loop that runs in the driver's own process: `take` is given every message at once.

    `starts`: how many groups of trainers the run has had; `stopping`: set when it shall stop.
    """

    def __init__(
        self, take: Callable[[list[Message]], None], starts: int, stopping: threading.Event
    ) -> None:
        self.take, self.starts, self.stopping = take, starts, stopping

    def begin(self, start: Message) -> int:
        """Note that the run begins; returns how often it did before."""
        self.send("start", **start)
        return self.starts

    def send(self, kind: str, **content: Any) -> None:
        """Hand a message over."""
        self.take([{"kind": kind, **content}])

    def stop_requested(self) -> bool:
        """Whether somebody asked."""
        return self.stopping.is_set()

    def flush(self) -> None:
        """Nothing waits."""
