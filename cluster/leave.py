"""What a host does before it leaves a cluster: `python cluster/leave.py [SECONDS]`.

The head asks its jobs to stop, and each writes a checkpoint. Another host tells Ray that it leaves, so its
trainers write one and go on where there is room. Returns when they are done, after SECONDS (90) at most.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported

import ray

_LOOK_SECONDS = 1.0


def main(seconds: float) -> None:
    """Ask, and wait."""
    deadline = time.monotonic() + seconds
    ray.init(address="auto", log_to_driver=False)
    here = ray.get_runtime_context()
    node = next(node for node in ray.nodes() if node["NodeID"] == here.get_node_id())
    if "node:__internal_head__" in node["Resources"]:
        stop_jobs(deadline)
    else:
        drain(here.gcs_address, here.get_node_id(), seconds)
        while _trainers() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)


def stop_jobs(deadline: float) -> None:
    """As `ray job stop`, for all that run, each in the time that its own runtime_env sets."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient()
    names = [job.submission_id for job in client.list_jobs() if job.submission_id]
    waiting = {name for name in names if not client.get_job_status(name).is_terminal()}
    for name in waiting:
        client.stop_job(name)
    while waiting and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        waiting = {name for name in waiting if not client.get_job_status(name).is_terminal()}


def drain(gcs: str, node: str, seconds: float) -> None:
    """Ray's notice of preemption, to whoever works on this host."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    reasons = autoscaler_pb2.DrainNodeReason  # type: ignore[attr-defined]
    reason = reasons.Value("DRAIN_NODE_REASON_PREEMPTION")
    until = int((time.time() + seconds) * 1000)
    accepted, why = GcsClient(address=gcs).drain_node(node, reason, "the host leaves", until)
    if not accepted:
        print(f"Ray keeps this host: {why}", file=sys.stderr)


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
