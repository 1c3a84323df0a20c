"""Words of `evaluate linear`, `evaluate knn`, `evaluate suite semantic`."""

from __future__ import annotations

import argparse

from mimray.words.kinds import OVERRIDES, count

_LARGEST = 4096  # pixels of a side, as of model.image_size


def side(word: str) -> int:
    """Of a picture, pixels."""
    found = count(word)
    if found > _LARGEST:
        raise argparse.ArgumentTypeError(f"{word!r} must be {_LARGEST} or less")
    return found


def windows(word: str) -> tuple[int, ...]:
    """A number for each stage."""
    parts = [part.strip() for part in word.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(
            f"{word!r} is no list of windows; write it like 12,12,12,6"
        )
    return tuple(map(int, parts))


def add_words(evaluate: argparse.ArgumentParser) -> None:
    """`evaluate linear`, `evaluate knn`, `evaluate suite semantic`."""
    actions = evaluate.add_subparsers(dest="action", required=True, metavar="ACTION")
    linear = actions.add_parser("linear", help="linear probes of frozen features, layer by layer")
    knn = actions.add_parser("knn", help="nearest neighbours of frozen features, layer by layer")
    suite = actions.add_parser(
        "suite", help="fine-tune on the sets of a transfer suite, by Ray tasks"
    )
    from_ = "a run, checkpoint or file of weights, or supervised:timm/NAME"
    for action in (linear, knn):
        action.add_argument("--from", dest="weights", required=True, metavar="CKPT", help=from_)
        action.add_argument(
            "--data", required=True, metavar="URI", help="with labels, as data.train"
        )
        action.add_argument(
            "--val", metavar="URI", help="what is tested; the val split of --data when not given"
        )
        action.add_argument(
            "--layers", default="all", metavar="LAYERS",
            help='all, last, or names like "block 8,last" (default all)',
        )  # fmt: skip
        action.add_argument(
            "--pooling", choices=["mean", "cls"], default="mean",
            help="over positions, or the class token of a ViT (default mean)",
        )  # fmt: skip
        action.add_argument(
            "--labels", metavar="SHARE", help="of every class, like 10%% or 0.1; all when not given"
        )
        action.add_argument(
            "--upright",
            action="store_true",
            help="apply the rotation that a camera noted (EXIF), as data.upright=true",
        )
        action.add_argument(
            "--seed",
            type=int,
            default=0,
            metavar="N",
            help="of the linear probe; neighbours draw nothing",
        )
        action.add_argument("--encoder", metavar="NAME", help="where the weights do not tell")
        action.add_argument(
            "--image-size", type=side, metavar="N", help="a side; the run's own, or 224"
        )
        action.add_argument("--window", type=count, metavar="N", help="a side, tokens")
        action.add_argument(
            "--pretrained-windows", type=windows, metavar="N,N",
            help="of a SwinV2 whose weights do not tell: each stage's window in pre-training",
        )  # fmt: skip
        action.add_argument(
            "--here", action="store_true", help="compute in this process, without starting Ray"
        )
    suite.add_argument(
        "suite", choices=["semantic"], help="semantic: CoG, the Kornblith sets, iNat"
    )
    suite.add_argument(
        "--from", dest="weights", action="append", required=True, metavar="CKPT",
        help=f"{from_}, or scratch; more than one are compared",
    )  # fmt: skip
    suite.add_argument("--data", metavar="ROOT", help="the folder of all sets")
    suite.add_argument(
        "--sets",
        metavar="SETS",
        help="names, or URIs of other sets, with commas; all when not given",
    )
    suite.add_argument("--seeds", default="0,1,2", metavar="N,N", help="(default 0,1,2)")
    suite.add_argument(
        "--recipe", default="finetune_transfer", metavar="RECIPE",
        help="of fine-tuning, for all sets (default finetune_transfer)",
    )  # fmt: skip
    suite.add_argument(
        "--cpus", type=count, metavar="N",
        help="of each task, without a GPU; a GPU each where there are, else 1 when not given",
    )  # fmt: skip
    suite.add_argument("--status", action="store_true", help="only show the table")
    suite.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
    for action in (linear, knn, suite):
        action.add_argument("--storage", metavar="DIR", help="a folder; `runs` when not given")
        action.add_argument("--json", action="store_true", help="print one JSON object")
