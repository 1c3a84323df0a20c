"""MLflow's own server on loopback, and a proxy before it that misbehaves as it is told."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.train.runs import environment


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_server(folder: Path, port: int) -> subprocess.Popen:
    """`mimray ui` over `folder`'s mlflow.db, in a process group of its own; it answers by now."""
    log = open(folder / "server.log", "ab")  # noqa: SIM115  (the process has it)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mimray.cli", "ui", "--port", str(port)),
            *("--uri", f"sqlite:///{folder}/mlflow.db"),
        ],
        env=environment(MIMRAY_HOME=str(folder)),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, (folder / "server.log").read_text()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return process
        except OSError:
            time.sleep(0.2)
    raise AssertionError("MLflow does not answer in two minutes")


def stop_server(process: subprocess.Popen) -> None:
    """End it with its children, for uvicorn's worker outlives a parent that is killed alone."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Proxy:
    """Passes requests on to a server, as `rule` says for each one's path.

    `pass`; `refuse`: the connection is cut at once; `error`: answers 500; `lose`: the request is
    carried out and the answer is lost; `hold`: it is carried out only once `let_go` is set, when
    whoever asked has long given up.
    """

    def __init__(self, port: int) -> None:
        self.rule: Callable[[str], str] = lambda path: "pass"
        self.let_go = threading.Event()
        self.held: list[threading.Thread] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                way = proxy.rule(self.path)
                if way == "refuse":
                    return
                if way == "error":
                    self.send_error(500)
                    return
                if way == "hold":
                    proxy.held.append(threading.current_thread())
                    proxy.let_go.wait(120)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k != "Connection"}
                connection.request(self.command, self.path, body, headers)
                reply = connection.getresponse()
                content = reply.read()
                if way != "pass":
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.getheader("Content-Type", "text/plain"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def always(self, way: str) -> None:
        """Treat every request so; `pass` also lets those go that were held."""
        self.rule = lambda path: way
        if way == "pass":
            self.let_go.set()
            for thread in self.held:
                thread.join(60)
            self.held, self.let_go = [], threading.Event()

    def close(self) -> None:
        self.always("pass")
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the write lock of a sqlite file, as a back-up or a second writer does."""
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()
