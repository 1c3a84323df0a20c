"""`mimray cluster status FILE`: the hosts, those that are missing and why, and the jobs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mimray.errors import RunFailed
from mimray.redaction import redact
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.hosts import head_log, missing, tally, telling
from mimray.verbs.cluster.tunnel import answering

_RESOURCES = ("CPU", "GPU")
_JOB = ("submission_id", "status", "driver_exit_code", "entrypoint")


def run(arguments: argparse.Namespace) -> int:
    """Print what the cluster is now; exit 3 where hosts are missing."""
    file = ClusterFile.read(arguments.file)
    with answering(file) as server:
        hosts, jobs = server.hosts(), [_shown(job) for job in server.jobs()]
    lacking, short = missing(file, hosts), len(hosts) < file.least
    why = list(map(redact, telling(head_log(file), lacking))) if short else []
    if arguments.json:
        result = {
            "hosts": [{"address": host["node_ip"], **_resources(host)} for host in hosts],
            "missing": lacking,
            "reasons": why,
            "jobs": jobs,
        }
        print(json.dumps(result))
    else:
        print("\n".join(lines_of_hosts(hosts)))
        if short:
            print("\n  ".join([tally(file, hosts), *why]))
        for job in jobs:
            print(f"{job['submission_id']}  {job['status']:<9}  {job['entrypoint']}")
    return RunFailed.exit_code if short else 0


def lines_of_hosts(hosts: list[dict[str, Any]]) -> list[str]:
    """A host a line."""
    return [
        f"{host['node_ip']:<15}  "
        + ", ".join(f"{count:g} {name}" for name, count in _resources(host).items())
        for host in hosts
    ]


def _shown(job: dict[str, Any]) -> dict[str, Any]:
    """What is told of a job; others may have typed passwords among its words."""
    told = {name: job.get(name) for name in _JOB}
    return told | {"entrypoint": redact(str(told["entrypoint"] or ""))}


def _resources(host: dict[str, Any]) -> dict[str, float]:
    total = host.get("resources_total") or {}
    return {name: total[name] for name in _RESOURCES if name in total}
