"""Words of `analyze layer-drop`, `analyze ridge`, `analyze losses`: what compares runs."""

from __future__ import annotations

import argparse

from mimray.words.kinds import OVERRIDES, count


def add_words(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`analyze layer-drop`, `analyze ridge`, `analyze losses`."""
    _add_layer_drop(
        actions.add_parser(
            "layer-drop", help="fine-tune without the last layers, so many and so many"
        )
    )
    _add_ridge(
        actions.add_parser(
            "ridge", help="accuracy and attention distance of a sweep's runs over AvgDist"
        )
    )
    _add_losses(
        actions.add_parser("losses", help="training against validation, and pictures by their loss")
    )


def _add_layer_drop(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--from", dest="weights", action="append", required=True, metavar="CKPT",
        help="a run, checkpoint or file of weights, supervised:timm/NAME, or scratch; several are compared",
    )  # fmt: skip
    action.add_argument(
        "--task",
        default="classify",
        metavar="TASK",
        help="what is fine-tuned on (default classify)",
    )
    action.add_argument("--data", required=True, metavar="URI", help="with labels, as data.train")
    action.add_argument(
        "--val", metavar="URI", help="what is tested; the val split of --data when not given"
    )
    action.add_argument(
        "--drop",
        default="0,2,4,6,8",
        metavar="N,N",
        help="layers that are left out (default 0,2,4,6,8)",
    )
    action.add_argument(
        "--drop-from", choices=["last", "longest"], default="last",
        help="count from the end of the last stage, each keeping a block, or in the longest stage only "
        "(default last)",
    )  # fmt: skip
    action.add_argument("--seeds", default="0,1,2", metavar="N,N", help="(default 0,1,2)")
    action.add_argument(
        "--recipe", default="finetune_transfer", metavar="RECIPE",
        help="of fine-tuning (default finetune_transfer)",
    )  # fmt: skip
    action.add_argument(
        "--cpus", type=count, metavar="N",
        help="of each task, without a GPU; a GPU each where there are, else 1 when not given",
    )  # fmt: skip
    action.add_argument(
        "--status", action="store_true", help="only show the table, and write nothing"
    )
    action.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
    action.add_argument(
        "--here", action="store_true",
        help="train in this process, one run after another, without starting Ray",
    )  # fmt: skip
    _add_ends(action)


def _add_ridge(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "sweep", metavar="SWEEP", help="a sweep's YAML file, or a folder or URI of runs"
    )
    action.add_argument(
        "--finetuned", metavar="RECIPE",
        help="fine-tunings by the recipe of this name; those that most runs have when not given",
    )  # fmt: skip
    action.add_argument("overrides", metavar="section.key=value", nargs="*", help=OVERRIDES)
    action.add_argument("--json", action="store_true", help="print one JSON object")


def _add_losses(action: argparse.ArgumentParser) -> None:
    action.add_argument("runs", metavar="RUN", nargs="+", help="a run's name, folder or URI")
    action.add_argument(
        "--pictures", type=count, metavar="N",
        help="show so many validation pictures with the largest loss and with the smallest, under the "
        "run's fixed masks; of pre-training",
    )  # fmt: skip
    action.add_argument(
        "--data", metavar="URI", help="pictures, as data.val; the run's own when not given"
    )
    action.add_argument(
        "--here", action="store_true", help="compute in this process, without starting Ray"
    )
    _add_ends(action)


def _add_ends(action: argparse.ArgumentParser) -> None:
    action.add_argument("--storage", metavar="DIR", help="a folder; `runs` when not given")
    action.add_argument("--json", action="store_true", help="print one JSON object")
