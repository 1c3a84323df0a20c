"""`mimray ui`: MLflow's pages over the project's store, on loopback unless told otherwise."""

from __future__ import annotations

import argparse
import socket
import sys

from mimray.errors import UserError
from mimray.tracking import serve


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((arguments.host, arguments.port))
        except OSError as error:
            raise UserError(
                f"--host {arguments.host} --port {arguments.port}: {error.strerror}; try --port "
                f"{arguments.port + 1}"
            ) from None
    print(
        f"http://{arguments.host}:{arguments.port}  (Ctrl-C ends it)", file=sys.stderr, flush=True
    )
    serve(arguments.uri, arguments.host, arguments.port)
