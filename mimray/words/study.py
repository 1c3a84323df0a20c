"""Words of `study report`."""

from __future__ import annotations

import argparse


def add_words(study: argparse.ArgumentParser) -> None:
    """`study report`."""
    actions = study.add_subparsers(dest="action", required=True, metavar="ACTION")
    report = actions.add_parser(
        "report", help="what a study's table says: over-fitting, scaling law, what pays next"
    )
    report.add_argument(
        "table", metavar="TABLE", help="a .csv or .parquet with a row a run, or a study's folder"
    )
    report.add_argument(
        "--over", choices=["published"], help="lay the curves over the 63 published runs"
    )
    report.add_argument(
        "--out", metavar="FOLDER",
        help="of report and figures; `report` in a study's folder, or runs/study/TABLE when not given",
    )  # fmt: skip
    report.add_argument("--json", action="store_true", help="print one JSON object")
