"""Words of `study`."""

from __future__ import annotations

import argparse

from mimray.words.kinds import OVERRIDES


def add_words(study: argparse.ArgumentParser) -> None:
    """`study run`, `study status` and `study report`."""
    actions = study.add_subparsers(dest="action", required=True, metavar="ACTION")
    run = actions.add_parser(
        "run", help="train and measure all cells of a study, or go on with it, and report"
    )
    run.add_argument(
        "--budget", type=_hours, metavar="HOURS",
        help="of GPUs, or of cores where there are none: run the cells that tell most for them",
    )  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="only print what it will take")
    run.add_argument(
        "--measure", action="store_true",
        help="measure each encoder's speed over twenty steps first, where no finished cell tells it",
    )  # fmt: skip
    run.add_argument(
        "--tflops", type=_hours, metavar="RATE",
        help="TFLOP/s in matrix products of one GPU, or of a cell's CPUs, to predict hours with; this "
        "host's when not given",
    )  # fmt: skip
    status = actions.add_parser(
        "status", help="how far a study is, redrawn while it runs elsewhere"
    )
    status.add_argument("--once", action="store_true", help="show it once")
    for action in (run, status):
        action.add_argument(
            "study",
            metavar="STUDY",
            help="a YAML file, like tuning/scaling_photos.yaml, or its folder",
        )
        action.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
        action.add_argument("--json", action="store_true", help="print one JSON object")
    _report(actions.add_parser(
        "report", help="what a study's table says: over-fitting, scaling law, what pays next"
    ))  # fmt: skip


def _report(report: argparse.ArgumentParser) -> None:
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


def _hours(word: str) -> float:
    """A positive number."""
    try:
        hours = float(word)
    except ValueError:
        hours = 0.0
    if not 0.0 < hours < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is not a positive number")
    return hours
