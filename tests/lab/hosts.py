"""The project's cluster.yaml on the lab's hosts.

They reach no package registry, so this checkout's packages are put where `make setup` would install them.
"""

import subprocess
import time
from pathlib import Path

from tests.lab.machines import Machines, address
from tests.train.local_ray import BIN, REPOSITORY, Cluster, alive

CPUS = {"head": 3, "worker": 2}
"""That Ray counts, whatever the machine has: a trainer of two CPUs fits each, and one is left to decode."""


def install(project: Path) -> None:
    """Leave what `make setup` leaves, by links to this checkout's packages."""
    (project / ".venv").mkdir(parents=True)
    for entry in BIN.parent.iterdir():
        if entry.name != "ready":
            (project / ".venv" / entry.name).symlink_to(entry)
    (project / ".venv/ready").write_bytes((REPOSITORY / "requirements.lock").read_bytes())


def edited(machines: Machines) -> str:
    """The project's cluster.yaml with its three places filled in, and CPUs as `CPUS` has them."""
    head, *workers = map(address, machines.names)
    edits = {
        "head_ip: 192.0.2.1 ": f"head_ip: {head} ",
        "worker_ips: [192.0.2.2]": f"worker_ips: [{', '.join(workers)}]",
        "ssh_user: mimray": "ssh_user: root",
        "~/.ssh/mimray   #": f"{machines.key}   #",
        "ray start --head": f"ray start --head --num-cpus={CPUS['head']}",
        "ray start --address": f"ray start --num-cpus={CPUS['worker']} --address",
    }
    text = (REPOSITORY / "cluster.yaml").read_text()
    for old, new in edits.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def mimray(env: dict[str, str], *words: str, seconds: float = 1800) -> subprocess.CompletedProcess:
    """A verb of this checkout, from the project's folder."""
    return subprocess.run(
        [str(BIN / "python"), "-m", "mimray.cli", *words],
        env=env,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def wait_for_hosts(cluster: Cluster, count: int, seconds: float = 90) -> None:
    """Until that many hosts have joined."""
    deadline = time.monotonic() + seconds
    joined: list[str] = []
    while time.monotonic() < deadline:
        joined = [node["node_ip"] for node in alive(cluster)]
        if len(joined) == count:
            return
        time.sleep(0.5)
    raise AssertionError(f"after {seconds} s only {joined} have joined")
