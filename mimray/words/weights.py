"""Words of `weights inspect`, `weights convert`."""

from __future__ import annotations

import argparse

from mimray.words.kinds import count


def add_words(weights: argparse.ArgumentParser) -> None:
    """`weights inspect`, `weights convert`."""
    actions = weights.add_subparsers(dest="action", required=True, metavar="ACTION")
    inspect = actions.add_parser(
        "inspect", help="whose checkpoint it is, of which encoder, and what is in it"
    )
    convert = actions.add_parser("convert", help="write it under another project's names")
    for action in (inspect, convert):
        action.add_argument("file", metavar="FILE", help="a file, a run, or a Hugging Face folder")
        action.add_argument("--json", action="store_true", help="print one JSON object")
    convert.add_argument(
        "--to", required=True, metavar="FORMAT", help="timm, huggingface, official or mimray"
    )
    convert.add_argument(
        "--out", required=True, metavar="OUT",
        help="a new file that ends in .safetensors; for huggingface a folder",
    )  # fmt: skip
    convert.add_argument("--force", action="store_true", help="write over what is there")
    for action, encoder, size in (
        (inspect, "see what loading into it would do", 224),
        (convert, "huggingface: where the weights do not tell the heads", None),
    ):
        action.add_argument("--encoder", metavar="NAME", help=encoder)
        action.add_argument(
            "--image-size", type=count, default=size, metavar="N", help="its pixels a side"
        )
        action.add_argument("--window", type=count, metavar="N", help="its tokens a side")
