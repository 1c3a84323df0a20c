"""The Ray that a run starts for itself is nobody else's: it listens on loopback, in a closed folder."""

import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.train.runs import environment

pytestmark = pytest.mark.slow

CODE = """
import os, sys
from mimray import environment
environment.prepare()
from mimray.train.cluster import ray_session
with ray_session(1):
    import ray
    print(os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"]), flush=True)
    sys.stdin.readline()
"""


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:  # it grows
        found += [child for child, parent in parents.items() if parent == one]
    return found


def sockets(pid: int) -> set[str]:
    """Inodes of a process's sockets."""
    found = set()
    with suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(handle.readlink()).removeprefix("socket:[").rstrip("]"))
    return found


def listening(pids: list[int]) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses at which these processes wait for connections."""
    own = set().union(*map(sockets, pids))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            field = line.split()
            if field[3] == "0A" and field[9] in own:
                words = bytes.fromhex(field[1].partition(":")[0])
                turned = [
                    words[k : k + 4][::-1] for k in range(0, len(words), 4)
                ]  # as the CPU has them
                found.append(ipaddress.ip_address(b"".join(turned)))
    return found


def is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Loopback, also as IPv6 writes IPv4's."""
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def test_listening_is_seen():
    before = Counter(listening([os.getpid()]))  # of other tests in this process
    with socket.create_server(("0.0.0.0", 0)), socket.create_server(("127.0.0.1", 0)):
        found = Counter(listening([os.getpid()])) - before
        assert sorted(map(is_own, found.elements())) == [False, True]


def test_it_listens_to_this_machine_alone(tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("mimray-*"))
    process = subprocess.Popen(
        [sys.executable, "-c", CODE],
        env=environment(),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline().split() == ["token", "64"]
        addresses = listening(family(process.pid))
        assert addresses
        assert [address for address in addresses if not is_own(address)] == []
        made = set(Path(tempfile.gettempdir()).glob("mimray-*")) - before
        modes = {f.name: f.stat().st_mode & 0o777 for f in made if (f / ".lock").exists()}
        assert modes and set(modes.values()) == {0o700}
    finally:
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(120) == 0
