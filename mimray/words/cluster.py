"""Words of `cluster`."""

from __future__ import annotations

import argparse


def add_words(cluster: argparse.ArgumentParser) -> None:
    """`cluster up|down|status FILE`, `cluster submit FILE -- VERB ...`."""
    actions = cluster.add_subparsers(dest="action", required=True, metavar="ACTION")
    helps = {
        "up": "start it, and wait until every host has joined",
        "down": "stop its jobs, which gives them a checkpoint, and Ray on every host",
        "status": "which hosts have joined and why others have not, and the jobs",
        "submit": "run a verb there; its exit status becomes this command's",
    }
    for name, text in helps.items():
        action = actions.add_parser(name, help=text)
        action.add_argument("file", metavar="FILE", help="as `ray up` takes it, like cluster.yaml")
        if name in ("status", "submit"):
            action.add_argument("--json", action="store_true", help="print one JSON object")
        if name == "submit":
            action.add_argument(
                "words",
                metavar="-- VERB ...",
                nargs="+",
                help="as after `mimray`: pretrain demo ...",
            )
