"""Hosts on one Linux machine, for `ray up` and for what happens when one dies.

Each is a network namespace on a common bridge, with an address, a name, processes, a /tmp, a home and an
ssh server of its own, which lets in the owner of one key. Processes, for `ray stop` ends every Ray that it
sees; /tmp, for Ray keeps its sessions there; a home, for there a cluster is installed. All other files are
those of the machine. Needs root, and Debian's iproute2, openssh-server, openssh-client, rsync.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

TOOLS = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_NEEDED = ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "unshare", "mount")
_BRIDGE, _NET, _LINK = "mimray-lab", "10.87.0", "mimray-"

_INIT = """
set -e
hostname {name}
mount --bind {folder}/tmp/{name} /tmp
for file in hosts hostname passwd; do mount --bind {folder}/etc/{name}/$file /etc/$file; done
mkdir -p /run/sshd
exec {sshd} -D -e -f {folder}/sshd_config
"""
_SSHD = """
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
"""


def missing() -> str | None:
    """Why no hosts can be had here."""
    if os.geteuid():
        return "needs root"
    lacking = [tool for tool in _NEEDED if not shutil.which(tool, path=TOOLS)]
    if lacking:
        return f"needs {', '.join(lacking)}"
    if not may_make_networks("bridge"):
        return "needs network namespaces, which this machine's root may not make"
    return "other hosts are up" if any(map(_processes, _spaces())) else None


def may_make_networks(kind: str = "veth") -> bool:
    """Whether this process may make network namespaces, with a link of that kind in them."""
    if not all(shutil.which(tool, path=TOOLS) for tool in ("unshare", "ip")):
        return False
    probe = f"ip link add probe type {kind}"
    asked = [_tool("unshare"), "--net", "sh", "-c", probe]
    return (
        subprocess.run(asked, env=os.environ | {"PATH": TOOLS}, capture_output=True).returncode == 0
    )


def address(name: str) -> str:
    """Of h1, h2, ..."""
    return f"{_NET}.{name.removeprefix('h')}"


class Machines:
    """Hosts h1, h2, ... whose files lie under `folder`, which all of them see."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.names = folder, [f"h{k}" for k in range(1, count + 1)]

    @property
    def key(self) -> Path:
        """Opens every host, for root."""
        return self.folder / "key"

    def home(self, name: str) -> Path:
        """Of root on a host; it outlasts a crash, as a disk does."""
        return self.folder / "home" / name

    def up(self) -> None:
        """Lay the bridge and boot all hosts."""
        _remove_leftovers()
        self.folder.mkdir(parents=True)
        for key in ("key", "host_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key))
        (self.folder / "sshd_config").write_text(_SSHD.format(folder=self.folder))
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("address", "add", f"{_NET}.254/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for name in self.names:
            self._write_etc(name)
            self._lay_cable(name)
            self.boot(name)

    def down(self) -> None:
        """End all, as far as it was begun."""
        for name in self.names:
            self.crash(name)
            _remove(_LINK + name)
        _ip("link", "del", _BRIDGE, check=False)

    def boot(self, name: str) -> None:
        """Start a host, with an empty /tmp, and wait until it lets us in."""
        tmp = self.folder / "tmp" / name
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        tmp.chmod(0o1777)
        sshd = shutil.which("sshd", path=TOOLS)
        init = _INIT.format(name=name, folder=self.folder, sshd=sshd)
        own = ("--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc")
        with (self.folder / f"{name}.log").open("w") as log:
            subprocess.Popen(
                [
                    *(_tool("ip"), "netns", "exec", _LINK + name),
                    *(_tool("unshare"), *own, "--propagation", "private", "bash", "-c", init),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while self.ssh(name, "true").returncode:
            log_text = (self.folder / f"{name}.log").read_text()
            assert time.monotonic() < deadline, f"{name} does not start: {log_text}"
            time.sleep(0.2)

    def ssh(self, name: str, command: str) -> subprocess.CompletedProcess:
        """Run a command there, as its user would."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        words = [word for option in (*options, "ConnectTimeout=5") for word in ("-o", option)]
        return subprocess.run(
            [_tool("ssh"), "-i", str(self.key), *words, f"root@{address(name)}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def crash(self, name: str) -> None:
        """Power loss: SIGKILL for everything on it."""
        deadline = time.monotonic() + 30
        while pids := self.processes(name):
            assert time.monotonic() < deadline, f"{name} does not die: {pids}"
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)

    def cut(self, name: str) -> None:
        """Pull its network cable."""
        _ip("link", "set", _LINK + name, "down")

    def heal(self, name: str) -> None:
        """Plug it in again."""
        _ip("link", "set", _LINK + name, "up")

    def processes(self, name: str) -> list[int]:
        """All that runs on a host, seen from outside: its network may be gone."""
        return _processes(_LINK + name)

    def _write_etc(self, name: str) -> None:
        etc = self.folder / "etc" / name
        etc.mkdir(parents=True)
        self.home(name).mkdir(parents=True)
        known = "".join(f"{address(other)} {other}\n" for other in self.names)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        (etc / "hostname").write_text(f"{name}\n")
        others = Path("/etc/passwd").read_text().splitlines(keepends=True)
        root = f"root:x:0:0:root:{self.home(name)}:/bin/bash\n"
        (etc / "passwd").write_text(root + "".join(o for o in others if o[:5] != "root:"))
        (self.home(name) / ".bashrc").touch()

    def _lay_cable(self, name: str) -> None:
        space = _LINK + name
        _ip("netns", "add", space)
        _ip("link", "add", space, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", space, "master", _BRIDGE, "up")
        _ip("-n", space, "address", "add", f"{address(name)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", space, "link", "set", device, "up")
        _ip("-n", space, "route", "add", "default", "via", f"{_NET}.254")


def _remove_leftovers() -> None:
    """Of a test that was killed: the bridge, and hosts on which nothing runs."""
    for space in _spaces():
        assert not _processes(space), f"{space} is up"
        _remove(space)
    _ip("link", "del", _BRIDGE, check=False)


def _spaces() -> list[str]:
    """Network namespaces of hosts, whoever has made them."""
    names = [line.split()[0] for line in _ip("netns", "list").splitlines()]
    return [name for name in names if name.startswith(_LINK)]


def _processes(space: str) -> list[int]:
    return [int(pid) for pid in _ip("netns", "pids", space, check=False).split()]


def _remove(space: str) -> None:
    _ip("link", "del", space, check=False)
    _ip("netns", "del", space, check=False)


def _tool(name: str) -> str:
    found = shutil.which(name, path=TOOLS)
    assert found is not None, name
    return found


def _ip(*words: str, check: bool = True) -> str:
    return _run("ip", *words, check=check)


def _run(name: str, *words: str, check: bool = True) -> str:
    done = subprocess.run([_tool(name), *words], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{name} {' '.join(words)}: {done.stderr}"
    return done.stdout
