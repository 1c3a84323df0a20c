"""`mimray cluster down FILE`: jobs stopped cleanly, Ray ended on every host, then `ray down`.

`ray down` of local hosts ends no Ray but the head's, and that only where `ray` is on the path of a login
shell; a job that runs gets SIGKILL.
"""

from __future__ import annotations

import argparse
import shlex

from mimray.errors import RunFailed
from mimray.verbs.cluster.commands import ray
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.tunnel import JobServer, tunnel

_KEY = "~/ray_bootstrap_key.pem"  # where `ray up` puts the key by which the head reaches the others
_SSH = f"ssh -i {_KEY} -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -o ConnectTimeout=5"


def run(arguments: argparse.Namespace) -> int:
    """End the cluster. Raises UserError where its token is another: nothing is ended then."""
    file = ClusterFile.read(arguments.file)
    try:
        with tunnel(file) as server:
            _stop_jobs(file, server)
    except (RunFailed, OSError) as error:
        print(f"no job is stopped, for its server is not reached: {error}")
    if file.local:
        ray(file, "exec", file.path, stop_on_all_hosts(file))
    done = ray(file, "down", "-y", file.path)
    if done.returncode:
        raise RunFailed(f"`ray down` ended with exit status {done.returncode}; it said why above")
    return 0


def _stop_jobs(file: ClusterFile, server: JobServer) -> None:
    for job in server.jobs():
        if job["status"] in ("PENDING", "RUNNING"):
            stop = ("job", "stop", job["submission_id"])
            ray(file, *stop, RAY_API_SERVER_ADDRESS=server.address)


def stop_on_all_hosts(file: ClusterFile) -> str:
    """A command for the head: what the file itself ends an older Ray with, on all hosts, the head first,
    for it would start the others again. A host that is away is passed over."""
    user = file.config["auth"]["ssh_user"]
    steps = [_stop(file, "head")]
    steps += [f"{_SSH} {user}@{host} {shlex.quote(_stop(file, 'worker'))}" for host in file.workers]
    return "; ".join(steps)


def _stop(file: ClusterFile, kind: str) -> str:
    commands = map(str, file.config.get(f"{kind}_start_ray_commands") or [])
    return next((command for command in commands if command.endswith("ray stop")), "ray stop")
