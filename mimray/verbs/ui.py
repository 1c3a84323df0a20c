"""`mimray ui`: MLflow's pages over the project's store, for the user of this machine.

Whoever reaches an MLflow without passwords may read, change and delete every run. So it listens on
loopback, and an address that others reach asks for a password.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
import socket
import sys
from importlib.util import find_spec
from typing import NoReturn

from mimray.environment import project_folder
from mimray.errors import UserError
from mimray.tracking import absolute_store, default_uri

_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105  (its name)
_PASSWORD_LENGTH = 12  # MLflow takes none that are shorter


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises UserError for an address that is taken, or that others reach and no password guards.
    """
    uri, host, port = arguments.uri, arguments.host, arguments.port
    if uri is not None and uri.startswith(("http://", "https://")):
        raise UserError("--uri names a server that is there already; open it in a browser")
    number = _number(host)
    is_open = not ipaddress.ip_address(number).is_loopback
    if is_open:
        _check_password(host, port)
    _check_free(number, host, port)
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}  (Ctrl-C ends it)", file=sys.stderr, flush=True)
    _serve(uri, host, port, with_passwords=is_open)


def _number(host: str) -> str:
    """The address that MLflow's server listens on when it is given this name: uvicorn takes one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return str(socket.getaddrinfo(host or "0.0.0.0", None, family)[0][4][0])  # noqa: S104
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: {error}; leave it out for 127.0.0.1") from None


def _check_password(host: str, port: int) -> None:
    if len(os.environ.get(_PASSWORD, "")) < _PASSWORD_LENGTH:
        raise UserError(
            f"--host {host}: others could change and delete every run; leave it out and come through "
            f"`ssh -L {port}:127.0.0.1:{port}`, or set {_PASSWORD} ({_PASSWORD_LENGTH} characters or more; "
            f"for a team: docs/mlflow.md)"
        )
    if find_spec("flask_wtf") is None:
        raise UserError(f"--host {host}: passwords need `pip install 'mlflow[auth]'`")


def _check_free(number: str, host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in number else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((number, port))
        except OverflowError:
            raise UserError(f"--port {port}: ports go from 1 to 65535; 5000 is MLflow's") from None
        except OSError as error:
            raise UserError(
                f"--host {host} --port {port}: {error.strerror}; try --port {port + 1}"
            ) from None


def _serve(uri: str | None, host: str, port: int, with_passwords: bool) -> NoReturn:
    """Become MLflow's own server over the store, so that signals reach it.

    `with_passwords`: ask everybody for one. `admin` has that of the environment at the first start.
    """
    folder = project_folder()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *("--artifacts-destination", (folder / "mlartifacts").as_uri(), "--workers", "1"),
    ]
    # Its job runner executes code for whoever reaches the port; comparing runs needs none of it.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Not among the words, which every user of the machine can read: it may hold a password.
    environment["MLFLOW_BACKEND_STORE_URI"] = absolute_store(uri or default_uri())
    names = _names(host)
    patterns = [f"{name.replace('[', '[[]', 1)}:*" for name in names]
    environment.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", ",".join([*names, *patterns]))
    pages = ",".join(f"http://{name}:{port}" for name in names)
    environment.setdefault("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", pages)
    if with_passwords:
        command += ["--app-name", "basic-auth"]
        environment.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32))
        os.umask(0o077)  # basic_auth.db, beside the store
        os.chdir(folder)
    os.execve(sys.executable, command, environment)  # noqa: S606


def _names(host: str) -> list[str]:
    """What a browser may call the server: a page of any other name that leads here is refused."""
    own = ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host]
    if host == "0.0.0.0":  # noqa: S104
        own += [socket.gethostname(), socket.getfqdn()]
    return list(dict.fromkeys(own))
