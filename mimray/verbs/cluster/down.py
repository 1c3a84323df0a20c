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
from pathlib import Path

from mimray.errors import RunFailed
from mimray.verbs.cluster.commands import ray, show
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.tunnel import JobServer, tunnel

_KEY = "~/ray_bootstrap_key.pem"  # where `ray up` puts the key by which the head reaches the others
_OPTIONS = (
    "-o BatchMode=yes -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -o ConnectTimeout=5 "
    "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
)
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
    except (RunFailed, OSError) as error:
        print(f"no job is stopped, for its server is not reached: {error}")
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
    how = "; ".join(shlex.join(_ssh_from_here(file, host)) for host in left)
    return [
        f"Ray may still run on {', '.join(left)}: not reached, or `ray stop` failed there; end it: {how}"
    ]


def stop_on_all_hosts(file: ClusterFile) -> str:
    """A command for the head: what the file itself ends an older Ray with, on all hosts, the head first,
    for it would start the others again. It names the hosts where that failed, and ends with 0."""
    user = file.config["auth"]["ssh_user"]
    head, *workers = file.addresses
    steps = [(head, _stop(file, head))]
    for host in workers:
        there = shlex.quote(_stop(file, host))
        steps.append((host, f"ssh -i {_KEY} {_OPTIONS} {user}@{host} {there}"))
    return "; ".join(f"{step} || echo {shlex.quote(_LEFT + host)}" for host, step in steps)


def _end_from_here(file: ClusterFile, host: str) -> bool:
    words = _ssh_from_here(file, host)
    print(f"$ {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=_STDERR)  # noqa: S603
    return done.returncode == 0


def _ssh_from_here(file: ClusterFile, host: str) -> list[str]:
    """`ray stop` on a host, with the key and the way that the file names."""
    auth = file.config["auth"]
    key, proxy = auth.get("ssh_private_key"), auth.get("ssh_proxy_command")
    words = ["ssh", *(["-i", str(Path(key).expanduser())] if key else []), *_OPTIONS.split()]
    words += ["-o", f"ProxyCommand={proxy}"] if proxy else []
    return [*words, f"{auth['ssh_user']}@{host}", _stop(file, host)]


def _stop(file: ClusterFile, host: str) -> str:
    """What ends Ray there: the file's own command, for it knows where `ray` lies."""
    kind = "head" if host == file.addresses[0] else "worker"
    commands = map(str, file.config.get(f"{kind}_start_ray_commands") or [])
    return next((command for command in commands if _ENDS_RAY.search(command)), "ray stop")
