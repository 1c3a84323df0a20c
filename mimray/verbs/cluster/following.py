"""A job from its submission to its end, over as many tunnels as that takes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

from mimray.errors import RunFailed
from mimray.verbs.cluster.commands import environment, program, ray, show
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.tunnel import JobServer, tunnel

STOP_SECONDS = 120
"""From the signal to SIGKILL: trainers end their step and write a checkpoint."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Following:
    """`name`: Ray's submission id, also the run's mark in Ray's pages; `out`: takes the job's log.

    The first Ctrl-C stops the job, which writes a checkpoint; the second leaves it to itself.
    """

    def __init__(self, file: ClusterFile, name: str, out: IO[str]) -> None:
        self.file, self.name, self.out = file, name, out
        self.server: JobServer | None = None
        self.submitted = self.stopping = False
        self.shown = 0  # lines of the log

    def follow(self, entrypoint: list[str]) -> dict[str, Any]:
        """What Ray knows of the job when it has ended. Raises RunFailed where it cannot be submitted, or
        is not to be reached any more."""
        with self._signals():
            while True:
                info = self._through_a_tunnel(entrypoint)
                if info.get("status") in _ENDED:
                    return info
                print("the tunnel has closed; opening another", file=sys.stderr)

    def _through_a_tunnel(self, entrypoint: list[str]) -> dict[str, Any]:
        """What is known of the job when the log, or the tunnel, ends."""
        try:
            with tunnel(self.file) as self.server:
                if not self.submitted:
                    self._submit(entrypoint)
                if self.stopping:
                    self._stop()
                self._show_log()
                return self.server.job(self.name)
        except OSError:
            return {}
        except RunFailed as error:
            goes_on = f"; job {self.name} goes on without us" if self.submitted else ""
            raise RunFailed(f"{error}{goes_on}") from None

    def _submit(self, entrypoint: list[str]) -> None:
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        done = self._ray(
            *("job", "submit", "--no-wait", "--submission-id", self.name, "--working-dir", "."),
            *("--runtime-env-json", json.dumps({"env_vars": variables}), "--", *entrypoint),
        )
        if done.returncode:
            said = done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
            raise RunFailed(f"`ray job submit` failed: {said[-1].strip()}")
        self.submitted = True

    def _show_log(self) -> None:
        """Pass on what comes, but for the lines that an earlier tunnel brought."""
        words = ("job", "logs", "--follow", self.name)
        assert self.server is not None
        show(self.file, *words)
        with subprocess.Popen(  # noqa: S603
            [program(), *words],
            env=environment(self.file, RAY_API_SERVER_ADDRESS=self.server.address),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the job
        ) as process:
            assert process.stdout is not None
            for number, line in enumerate(process.stdout):
                if number >= self.shown:
                    self.out.write(line)
                    self.out.flush()
                    self.shown = number + 1

    def _stop(self) -> None:
        self._ray("job", "stop", "--no-wait", self.name)

    def _ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert self.server is not None
        show(self.file, *words, RAY_API_SERVER_ADDRESS=self.server.address)
        return ray(self.file, *words, say=False, RAY_API_SERVER_ADDRESS=self.server.address)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._asked_to_stop) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        """While it is on its way to the cluster the job is stopped when it is there."""
        if self.stopping or self.server is None:
            raise KeyboardInterrupt
        self.stopping = True
        print(
            f"stopping job {self.name}: it writes a checkpoint (at most {STOP_SECONDS} s); "
            f"once more leaves it to itself",
            file=sys.stderr,
        )
        if self.submitted:
            self._stop()
