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
from mimray.redaction import RedactingFormatter, redact
from mimray.train.signals import leave_on_request
from mimray.words import analyze, cluster, data, evaluate, reconstruct, study, sweep, weights
from mimray.words.kinds import OVERRIDES
from mimray.words.parser import Parser, refuse_passwords


def build_parser() -> argparse.ArgumentParser:
    """The verbs and their words."""
    parser = Parser(
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

    sweep.add_words(
        verbs.add_parser("sweep", help="compare recipes on Ray Tune: a grid, or samples")
    )

    data.add_words(
        verbs.add_parser("data", help="look at pictures, prepare them, choose some of them")
    )

    weights.add_words(verbs.add_parser("weights", help="look into checkpoints, convert them"))

    evaluate.add_words(
        verbs.add_parser("evaluate", help="what a checkpoint is worth for recognition")
    )

    analyze.add_words(verbs.add_parser("analyze", help="what a trained model does inside"))

    reconstruct.add_words(
        verbs.add_parser("reconstruct", help="what a checkpoint predicts of masked pictures")
    )

    study.add_words(
        verbs.add_parser("study", help="what more data, a larger model or longer training is worth")
    )

    cluster.add_words(
        verbs.add_parser("cluster", help="start Ray on several hosts, and run verbs there")
    )

    ui = verbs.add_parser("ui", help="compare runs in MLflow's pages, on this machine")
    ui.add_argument("--uri", help="the store; the project's sqlite file when not given")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    return parser


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
    shown = logging.StreamHandler()
    shown.setFormatter(RedactingFormatter("%(message)s"))
    logging.basicConfig(
        handlers=[shown], level=logging.DEBUG if arguments.debug else logging.WARNING
    )
    if arguments.debug:
        for noisy in ("matplotlib", "PIL", "urllib3", "asyncio", "filelock"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        refuse_passwords(arguments)
        with leave_on_request():
            module = import_module(f"mimray.verbs.{arguments.verb}")
            status: int = module.run(arguments)
            return status
    except MimrayError as error:
        if arguments.debug:
            logging.getLogger("mimray").debug("", exc_info=True)
        print(f"mimray: {redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, SystemExit):  # asked to stop
        print("mimray: stopped; the same command goes on", file=sys.stderr, flush=True)
        os._exit(Stopped.exit_code)  # an interpreter whose Ray was starting may crash as it ends
    except BrokenPipeError:  # `mimray recipe show demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # a fault of ours, shown whole; the status still tells scripts what it means
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
        return RunFailed.exit_code


if __name__ == "__main__":
    sys.exit(main())
