"""`mimray cluster down FILE`: jobs stopped cleanly, Ray ended on every host, then `ray down`.

`ray down` of local hosts ends no Ray but the head's, and that only where `ray` is on the path of a login
shell; a job that runs gets SIGKILL.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys

from mimray.errors import RunFailed
from mimray.verbs.cluster.commands import ray, show
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.ssh import OPTIONS, typed, words
from mimray.verbs.cluster.tunnel import JobServer, Unreached, tunnel

_KEY = "~/ray_bootstrap_key.pem"  # where `ray up` puts the key by which the head reaches the others
_LEFT = "not ended: "
_STDERR = 2
_ENDS_RAY = re.compile(r"(?:^|[\s/;&])ray stop(?:[ \t][^;&\n]*)?$")  # and starts nothing after it


def run(arguments: argparse.Namespace) -> int:
    """End the cluster. Raises RunFailed where something of it is left, and UserError where its token is
    another: nothing is ended then."""
    file = ClusterFile.read(arguments.file)
    failed: list[str] = []
    try:
        with tunnel(file) as server:
            failed += _stop_jobs(file, server)
    except Unreached as error:
        print(f"no job is stopped, for their server is not reached: {error.why}", file=sys.stderr)
    except OSError as error:
        failed.append(
            f"jobs may lack their last checkpoints, for their server does not answer ({error})"
        )
    if file.local:
        failed += _end_ray(file)
    done = ray(file, "down", "-y", file.path)
    if done.returncode:
        failed.append(f"`ray down` ended with exit status {done.returncode}; it said why above")
    if failed:
        raise RunFailed("; ".join(failed))
    return 0


def _stop_jobs(file: ClusterFile, server: JobServer) -> list[str]:
    """Of each that could not be stopped, a line."""
    failed = []
    for job in server.jobs():
        if job["status"] in ("PENDING", "RUNNING"):
            name = job["submission_id"]
            done = ray(file, "job", "stop", name, RAY_API_SERVER_ADDRESS=server.address)
            if done.returncode:
                failed.append(f"job {name} may lack its last checkpoint, for `ray job stop` failed")
    return failed


def _end_ray(file: ClusterFile) -> list[str]:
    """On every host: through the head, and from here where that fails. A line on those that are left."""
    command = stop_on_all_hosts(file)
    show(file, "exec", file.path, command)
    done = ray(file, "exec", file.path, command, say=False)
    print(done.stdout, file=sys.stderr, flush=True)
    said = {line.strip() for line in done.stdout.splitlines()}
    left = [host for host in file.addresses if done.returncode or f"{_LEFT}{host}" in said]
    left = [host for host in left if not _end_from_here(file, host)]
    if not left:
        return []
    return [
        f"Ray may still run on {', '.join(left)}: not reached, or `ray stop` failed there; end it: "
        f"{_by_hand(file, left)}"
    ]


def _by_hand(file: ClusterFile, hosts: list[str]) -> str:
    """A command for each host; hosts that take the same one share it."""
    alike: dict[str, list[str]] = {}
    for host in hosts:
        alike.setdefault(_stop(file, host), []).append(host)
    return "; ".join(
        f"for each HOST `{typed(file, 'HOST', command)}`"
        if own[1:]
        else typed(file, own[0], command)
        for command, own in alike.items()
    )


def stop_on_all_hosts(file: ClusterFile) -> str:
    """A command for the head: what the file itself ends an older Ray with, on all hosts, the head first,
    for it would start the others again. It names the hosts where that failed, and ends with 0."""
    head, *workers = file.addresses
    steps = f"{_stop(file, head)} || echo {shlex.quote(_LEFT + head)}"
    if not workers:
        return steps
    there, user = shlex.quote(_stop(file, workers[0])), file.config["auth"]["ssh_user"]
    return (
        f"{steps}; for host in {shlex.join(workers)}; do ssh -i {_KEY} {OPTIONS} {user}@$host {there} "
        f'|| echo "{_LEFT}$host"; done'
    )


def _end_from_here(file: ClusterFile, host: str) -> bool:
    ssh = words(file, host, _stop(file, host))
    print(f"$ {shlex.join(ssh)}", file=sys.stderr, flush=True)
    done = subprocess.run(ssh, stdin=subprocess.DEVNULL, stdout=_STDERR)  # noqa: S603
    return done.returncode == 0


def _stop(file: ClusterFile, host: str) -> str:
    """What ends Ray there: the file's own command, for it knows where `ray` lies."""
    kind = "head" if host == file.addresses[0] else "worker"
    commands = map(str, file.config.get(f"{kind}_start_ray_commands") or [])
    return next((command for command in commands if _ENDS_RAY.search(command)), "ray stop")
