"""While the trainers work: their post, their health, and how many there are."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import ray

from mimray.errors import RunFailed, UserError
from mimray.train.clerk import Clerk
from mimray.train.elastic import Hosts
from mimray.train.fence import Fence
from mimray.train.heartbeat import Beat, Watchdog, end_trainers
from mimray.train.job import Job
from mimray.train.mailbox import Mailbox
from mimray.train.resources import Layout
from mimray.train.shared import check_hosts
from mimray.train.trainer import Fit

log = logging.getLogger("mimray")
_POLL_SECONDS = 0.5
_END_SECONDS = 60.0  # for trainers to end after something went wrong


class Follower:
    """Looks after the trainers of one start, from the driver's main thread."""

    def __init__(self, job: Job, fence: Fence, clerk: Clerk) -> None:
        self.job, self.run, self.fence = job, job.run, fence
        self.clerk, self.record, self.progress = clerk, clerk.record, clerk.progress
        self.watchdog, self.hosts = Watchdog(), Hosts(job.recipe.speed)
        self.ended = 0  # groups of trainers

    def follow(self, layout: Layout, stopping: threading.Event) -> str:
        """Run the trainers in a thread; meanwhile look after them. Returns how they ended."""
        here = ray.get_runtime_context().get_node_id()
        pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        mailbox = Mailbox.options(scheduling_strategy=pin).remote(len(self.record["starts"]))  # type: ignore[attr-defined]
        self.job.mailbox = mailbox
        ray.get(mailbox.admit.remote(self.run.token))
        self.hosts.began()
        fit = Fit(self.job, layout, self.fence)
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
            messages, beats = ray.get(mailbox.collect.remote())
            self.clerk.take(messages)
            if fit.ended > self.ended:
                self.ended = fit.ended
                self.watchdog.forget()
            self.watchdog.hear(beats, time.monotonic())
            self._look_for_the_stuck()
            if stopping.is_set() and not asked:
                asked = True
                fit.last.set()
                self.progress.say("stopping after this step, with a checkpoint")
                mailbox.request_stop.remote()
            elif not asked and not fit.resize.is_set():
                self._follow_the_hosts(fit, mailbox)
        self.clerk.take(ray.get(mailbox.take.remote()))

    def _look_for_the_stuck(self) -> None:
        """End trainers that give no sign of life; Fit starts a group again when one is gone."""
        if verdict := self.watchdog.verdict(time.monotonic()):
            self._end(*verdict)

    def _end(self, beats: list[Beat], why: str) -> None:
        """End trainers and note it."""
        self.watchdog.forget()
        self.progress.say(f"{why}: ended, to be started again")
        self.record.note_event("trainers ended", why=why, ranks=[b.rank for b in beats])
        end_trainers(beats)

    def _follow_the_hosts(self, fit: Fit, mailbox: Any) -> None:
        """Start another group where the hosts ask for it."""
        starts = self.record["starts"]
        verdict = self.hosts.verdict(fit.layout, starts[-1]["hosts"] if starts else [])
        if verdict == "room":
            self._grow(fit, mailbox)
        elif verdict == "starved" and self.watchdog.beats:
            self.hosts.began()
            self._end(
                list(self.watchdog.beats.values()), "hosts are lost, no CPU is left for the data"
            )

    def _grow(self, fit: Fit, mailbox: Any) -> None:
        """Let the trainers stop with a checkpoint, to be started again as a larger group."""
        self.hosts.began()
        try:
            check_hosts(self.job)
        except (UserError, ray.exceptions.RayError) as error:  # a host may be lost just now
            self.progress.say(f"there is room for more trainers, but {error}")
            return
        self.progress.say("there is room for more trainers: starting again after this step")
        fit.resize.set()
        mailbox.request_stop.remote()
