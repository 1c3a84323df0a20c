"""`mimray cluster submit FILE -- VERB ...`: a verb as a job, followed to its end.

`ray job submit` knows the exit statuses 0 and 1, leaves the job running when it is interrupted, ends with 0
when the tunnel breaks, and gives a stopped job 3 seconds for its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shlex
import sys
from pathlib import Path
from typing import Any

from mimray.errors import RunFailed, Stopped, UserError
from mimray.redaction import holds_secret, redact
from mimray.settings_errors import nearest
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.following import Following

VERBS = (
    *("demo", "pretrain", "doctor", "finetune", "recipe", "runs", "sweep", "data", "weights"),
    *("evaluate", "analyze", "reconstruct", "study"),
)
"""What a cluster can do: all verbs but those that are for the machine on which one sits."""

_HERE = {
    "ui": "its pages are for the machine that it runs on; docs/cluster.md, MLflow, has the way to them",
    "cluster": "it starts and asks a cluster from outside; leave `submit FILE --` out",
}
_STATUSES = (0, 2, 3, 75)
_KEYS = ("submission_id", "status", "driver_exit_code", "message")


def run(arguments: argparse.Namespace) -> int:
    """Submit, follow, and return the driver's own exit status."""
    _check(arguments.words)
    name = f"mimray-{secrets.token_hex(4)}"
    job = Following(
        ClusterFile.read(arguments.file), name, sys.stderr if arguments.json else sys.stdout
    )
    try:
        info = job.follow(["python", "-m", "mimray.cli", *arguments.words])
    except KeyboardInterrupt:
        if not job.sent:
            raise
        raise RunFailed(
            f"job {name} goes on without us; `mimray cluster status {arguments.file}` shows it"
        ) from None
    status = exit_status(info)
    if arguments.json:
        print(json.dumps({key: info.get(key) for key in _KEYS} | {"exit_status": status}))
    if status == Stopped.exit_code:
        again = ["mimray", "cluster", "submit", arguments.file, "--", *arguments.words]
        print(f"stopped; the same command goes on: {shlex.join(again)}", file=sys.stderr)
    return status


def _check(words: list[str]) -> None:
    """What is here becomes the job's folder, and its words stand in the cluster's table of jobs.

    Raises UserError for what is no verb, for another folder than the project's, and for words that hold a
    password.
    """
    verb = next((word for word in words if not word.startswith("-")), "")
    if verb in _HERE:
        raise UserError(f"{verb}: is no job: {_HERE[verb]}")
    if verb not in VERBS:
        raise UserError(f"{redact(verb)!r}: no such verb{nearest(verb, list(VERBS))}")
    if not Path("mimray/cli.py").is_file():
        raise UserError(
            f"{Path.cwd()}: is uploaded as the job's folder, and holds no mimray/cli.py; go to the "
            f"project's folder first"
        )
    for word in words:
        if holds_secret(word):
            raise UserError(
                f"{redact(word)}: holds a password, which all who see the jobs would see; leave it "
                f"out, and set the environment variables of the store or server on the hosts"
            )


def exit_status(info: dict[str, Any]) -> int:
    """The driver's, of a job that has ended; Ray keeps none of one that it stopped, or that never began."""
    if info["status"] == "STOPPED":
        return Stopped.exit_code
    code = info.get("driver_exit_code")
    if code is None:
        return 0 if info["status"] == "SUCCEEDED" else RunFailed.exit_code
    return int(code) if code in _STATUSES else RunFailed.exit_code
