"""ssh from here to the hosts that a cluster's file names, with the file's own user, key and proxy."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from mimray.errors import RunFailed, UserError
from mimray.verbs.cluster.file import ClusterFile, at_home

OPTIONS = (
    "-o BatchMode=yes -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -o ConnectTimeout=5 "
    "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
)
_SECONDS = 30  # of a host that lets in, and says nothing then
_AT_ONCE = 32


def words(file: ClusterFile, host: str, command: str, proxy: str | None = None) -> list[str]:
    """What runs a command on a host and asks nobody. `proxy`: in place of the file's."""
    proxy = proxy or file.config["auth"].get("ssh_proxy_command")
    options = [*OPTIONS.split(), *(["-o", f"ProxyCommand={proxy}"] if proxy else [])]
    return ["ssh", *_key(file, expanded=True), *options, _at(file, host), command]


def typed(file: ClusterFile, host: str, command: str) -> str:
    """The same as a person types it. `host`: or a word for several."""
    proxy = file.config["auth"].get("ssh_proxy_command")
    options = f" -o {shlex.quote(f'ProxyCommand={proxy}')}" if proxy else ""
    key = "".join(f" {word}" for word in _key(file))
    return f"ssh{key}{options} {_at(file, host)} {shlex.quote(command)}"


def check_hosts(file: ClusterFile) -> None:
    """Raises RunFailed, with the names, where hosts of the file do not let us in; `ray up` asks 15
    minutes long. A host counts that only the head reaches: the head is who installs it."""
    if not file.addresses:
        return
    if shutil.which("ssh") is None:
        raise UserError("no `ssh` here; install it (Debian: openssh-client)")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda host: _why_not(file, host), file.addresses))
    shut = {host: why for host, why in zip(file.addresses, answers, strict=True) if why}
    if shut:
        first, why = next(iter(shut.items()))
        raise RunFailed(
            f"{file.path}: no ssh to {', '.join(shut)} ({why}); try it by hand until it comes back "
            f"without a question: `{typed(file, first, 'true')}`"
        )


def _why_not(file: ClusterFile, host: str) -> str:
    """The reason for which a host is not reached; empty where it is."""
    why, head = _try(words(file, host, "true")), file.addresses[0]
    if not why or host == head or file.config["auth"].get("ssh_proxy_command"):
        return why
    to_head = ["ssh", *_key(file, expanded=True), *OPTIONS.split(), "-W", "%h:%p", _at(file, head)]
    return why if _try(words(file, host, "true", shlex.join(to_head))) else ""


def _try(command: list[str]) -> str:
    """The last words of what fails."""
    try:
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_SECONDS} s"
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return lines[-1].strip() if done.returncode else ""


def _key(file: ClusterFile, expanded: bool = False) -> list[str]:
    key = file.config["auth"].get("ssh_private_key")
    return ["-i", str(at_home(file.path, key)) if expanded else key] if key else []


def _at(file: ClusterFile, host: str) -> str:
    """User and host, the head by the address that it has from here."""
    provider = file.config["provider"]
    outer = provider.get("external_head_ip") if host == provider["head_ip"] else None
    return f"{file.config['auth']['ssh_user']}@{outer or host}"
