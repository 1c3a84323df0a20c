"""Words of `reconstruct`."""

from __future__ import annotations

import argparse

from mimray.words.kinds import count, share


def add_words(reconstruct: argparse.ArgumentParser) -> None:
    """`reconstruct --from CKPT IMAGES... [mask.key=value ...]`"""
    reconstruct.add_argument(
        "words", metavar="IMAGES", nargs="+",
        help="pictures, folders, or as data.val (builtin:photos/val); and settings that differ from the "
        "run's, like mask.ratio=0.5",
    )  # fmt: skip
    reconstruct.add_argument(
        "--from", dest="weights", action="append", required=True, metavar="CKPT",
        help="a run or one of its checkpoints; several, in this order, for --video; or a file of weights "
        "with its head, and --recipe",
    )  # fmt: skip
    for name, kind, default, help_ in (
        ("--images", count, 8, "pictures, at most, of each folder or URI (default 8)"),
        ("--seed", int, None, "which masks; those of the run's validation when not given"),
    ):
        reconstruct.add_argument(name, type=kind, default=default, metavar="N", help=help_)
    reconstruct.add_argument(
        "--units", type=units, metavar="N,N", help="each picture under masks of these units, pixels"
    )
    reconstruct.add_argument("--ratios", type=ratios, metavar="R,R", help="and of these ratios")
    reconstruct.add_argument(
        "--video", action="store_true",
        help="over the checkpoints that the run has kept, or over several --from",
    )  # fmt: skip
    reconstruct.add_argument(
        "--fills", action="store_true", help="show the fills that need no learning besides"
    )
    reconstruct.add_argument(
        "--recipe", metavar="RECIPE", help="of a file of weights, which tells no head and no target"
    )
    reconstruct.add_argument(
        "--out",
        metavar="FOLDER",
        help="reconstructions/RUN when not given; files in it are replaced",
    )
    reconstruct.add_argument("--json", action="store_true", help="print one JSON object")
    reconstruct.set_defaults(overrides=[])  # what follows an option


def units(word: str) -> list[int]:
    """`8,16,32`: positive numbers."""
    return [count(part) for part in word.split(",")]


def ratios(word: str) -> list[float]:
    """`0.3,0.5` or `30%,50%`; whether they are shares is for others to say."""
    return [share(part) for part in word.split(",")]
