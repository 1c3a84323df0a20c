"""Hosts that are network namespaces, and the project's cluster.yaml for them.

They have an address, home, /tmp and ssh server each, and reach no package registry, so this checkout's
packages are put where `make setup` would install them.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.train.local_ray import BIN, REPOSITORY, Cluster, alive

LAB = REPOSITORY.parent / "shared" / "lab" / "lab"
HEAD, WORKER = "10.77.0.1", "10.77.0.2"
EDITS = {
    "head_ip: 10.0.0.1 ": f"head_ip: {HEAD} ",
    "worker_ips: [10.0.0.2]": f"worker_ips: [{WORKER}]",
    "ssh_user: mimray": "ssh_user: root",
}
TOOLS = f"{os.environ['PATH']}:/usr/sbin"


def missing() -> str | None:
    """Why no hosts can be had here."""
    if os.geteuid():
        return "needs root"
    if not LAB.exists():
        return f"needs {LAB}"
    tools = ("ip", "sshd", "ssh", "rsync", "unshare")
    lacking = [tool for tool in tools if not shutil.which(tool, path=TOOLS)]
    if lacking:
        return f"needs {', '.join(lacking)}"
    return "somebody else's hosts are up" if Path("/sys/class/net/labbr0").exists() else None


def install(project: Path) -> None:
    """Leave what `make setup` leaves, by links to this checkout's packages."""
    for name in (".venv", ".uv/bin"):
        (project / name).mkdir(parents=True)
    for entry in BIN.parent.iterdir():
        if entry.name != "ready":
            (project / ".venv" / entry.name).symlink_to(entry)
    for name in (".venv/ready", ".uv/bin/uv"):
        (project / name).touch()


def edited(edits: dict[str, str]) -> str:
    """The project's cluster.yaml with its three places filled in."""
    text = (REPOSITORY / "cluster.yaml").read_text()
    for old, new in edits.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def ray(env: dict[str, str], *words: str) -> str:
    """One of Ray's own commands, from the project's folder."""
    done = subprocess.run(
        [str(BIN / "ray"), *words],
        env=env,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


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


def processes_of(host: str) -> list[int]:
    """All that runs on a host, seen from outside: its network may be gone."""
    path = shutil.which("ip", path=TOOLS)
    listed = subprocess.run([str(path), "netns", "pids", host], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]
