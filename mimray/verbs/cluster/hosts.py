"""Which hosts have joined, and why the others have not."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

from mimray.errors import RunFailed
from mimray.verbs.cluster.commands import ray
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.tunnel import JobServer, Patience, Unreached, tunnel

_JOIN_SECONDS = 1800.0  # a cloud's host boots and installs torch
_LOOK_SECONDS = 3.0
_LOG_SECONDS = 15.0
_LOG = "cd /tmp/ray/session_latest/logs; tail --quiet --lines=2000 monitor.err monitor.out"
_TRIES = 3  # of setting a host up; a busy one is slow to start
_LINES = 5  # that are shown
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ORIGIN = re.compile(r"^\S+ \S+\s+[A-Z]+ \S+:\d+ -- ")
_COMMAND = re.compile(r"\sV+INFO\s|Shared connection to ")  # what is run, and how it always ends


def missing(file: ClusterFile, hosts: list[dict[str, Any]]) -> list[str]:
    """Addresses of the file that no host has; empty where as many have joined as shall."""
    joined = {host["node_ip"] for host in hosts}
    if len(hosts) >= file.least:  # Ray may know them by other addresses
        return []
    return [address for address in file.addresses if address not in joined]


def tally(file: ClusterFile, hosts: list[dict[str, Any]]) -> str:
    """How many have joined, and who is missing."""
    lacking = missing(file, hosts)
    waiting = f", missing {', '.join(lacking)}" if lacking else ""
    return f"{len(hosts)} of {file.least} hosts have joined{waiting}"


def wait_for_hosts(file: ClusterFile) -> list[dict[str, Any]]:
    """Until every host has joined, over as many tunnels as that takes; says who is missing. Raises
    RunFailed, with the reason that the head has noted, where setting one up has failed several times, or
    takes too long."""
    deadline, patience = time.monotonic() + _JOIN_SECONDS, Patience()
    while True:
        try:
            with tunnel(file) as server:
                return _all_hosts(file, server, deadline, patience)
        except (Unreached, OSError) as error:
            if not patience.lasts():
                why = error.why if isinstance(error, Unreached) else error
                raise RunFailed(
                    f"{file.path}: Ray has started, and its job server does not say which hosts have "
                    f"joined ({why}); `mimray cluster status {file.path}` asks again"
                ) from None


def _all_hosts(
    file: ClusterFile, server: JobServer, deadline: float, patience: Patience
) -> list[dict[str, Any]]:
    look_at, said = 0.0, ""
    while len(hosts := server.hosts()) < file.least:
        patience.renew()
        told = tally(file, hosts)
        if told != said:
            print(told, file=sys.stderr, flush=True)
            said = told
        if time.monotonic() > look_at:
            lacking = missing(file, hosts)
            log = head_log(file)
            look_at = time.monotonic() + _LOG_SECONDS
            given_up = log.count("update-failed") >= _TRIES * max(1, len(lacking))
            if given_up or time.monotonic() > deadline:
                raise RunFailed(
                    f"{told}; the head keeps trying, and its log says: {' | '.join(telling(log, lacking))}"
                )
        time.sleep(_LOOK_SECONDS)
    return hosts


def head_log(file: ClusterFile) -> str:
    """What the autoscaler on the head says."""
    return ray(file, "exec", file.path, _LOG, say=False).stdout


def telling(log: str, lacking: list[str]) -> list[str]:
    """The last lines that say why hosts are missing: they speak of one of them, or of a failure."""
    lines = [_COLOUR.sub("", line).strip() for line in log.splitlines()]
    lines = [_ORIGIN.sub("", line) for line in lines if not _COMMAND.search(line)]
    words = ("fail", "error", "denied", "refused", "timed out", "no route", "python: ", *lacking)
    said = [line for line in lines if any(word in line.lower() for word in words)]
    return list(dict.fromkeys(said))[-_LINES:]
