"""Words of `analyze attention`, `analyze cka` and the other looks into trained models."""

from __future__ import annotations

import argparse

from mimray.words import analyze_runs
from mimray.words.evaluate import windows
from mimray.words.kinds import count

_KINDS = {
    "attention": "how far heads look, how broadly, and how they differ",
    "cka": "how alike what layers give is, within a model and across two",
    "receptive-field": "which pixels a position's output depends on",
    "kernels": "how local a ConvNet's kernels are; needs no pictures",
    "health": "rank and norm of what layers give",
    "all": "each of them that the encoder has",
}


def add_words(analyze: argparse.ArgumentParser) -> None:
    """`analyze attention|cka|receptive-field|kernels|health|all`, and what compares runs."""
    actions = analyze.add_subparsers(dest="action", required=True, metavar="KIND")
    for kind, help_ in _KINDS.items():
        action = actions.add_parser(kind, help=help_)
        _add_models(action)
        if kind == "kernels":
            action.set_defaults(here=True)
        else:
            _add_pictures(action)
        if kind in ("attention", "all"):
            action.add_argument(
                "--class-token", choices=["drop", "keep"], default="drop",
                help="of a ViT: leave it out and renormalise, or keep it (default drop)",
            )  # fmt: skip
        if kind in ("cka", "all"):
            action.add_argument(
                "--cka-estimator", choices=["unbiased", "biased"], default="unbiased",
                help="of HSIC in a batch (default unbiased)",
            )  # fmt: skip
    analyze_runs.add_words(actions)


def _add_models(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--from", dest="weights", action="append", required=True, metavar="CKPT",
        help="a run, checkpoint or file of weights, or supervised:timm/NAME; several stand side by side",
    )  # fmt: skip
    action.add_argument("--encoder", metavar="NAME", help="where the weights do not tell")
    action.add_argument(
        "--image-size", type=count, metavar="N", help="a side; the run's own, or 224"
    )
    action.add_argument("--window", type=count, metavar="N", help="a side, tokens")
    action.add_argument(
        "--pretrained-windows",
        type=windows,
        metavar="N,N",
        help="of a SwinV2 whose weights do not tell: each stage's window in pre-training",
    )
    action.add_argument("--storage", metavar="DIR", help="a folder; `runs` when not given")
    action.add_argument("--json", action="store_true", help="print one JSON object")


def _add_pictures(action: argparse.ArgumentParser) -> None:
    action.add_argument("--data", required=True, metavar="URI", help="as data.train")
    action.add_argument(
        "--split",
        choices=["train", "val"],
        default="val",
        help="where URI has several (default val)",
    )
    action.add_argument(
        "--images", type=count, default=1000, metavar="N",
        help="pictures to look at, spread evenly (default 1000)",
    )  # fmt: skip
    action.add_argument(
        "--batch", type=count, default=64, metavar="N",
        help="pictures of a forward pass, over which minibatch CKA is averaged (default 64)",
    )  # fmt: skip
    action.add_argument(
        "--here", action="store_true", help="compute in this process, without starting Ray"
    )
