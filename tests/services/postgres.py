"""A PostgreSQL of the tests' own: on loopback, with a password, and ended with them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults.mlflow_server import free_port

_ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`: Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


class Postgres:
    """A server with one database, `mlflow`, and one user of that name.

    `environment`: what libpq's clients take all they need from.
    """

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "mlflow",
            "PGDATABASE": "mlflow",
            "PGPASSWORD": secrets.token_hex(16),
        }
        # PostgreSQL refuses to be root
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(folder, "nobody", "nogroup")
        self.bin = bin_folder

    @classmethod
    def make(cls, bin_folder: Path) -> Postgres:
        """Started, in a folder of its own under the machine's temporary one, which its user must reach."""
        server = cls(Path(tempfile.mkdtemp(prefix="mimray-postgres-")), bin_folder)
        server._start()
        return server

    def _start(self) -> None:
        """Make the server, start it and its database; it answers by now."""
        secret = self.folder / "password"
        secret.write_text(self.environment["PGPASSWORD"])
        if self.user:
            shutil.chown(secret, "nobody", "nogroup")
        self._run(
            *("initdb", "-D", self.folder / "data", "-U", "mlflow", f"--pwfile={secret}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
        )
        log = open(self.folder / "log", "wb")  # noqa: SIM115  (the process has it)
        words = ["-D", self.folder / "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        self.process = subprocess.Popen(
            [self.bin / "postgres", *words, "-F"],
            env=_ENVIRONMENT,
            cwd=self.folder,
            stdout=log,
            stderr=log,
            **self.user,
        )
        until = time.monotonic() + 60
        while self.ask("select 1", database="postgres") is None:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "PostgreSQL does not answer in a minute"
            time.sleep(0.1)
        self.ask("create database mlflow", database="postgres")

    def ask(
        self, question: str, values: tuple[Any, ...] = (), database: str = "mlflow"
    ) -> list[tuple[Any, ...]] | None:
        """The rows of an answer; None where the server does not answer."""
        import psycopg

        secret = self.environment["PGPASSWORD"]
        address = f"host=127.0.0.1 port={self.port} user=mlflow password={secret} dbname={database}"
        try:
            with psycopg.connect(address, autocommit=True) as connection:
                cursor = connection.execute(question, values or None)
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            return None

    def stop(self) -> None:
        """End it and remove what it wrote."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def _run(self, program: str, *words: object) -> None:
        done = subprocess.run(
            [self.bin / program, *map(str, words)],
            env=_ENVIRONMENT,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            **self.user,
        )
        assert done.returncode == 0, done.stderr
