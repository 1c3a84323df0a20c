"""The command line: `mimray VERB [ARGS] [section.key=value ...]`.

Exit status: 0 done, 2 the input is wrong, 3 the run failed, 75 stopped on request. Results go to
standard output, everything else to standard error; `--json` makes the result one JSON object.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from mimray import environment
from mimray.errors import MimrayError, RunFailed, Stopped

OVERRIDES = "settings that differ from the recipe's, like mask.ratio=0.5 (see `mimray recipe show`)"


def build_parser() -> argparse.ArgumentParser:
    """The verbs and their words."""
    parser = argparse.ArgumentParser(
        prog="mimray",
        description="Masked image modeling on Ray: pre-train on your own pictures and see what was "
        "learned.",
        epilog="Start with `mimray demo`. For your own pictures: `mimray pretrain demo "
        "data.train=FOLDER`.",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show stack traces and Ray's own words"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    demo = verbs.add_parser(
        "demo", help="pre-train a small model on the photos that come with mimray"
    )
    demo.set_defaults(recipe="demo", verb="pretrain")
    pretrain = verbs.add_parser("pretrain", help="pre-train a recipe, or go on with it")
    pretrain.add_argument("recipe", metavar="RECIPE", help="a recipe's name or a YAML file")
    doctor = verbs.add_parser("doctor", help="check this machine, or cluster, for a recipe")
    doctor.add_argument("recipe", metavar="RECIPE", nargs="?", default="demo")
    doctor.add_argument(
        "--profile", action="store_true",
        help="predict operations, memory, speed and days, then measure 20 steps; without it nothing "
        "is started",
    )  # fmt: skip
    for verb in (demo, pretrain, doctor):
        verb.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
        verb.add_argument("--json", action="store_true", help="print one JSON object")

    finetune = verbs.add_parser("finetune", help="train a classifier end to end from an encoder")
    finetune.add_argument(
        "recipe", metavar="RECIPE", help="a fine-tuning recipe's name or a YAML file"
    )
    finetune.add_argument(
        "--from", dest="weights", metavar="CKPT",
        help="a run, checkpoint or file of weights; supervised:timm/NAME; or scratch",
    )  # fmt: skip
    finetune.add_argument(
        "--here", action="store_true",
        help="train in this process, with one trainer and without starting Ray",
    )  # fmt: skip
    finetune.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
    finetune.add_argument("--json", action="store_true", help="print one JSON object")

    recipe = verbs.add_parser("recipe", help="list recipes, or show one with all its settings")
    recipe.add_argument("action", choices=["list", "show"])
    recipe.add_argument("recipe", metavar="RECIPE", nargs="?")
    recipe.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)

    runs = verbs.add_parser("runs", help="list runs, show one, deliver to MLflow what it lacks")
    runs.add_argument("action", choices=["ls", "show", "sync"])
    runs.add_argument("run", metavar="RUN", nargs="*", help="a run's name; several for sync")
    runs.add_argument("--storage", help="folder or URI of the runs; `runs` when not given")
    runs.add_argument("--json", action="store_true", help="print one JSON object")

    sweep = verbs.add_parser("sweep", help="run a grid of recipes, skipping what is finished")
    sweep.add_argument("sweep", metavar="SWEEP", help="a YAML file, like tuning/mask_grid.yaml")
    sweep.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
    sweep.add_argument("--status", action="store_true", help="only show the table")
    sweep.add_argument("--json", action="store_true", help="print one JSON object")

    _add_data(verbs.add_parser("data", help="look at pictures, prepare them, choose some of them"))

    _add_weights(verbs.add_parser("weights", help="look into checkpoints, convert them"))

    _add_evaluate(verbs.add_parser("evaluate", help="what a checkpoint is worth for recognition"))

    ui = verbs.add_parser("ui", help="compare runs in MLflow's pages, on this machine")
    ui.add_argument("--uri", help="the store; the project's sqlite file when not given")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    return parser


def _add_data(data: argparse.ArgumentParser) -> None:
    """`data inspect`, `data prepare`, `data subset`, `data clusters`."""
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    inspect = actions.add_parser(
        "inspect", help="counts, formats, sizes, classes, damage and a picture sheet"
    )
    inspect.add_argument("uri", metavar="URI", help="as data.train: a folder, Parquet, tars, s3://")
    inspect.add_argument(
        "--sample", type=_count_or_all, default=2000, metavar="N",
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
        "--fraction", type=_share, metavar="F", help="share of the pictures, like 10%% or 0.1"
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


def _add_weights(weights: argparse.ArgumentParser) -> None:
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
            "--image-size", type=_count, default=size, metavar="N", help="its pixels a side"
        )
        action.add_argument("--window", type=_count, metavar="N", help="its tokens a side")


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
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
        action.add_argument("--labels", metavar="SHARE", help="of every class, like 10%% or 0.1")
        action.add_argument("--seed", type=int, default=0, metavar="N", help="of the probe")
        action.add_argument("--encoder", metavar="NAME", help="where the weights do not tell")
        action.add_argument(
            "--image-size", type=_count, metavar="N", help="a side; the run's own, or 224"
        )
        action.add_argument("--window", type=_count, metavar="N", help="a side, tokens")
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
    suite.add_argument("--recipe", default="finetune_transfer", metavar="RECIPE")
    suite.add_argument(
        "--cpus", type=_count, metavar="N",
        help="of each task, without a GPU; a GPU each where there are, else 1 when not given",
    )  # fmt: skip
    suite.add_argument("--status", action="store_true", help="only show the table")
    suite.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
    for action in (linear, knn, suite):
        action.add_argument("--storage", metavar="DIR", help="a folder; `runs` when not given")
        action.add_argument("--json", action="store_true", help="print one JSON object")


def _share(word: str) -> float:
    """`10%` or `0.1`; whether it is a share is for others to say."""
    return float(word[:-1]) / 100 if word.endswith("%") else float(word)


def _count_or_all(word: str) -> int | None:
    """A positive number, or None for `all`."""
    if word == "all":
        return None
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is neither a positive number nor `all`")
    return int(word)


def _count(word: str) -> int:
    """A positive number."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a positive number")
    return int(word)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    environment.prepare()
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes settings that follow an option for unknown words
    strays = [word for word in rest if word.startswith("-") or "=" not in word]
    if strays or (rest and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(strays or rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    logging.basicConfig(
        format="%(message)s", level=logging.DEBUG if arguments.debug else logging.WARNING
    )
    if arguments.debug:
        for noisy in ("matplotlib", "PIL", "urllib3", "asyncio", "filelock"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        module = import_module(f"mimray.verbs.{arguments.verb}")
        status: int = module.run(arguments)
        return status
    except MimrayError as error:
        if arguments.debug:
            logging.getLogger("mimray").debug("", exc_info=True)
        print(f"mimray: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mimray: interrupted; the same command goes on", file=sys.stderr)
        sys.stderr.flush()
        os._exit(Stopped.exit_code)  # an interpreter whose Ray was starting may crash as it ends
    except BrokenPipeError:  # `mimray recipe show demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # a fault of ours, shown whole; the status still tells scripts what it means
        traceback.print_exc()
        return RunFailed.exit_code


if __name__ == "__main__":
    sys.exit(main())
