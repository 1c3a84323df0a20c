"""A job from its submission to its end, over as many tunnels as that takes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any
from urllib.error import HTTPError

from mimray.errors import RunFailed
from mimray.verbs.cluster.commands import ray, show
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.tunnel import JobServer, Patience, Unreached, tunnel

STOP_SECONDS = 120
"""From the signal to SIGKILL: trainers end their step and write a checkpoint."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 2.0
_UNKNOWN = 404


class Following:
    """`name`: Ray's submission id, also the run's mark in Ray's pages; `out`: takes the job's log. `sent`:
    whether the cluster may have it.

    The first Ctrl-C stops the job, which writes a checkpoint; the second leaves it to itself, as a terminal
    that closes does at once. Where the job was not to be stopped, the next one tries again.
    """

    def __init__(self, file: ClusterFile, name: str, out: IO[str]) -> None:
        self.file, self.name, self.out = file, name, out
        self.server: JobServer | None = None
        self.sent = self.submitted = False
        self.stopping = self.refused = False  # asked to stop; the cluster was not told, or refused
        self.patience = Patience()
        self.shown = 0  # characters of the log

    def follow(self, entrypoint: list[str]) -> dict[str, Any]:
        """What Ray knows of the job when it has ended. Raises RunFailed where it cannot be submitted, or
        is not to be reached or not known any more; KeyboardInterrupt where it is left to itself."""
        with self._signals():
            while True:
                info = self._through_a_tunnel(entrypoint)
                if info.get("status") in _ENDED:
                    return info

    def _through_a_tunnel(self, entrypoint: list[str]) -> dict[str, Any]:
        """What is known of the job when it has ended; nothing where the tunnel breaks before."""
        try:
            with tunnel(self.file) as self.server:
                if not self.submitted:
                    self._submit(entrypoint)
                if self.stopping:
                    self._stop()
                return self._watch(self.server)
        except HTTPError as error:
            if error.code == _UNKNOWN:  # a head that has started again knows no job of before
                raise RunFailed(
                    f"the cluster does not know job {self.name} any more; submit it again"
                ) from None
            return self._open_another(error)
        except BrokenPipeError:  # who read the log has left, as `head` does
            raise
        except OSError as error:
            return self._open_another(error)
        except Unreached as error:
            if not self.submitted:
                raise
            return self._open_another(error.why)

    def _open_another(self, why: object) -> dict[str, Any]:
        if not self.patience.lasts():
            goes_on = f"; job {self.name} goes on without us" if self.submitted else ""
            raise RunFailed(f"the job server does not answer: {why}{goes_on}") from None
        return {}

    def _submit(self, entrypoint: list[str]) -> None:
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        self.sent = True
        done = self._ray(
            *("job", "submit", "--no-wait", "--submission-id", self.name, "--working-dir", "."),
            *("--runtime-env-json", json.dumps({"env_vars": variables}), "--", *entrypoint),
        )
        if done.returncode:
            raise RunFailed(
                f"`ray job submit` failed: {_last_words(done)}; whether the cluster has job {self.name} "
                f"all the same, `mimray cluster status {self.file.path}` shows"
            )
        self.submitted = True

    def _watch(self, server: JobServer) -> dict[str, Any]:
        """Pass the job's log on until it has ended.

        `ray job logs --follow` takes a tunnel that breaks for the log's end, and shows the trace of what it
        meets then; so the log is asked for again and again, as a whole, for Ray serves no part of it.
        """
        while True:
            info = server.job(self.name)  # before the log: who has ended says no more
            ended = info["status"] in _ENDED
            read = self._show_log(server, ended)
            if ended and not read:
                print("the end of the log cannot be read from here", file=sys.stderr)
            if ended:
                return info
            self.patience.renew()
            time.sleep(_LOOK_SECONDS)

    def _show_log(self, server: JobServer, ended: bool) -> bool:
        """Pass on the lines that have come since the last look; returns whether the log could be read."""
        try:
            log = server.log(self.name)
        except HTTPError as error:
            if error.code == _UNKNOWN:
                raise
            return False  # Ray reads no log that ends within a character
        whole = len(log) if ended else log.rfind("\n") + 1
        self.out.write(log[self.shown : whole])
        self.out.flush()
        self.shown = max(self.shown, whole)
        return True

    def _stop(self) -> None:
        done = self._ray("job", "stop", "--no-wait", self.name)
        self.refused = done.returncode != 0
        if self.refused:
            print(
                f"job {self.name} is not stopped: {_last_words(done)}; Ctrl-C tries again",
                file=sys.stderr,
            )

    def _ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert self.server is not None
        show(self.file, *words, RAY_API_SERVER_ADDRESS=self.server.address)
        return ray(self.file, *words, say=False, RAY_API_SERVER_ADDRESS=self.server.address)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        ignored = signal.SIG_IGN  # as nohup has it
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not ignored]
        before = {number: signal.signal(number, self._asked) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        """To stop the job, which is done when it is there where it is on its way; or to leave it."""
        left = self.stopping and not self.refused
        if left or self.server is None or number == signal.SIGHUP:
            raise KeyboardInterrupt
        self.stopping, self.refused = True, False
        print(
            f"stopping job {self.name}: it writes a checkpoint (at most {STOP_SECONDS} s); "
            f"once more leaves it to itself",
            file=sys.stderr,
        )
        if self.submitted:
            self._stop()


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
    return lines[-1].strip()
