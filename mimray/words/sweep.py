"""Words of `sweep`."""

from __future__ import annotations

import argparse

from mimray.words.kinds import OVERRIDES


def add_words(sweep: argparse.ArgumentParser) -> None:
    """`sweep SWEEP [--dry-run] [--status] [--json] [section.key=value ...]`."""
    sweep.add_argument("sweep", metavar="SWEEP", help="a YAML file, like tuning/mask_grid.yaml")
    sweep.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
    sweep.add_argument("--dry-run", action="store_true", help="only check it and list its trials")
    sweep.add_argument("--status", action="store_true", help="only show the table")
    sweep.add_argument("--json", action="store_true", help="print one JSON object")
