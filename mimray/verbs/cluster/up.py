"""`mimray cluster up FILE`: the token, `ray up`, and every host there before it comes back."""

from __future__ import annotations

import argparse

from mimray.errors import RunFailed
from mimray.verbs.cluster.commands import make_token, ray
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.hosts import wait_for_hosts
from mimray.verbs.cluster.status import lines_of_hosts
from mimray.verbs.cluster.tunnel import tunnel


def run(arguments: argparse.Namespace) -> int:
    """Start the cluster, or bring it up to date with its file."""
    file = ClusterFile.read(arguments.file)
    make_token(file)
    file.check_files()
    done = ray(file, "up", "-y", file.path)
    if done.returncode:
        raise RunFailed(f"`ray up` ended with exit status {done.returncode}; it said why above")
    with tunnel(file) as server:
        hosts = wait_for_hosts(file, server)
    print("\n".join(lines_of_hosts(hosts)))
    print(f"Next: mimray cluster submit {file.path} -- doctor demo")
    return 0
