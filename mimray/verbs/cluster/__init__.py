"""`mimray cluster up|down|status|submit FILE`: Ray's own commands, without their traps.

Each runs what `ray` has for it, shows that command, and adds what `ray` leaves to the user: the token and
the settings that a cluster of local hosts needs, waiting for every host, the tunnel, the exit status.
"""

from __future__ import annotations

import argparse
from importlib import import_module


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    status: int = import_module(f"mimray.verbs.cluster.{arguments.action}").run(arguments)
    return status
