"""A team's MLflow as `cluster/mlflow/compose.yaml` has it: its command and settings, without containers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.faults.mlflow_server import free_port
from tests.services.postgres import Postgres
from tests.train.local_ray import REPOSITORY
from tests.train.runs import environment

FOLDER = REPOSITORY / "cluster/mlflow"
NAME = "mlflow.example.org"
ADMIN = ("admin", "the admin's own password")
STORE = {"AWS_ACCESS_KEY_ID": "mlflow", "AWS_SECRET_ACCESS_KEY": "what opens the store"}
_WANTED = re.compile(r"\$\{(\w+)(:\?|:-)([^}]*)\}")


def composed(secrets: dict[str, str]) -> dict[str, Any]:
    """The file as Docker Compose reads it; KeyError, with its words, for a secret that is not there."""

    def fill(match: re.Match) -> str:
        name, kind, words = match.groups()
        if not secrets.get(name) and kind == ":?":
            raise KeyError(f"{name}: {words}")
        return secrets.get(name) or words

    return yaml.safe_load(_WANTED.sub(fill, (FOLDER / "compose.yaml").read_text()))


class Team:
    """MLflow's server over a PostgreSQL and an object store, with users who have passwords.

    `store`: the address of an S3 server that has a bucket, `bucket`. `uri`: for clients.
    """

    def __init__(self, folder: Path, database: Postgres, store: str) -> None:
        self.folder, self.database, self.port = folder, database, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        secrets = {
            "PGPASSWORD": database.environment["PGPASSWORD"],
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret for the sign-up page's form",
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{self.port},{NAME}",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"https://{NAME}",
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/mlflow",
            "AWS_ENDPOINT_URL": store,
            **STORE,
        }
        service = composed(secrets)["services"]["mlflow"]
        here = {"MLFLOW_HOST": "127.0.0.1", "MLFLOW_PORT": str(self.port), "MLFLOW_WORKERS": "2"}
        here |= {"MLFLOW_AUTH_CONFIG_PATH": str(FOLDER / "basic_auth.ini")}
        settings = {name: str(value) for name, value in service["environment"].items()}
        self.environment = secrets | settings | database.environment | here
        self.command = [sys.executable, "-m", *service["command"]]

    def start(self) -> None:
        """In a process group of its own; it answers by now."""
        log = open(self.folder / "server.log", "ab")  # noqa: SIM115  (the process has it)
        self.process = subprocess.Popen(
            self.command,
            env=environment(**self.environment),
            cwd=self.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        until = time.monotonic() + 240
        while self.answer("GET", "/health")[0] != 200:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.2)

    def kill(self) -> None:
        """With its workers, who outlive a parent that is killed alone."""
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def said(self) -> str:
        return (self.folder / "server.log").read_text()

    def answer(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        user: tuple[str, str] | None = None,
        **headers: str,
    ) -> tuple[int, str]:
        """Status and text of an answer; status 0 where nobody answers."""
        if user is not None:
            token = base64.b64encode(":".join(user).encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = None if body is None else json.dumps(body)
            headers["Content-Type"] = "application/json"
            connection.request(method, path, content, headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def add_user(self, name: str, password: str) -> None:
        """As docs/mlflow.md tells an admin to."""
        body = {"username": name, "password": password}
        status, text = self.answer("POST", "/api/2.0/mlflow/users/create", body, ADMIN)
        assert status == 200, text
