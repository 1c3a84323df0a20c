"""Words of `data inspect`, `data prepare`, `data subset`, `data clusters`."""

from __future__ import annotations

import argparse

from mimray.words.kinds import count_or_all, share


def add_words(data: argparse.ArgumentParser) -> None:
    """`data inspect`, `data prepare`, `data subset`, `data clusters`."""
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    inspect = actions.add_parser(
        "inspect", help="counts, formats, sizes, classes, damage and a picture sheet"
    )
    inspect.add_argument("uri", metavar="URI", help="as data.train: a folder, Parquet, tars, s3://")
    inspect.add_argument(
        "--sample", type=count_or_all, default=2000, metavar="N",
        help="pictures to decode, spread evenly; `all` for every one (default 2000)",
    )  # fmt: skip
    inspect.add_argument("--sheet", metavar="FILE.png", help="draw a sheet of some pictures")
    prepare = actions.add_parser("prepare", help="write Parquet shards, in parallel on Ray")
    prepare.add_argument("src", metavar="SRC", help="as data.train")
    prepare.add_argument("dst", metavar="DST", help="a new folder, or s3://bucket/folder")
    for name, help_ in (
        ("--shorter-side", "scale larger pictures down to this many pixels"),
        ("--quality", "of the JPEGs that are made, 1 to 100 (default 90)"),
        ("--rows-per-shard", "by default at most 8192, half a GiB, and 1/32 of all"),
        ("--row-group-size", "rows that are read together (default 128, at most 64 MiB)"),
        ("--shuffle", "a seed: mix the pictures, for a source that lies class by class"),
    ):
        prepare.add_argument(name, type=int, metavar="N", help=help_)
    for action in (inspect, prepare):
        action.add_argument(
            "--split", choices=["train", "val"], default="train", help="where SRC has several"
        )
    subset = actions.add_parser("subset", help="choose pictures: a manifest for data.subset")
    subset.add_argument("src", metavar="SRC", help="as data.train")
    subset.add_argument("dst", metavar="DST", help="the manifest, a new Parquet file")
    subset.add_argument(
        "--fraction", type=share, metavar="F", help="share of the pictures, like 10%% or 0.1"
    )
    subset.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default 0)")
    subset.add_argument("--stratified", action="store_true", help="that share of every class")
    subset.add_argument("--classes", metavar="FILE", help="only these classes, a name a line")
    clusters = actions.add_parser(
        "clusters", help="learn colours or patches that stand for all: a file for target.file"
    )
    clusters.add_argument("uri", metavar="URI", help="as data.train")
    clusters.add_argument("--out", required=True, metavar="FILE", help="a new file (safetensors)")
    for name, default, help_ in (
        ("--clusters", 512, "how many"),
        ("--patch", 1, "side in pixels: 1 for colours, more for a codebook of patches"),
        ("--images", 2000, "pictures to look at"),
        ("--seed", 0, "which ones, and where k-means starts"),
    ):
        clusters.add_argument(
            name, type=int, default=default, metavar="N", help=f"{help_} (default {default})"
        )
    for action in (inspect, prepare, subset, clusters):
        action.add_argument("--json", action="store_true", help="print one JSON object")
