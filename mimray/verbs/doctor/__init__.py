"""`mimray doctor [RECIPE]`: would this run start here? Every finding with its mend.

Without a cluster nothing is started. Where RAY_ADDRESS names one, and in a job, every host of it is asked:
software, clocks, room, GPUs, bandwidth, and what the recipe needs. With `--profile` also what the run will
take, predicted, and where the time of 20 real steps goes.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mimray.errors import MimrayError, UserError
from mimray.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from mimray.train.doctor.finding import Finding
    from mimray.train.doctor.host import Host

_MARKS = {"ok": "ok  ", "look": "LOOK", "mend": "MEND"}
Say = Callable[[str], None]


def run(arguments: argparse.Namespace) -> int:
    """Print a line a finding, and the profile; exit 2 if one of them would stop the run, or if it is
    too large to be measured here."""
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    say: Say = (lambda _: None) if arguments.json else print
    findings, result = _examine(recipe, say)
    status = 0 if result["ok"] else 2
    if arguments.profile:
        status = _profile(recipe, findings, result, say)
    if arguments.json:
        print(json.dumps(result))
    return status


def _examine(recipe: Recipe, say: Say) -> tuple[list[Finding], dict[str, Any]]:
    """The findings, said as they come, and the object of `--json`."""
    from mimray.verbs.doctor.checks import check_machine, check_recipe

    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        say(f"{_MARKS[finding.weight]}  {finding.check:<9} {finding.text}")

    for finding in check_recipe(recipe):
        note(finding)
    more: dict[str, Any] = {}
    if os.environ.get("RAY_ADDRESS"):
        more["hosts"] = _examine_cluster(recipe, findings, note)
    else:
        note(check_machine(recipe))
    well = all(finding.ok for finding in findings)
    return findings, {"ok": well, "findings": [f.to_json() for f in findings], **more}


def _examine_cluster(
    recipe: Recipe, before: list[Finding], note: Callable[[Finding], None]
) -> list[dict[str, Any]]:
    """Note what the hosts make of it; returns what each has, for `--json`."""
    from mimray.train.doctor.cluster import examine_cluster
    from mimray.train.doctor.finding import Finding
    from mimray.verbs.doctor.checks import opened

    bad = {finding.check for finding in before if not finding.ok}
    job = None if bad & {"model", "data", "storage"} else opened(recipe)
    hosts: list[Host] = []
    try:
        hosts = examine_cluster(recipe, job, note)
    except UserError as error:
        note(Finding("cluster", str(error), "mend"))
    return [asdict(host) for host in hosts]


def _profile(recipe: Recipe, findings: list[Finding], result: dict[str, Any], say: Say) -> int:
    """Put `predicted` and `measured` in the result, or in `not_measured` why not; say both. Returns the
    exit status."""
    from mimray.train.console import Console
    from mimray.train.prediction import predict
    from mimray.train.profile import measure
    from mimray.verbs.doctor.checks import opened
    from mimray.verbs.doctor.profile import lines_of_measurement, lines_of_prediction

    bad = list(dict.fromkeys(finding.check for finding in findings if not finding.ok))
    result |= {"predicted": None, "measured": None, "not_measured": None}
    console = Console()
    try:
        if "model" in bad:
            raise UserError("the model has to be mended first")
        predicted = predict(recipe, None if "data" in bad else opened(recipe))
        result["predicted"] = predicted.to_json()
        say("\n".join(lines_of_prediction(recipe, result["predicted"])))
        if bad:
            raise UserError(f"to be mended first: {', '.join(bad)}")
        measured = measure(recipe, predicted, opened(recipe).clock, console)
    except MimrayError as error:
        console.clear()
        result |= {"ok": False, "not_measured": str(error)}
        say(f"not measured: {error}")
        return error.exit_code
    console.clear()
    times = predicted.extent.times(measured.images_per_s)
    result["measured"] = measured.to_json() | times
    say("\n".join(lines_of_measurement(result["measured"])))
    return 0
