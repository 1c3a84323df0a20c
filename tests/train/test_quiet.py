"""Nothing phones home: a whole run inside a network whose every way out is watched."""

import json
import subprocess
import sys

import pytest

from tests.lab.machines import may_make_networks
from tests.train.runs import TINY, command, environment

pytestmark = pytest.mark.slow


# Loopback, and a cable that leads nowhere and counts what is sent. The name server is a process that
# writes down who is asked for, and knows nobody. Kernels without IPv6 lack the switch: nothing to do.
_NETWORK = """
set -e
ip link set lo up
ip link add cable type veth peer name nowhere
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 2>/dev/null || true
ip addr add 10.99.0.1/24 dev cable
ip link set nowhere up
ip link set cable up
ip route add default via 10.99.0.2
echo nameserver 127.0.0.1 >resolv.conf
mount --bind resolv.conf /etc/resolv.conf
python3 names.py & names=$!
sleep 2
mount -t sysfs none /sys
sent() { cat /sys/class/net/cable/statistics/tx_packets; }
before=$(sent)
status=0; "$@" || status=$?
echo "$(($(sent) - before))" >packets
kill $names
exit $status
"""

_NAMES = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    query, client = server.recvfrom(512)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    print(".".join(labels), file=open("asked", "a"), flush=True)
    server.sendto(query[:2] + b"\\x81\\x83" + query[4:6] + bytes(6) + query[12:], client)
"""


def watch(folder, *watched: str) -> tuple[int, set[str]]:
    """Packets that a command sends beyond loopback, and the names it asks for."""
    (folder / "names.py").write_text(_NAMES)
    (folder / "asked").touch()
    inside = ["unshare", "--net", "--mount", "bash", "-c", _NETWORK, "bash", *watched]
    subprocess.run(inside, cwd=folder, env=environment(), timeout=240)
    return int((folder / "packets").read_text()), set((folder / "asked").read_text().split())


@pytest.mark.skipif(not may_make_networks(), reason="needs root and network namespaces")
class TestNothingLeavesTheMachine:
    def test_the_watch_sees_a_connection_and_a_name(self, tmp_path):
        knock = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("10.99.0.2", 9))
try: socket.getaddrinfo("metrics.example", 443)
except OSError: pass
"""
        packets, names = watch(tmp_path, sys.executable, "-c", knock)
        assert packets > 0
        assert "metrics.example" in names

    def test_a_whole_run_sends_nothing_and_asks_for_nobody(self, tmp_path):
        packets, names = watch(tmp_path, *command(tmp_path, *TINY, "speed.workers=1"))
        record = json.loads((tmp_path / "runs/run/run.json").read_text())
        assert record["status"] == "finished"
        assert packets == 0
        # torch's rendezvous looks up its own peer, loopback, in reverse
        assert names <= {"1.0.0.127.in-addr.arpa"}
