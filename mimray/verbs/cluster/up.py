"""`mimray cluster up FILE`: a look at the hosts, the token, `ray up`, and all of them there at the end.

`ray up -y` of a cluster that is up restarts its Ray without a question, and kills what runs there.
"""

from __future__ import annotations

import argparse

from mimray.errors import RunFailed, UserError
from mimray.verbs.cluster.commands import TOKEN, make_token, ray
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.hosts import wait_for_hosts
from mimray.verbs.cluster.ssh import check_hosts
from mimray.verbs.cluster.status import lines_of_hosts
from mimray.verbs.cluster.tunnel import Unreached, tunnel


def run(arguments: argparse.Namespace) -> int:
    """Start the cluster, or bring it up to date with its file."""
    file = ClusterFile.read(arguments.file)
    file.check_addresses()
    file.check_files(made=TOKEN)
    check_hosts(file)
    make_token(file)
    _refuse_to_kill_jobs(file)
    done = ray(file, "up", "-y", file.path)
    if done.returncode:
        raise RunFailed(f"`ray up` ended with exit status {done.returncode}; it said why above")
    hosts = wait_for_hosts(file)
    print("\n".join(lines_of_hosts(hosts)))
    print(f"Next: mimray cluster submit {file.path} -- doctor demo")
    return 0


def _refuse_to_kill_jobs(file: ClusterFile) -> None:
    """Raises UserError where jobs run, and where another token keeps us from knowing.

    Not `--no-restart` instead: it leaves Ray as it was, whatever the file says now, and installs a changed
    lock under the feet of the jobs.
    """
    try:
        with tunnel(file) as server:
            names = server.running()
    except Unreached:
        return  # no cluster, or one whose job server is gone
    except OSError as error:
        raise RunFailed(
            f"{file.path}: the cluster is up, and does not say whether jobs run ({error}); "
            f"`mimray cluster down {file.path}` ends it"
        ) from None
    if names:
        raise UserError(
            f"{file.path}: {', '.join(names)} would be killed, for `ray up` restarts Ray; wait for the "
            f"end, or `mimray cluster down {file.path}` first, which lets jobs write a checkpoint"
        )
