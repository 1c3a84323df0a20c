"""Ray's own commands, with the environment that they need; each is shown before it runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from mimray.errors import UserError
from mimray.verbs.cluster.file import ClusterFile

TOKEN = Path("~/.ray/auth_token")
_STDERR = 2
_OTHERS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")  # of another cluster, maybe


def settings(file: ClusterFile) -> dict[str, str]:
    """Variables without which a command does the wrong thing.

    With Ray 2.50 to 2.60 `ray up` of local hosts starts the head alone where version 2 of its autoscaler
    is on (ray-project/ray#59905).
    """
    token = {"RAY_AUTH_MODE": "token"}
    return token | ({"RAY_UP_enable_autoscaler_v2": "0"} if file.local else {})


def ray(
    file: ClusterFile, *words: str, say: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `ray WORDS` to its end; its output is the user's, or, where `say` is off, the answer's.

    `more`: of its environment.
    """
    if say:
        show(file, *words, **more)
    done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603
        [program(), *words],
        env=environment(file, **more),
        stdin=subprocess.DEVNULL,
        stdout=_STDERR if say else subprocess.PIPE,
        stderr=None if say else subprocess.STDOUT,
        text=True,
        start_new_session=not say,  # Ctrl-C is for those whose words the user sees
    )
    return done


def show(file: ClusterFile, *words: str, **more: str) -> None:
    """Print a command as one would type it."""
    shown = [f"{name}={value}" for name, value in (settings(file) | more).items()]
    print(f"$ {' '.join(shown)} {shlex.join(['ray', *words])}", file=sys.stderr, flush=True)


def environment(file: ClusterFile, **more: str) -> dict[str, str]:
    """This process's, with `settings`, and the token of the file that the hosts get. Not by a proxy, which
    would be told the token: the tunnel begins here."""
    inherited = {n: v for n, v in os.environ.items() if n not in _OTHERS}
    for name in ("no_proxy", "NO_PROXY"):
        inherited[name] = ",".join(filter(None, [inherited.get(name), "127.0.0.1", "localhost"]))
    return inherited | settings(file) | more


def program() -> str:
    """Ray's command line: that of this Python, whose version the hosts have."""
    own = Path(sys.executable).parent / "ray"
    found = str(own) if own.exists() else shutil.which("ray")
    if found is None:
        raise UserError("no `ray` beside this Python; install requirements.lock (`make setup`)")
    return found


def token() -> str:
    """The cluster's. Raises UserError where there is none."""
    try:
        return TOKEN.expanduser().read_text().strip()
    except OSError as error:
        raise UserError(
            f"{TOKEN}: {error.strerror}; `mimray cluster up` makes it with the cluster; of one that was "
            f"started elsewhere, take it from there"
        ) from None


def make_token(file: ClusterFile) -> None:
    """Make the token where there is none, and let nobody else on this machine read it."""
    path = TOKEN.expanduser()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)  # first, for Ray writes the file as the umask has it
    if not path.exists():
        done = ray(file, "get-auth-token", "--generate", say=False)  # it prints it
        if done.returncode or not path.exists():
            raise UserError(f"{TOKEN} cannot be made: `ray get-auth-token --generate` says why")
        print(f"made the cluster's token: {TOKEN}", file=sys.stderr)
    path.chmod(0o600)
