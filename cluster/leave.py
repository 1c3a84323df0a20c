"""What a host does before it leaves a cluster: `python cluster/leave.py [SECONDS]`.

The head asks the drivers of its jobs to stop: each writes a checkpoint and exits with 75, so its job is
FAILED, and KubeRay tries it again. (`ray job stop` would make it STOPPED, which KubeRay takes for done.)
Another host tells Ray that it leaves, so its trainers write a checkpoint and go on where there is room.
Returns when they are done, after SECONDS (90) at most.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported

import ray

_LOOK_SECONDS = 1.0
_SEEN_SECONDS = 10.0  # KubeRay looks at a job every 3 s, and cannot any more when the head is gone


def main(seconds: float) -> None:
    """Ask, and wait."""
    deadline = time.monotonic() + seconds
    ray.init(address="auto", log_to_driver=False)
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == here)
    if "node:__internal_head__" in node["Resources"]:
        stop_drivers(node["NodeManagerAddress"], deadline)
    else:
        move_trainers(here, deadline)


def stop_drivers(address: str, deadline: float) -> None:
    """SIGTERM, once, for the driver of every job; one that has not joined Ray yet gets it when it has.

    `address`: this host's. A driver elsewhere (`--entrypoint-num-cpus`) is out of reach: Ray stops its job.
    """
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient()
    asked: set[str] = set()
    while time.monotonic() < deadline:
        jobs = {job.submission_id: job for job in client.list_jobs() if job.submission_id}
        running = {name: job for name, job in jobs.items() if not job.status.is_terminal()}
        if not running:
            break
        for name, job in running.items():
            if name in asked or job.driver_info is None:
                continue
            asked.add(name)
            if job.driver_info.node_ip_address == address:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(job.driver_info.pid), signal.SIGTERM)
            else:
                client.stop_job(name)
        time.sleep(_LOOK_SECONDS)
    if asked:
        time.sleep(max(0.0, min(_SEEN_SECONDS, deadline - time.monotonic())))


def move_trainers(node: str, deadline: float) -> None:
    """Ray's notice of preemption, to whoever works on this host."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    reasons = autoscaler_pb2.DrainNodeReason  # type: ignore[attr-defined]
    reason = reasons.Value("DRAIN_NODE_REASON_PREEMPTION")
    until = int((time.time() + deadline - time.monotonic()) * 1000)
    gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
    accepted, why = gcs.drain_node(node, reason, "the host leaves", until)
    if not accepted:
        print(f"Ray keeps this host: {why}", file=sys.stderr)
    while _trainers() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def _trainers() -> list[int]:
    """Processes of Ray Train on this host."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"RayTrainWorker" in file.read_bytes():
                found.append(int(file.parent.name))
        except OSError:
            continue  # it has just ended
    return found


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 90.0)
