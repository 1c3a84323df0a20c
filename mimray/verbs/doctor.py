"""`mimray doctor [RECIPE]`: would this run start here? Every finding with its mend; starts nothing.

With `--profile` also what the run will take, predicted, and where the time of 20 real steps goes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimray.errors import MimrayError, UserError
from mimray.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from mimray.train.job import Job


def run(arguments: argparse.Namespace) -> int:
    """Print a line a check, and the profile; exit 2 if one of the checks would stop the run, or if it
    is too large to be measured here."""
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    checks: dict[str, Callable[[Recipe], str]] = {
        "versions": _versions,
        "model": _model,
        "data": _data,
        "storage": _storage,
        "machine": _machine,
    }
    findings = [_finding(name, check, recipe) for name, check in checks.items()]
    well = all(f["ok"] for f in findings)
    result: dict[str, Any] = {"ok": well, "findings": findings}
    say = (lambda _: None) if arguments.json else print
    for f in findings:
        say(f"{'ok  ' if f['ok'] else 'MEND'}  {f['check']:<9} {f['finding']}")
    status = 0 if well else 2
    if arguments.profile:
        status = _profile(recipe, findings, result, say)
    if arguments.json:
        print(json.dumps(result))
    return status


def _finding(name: str, check: Callable[[Recipe], str], recipe: Recipe) -> dict[str, Any]:
    try:
        return {"check": name, "ok": True, "finding": check(recipe)}
    except UserError as error:
        return {"check": name, "ok": False, "finding": str(error)}


def _profile(
    recipe: Recipe,
    findings: list[dict[str, Any]],
    result: dict[str, Any],
    say: Callable[[str], None],
) -> int:
    """Put `predicted` and `measured` in the result, or in `not_measured` why not; say both. Returns the
    exit status."""
    from mimray.train.console import Console
    from mimray.train.prediction import predict
    from mimray.train.profile import measure
    from mimray.verbs.doctor_profile import lines_of_measurement, lines_of_prediction

    bad = [f["check"] for f in findings if not f["ok"]]
    result |= {"predicted": None, "measured": None, "not_measured": None}
    console = Console()
    try:
        if "model" in bad:
            raise UserError("the model has to be mended first")
        predicted = predict(recipe, None if "data" in bad else _open(recipe))
        result["predicted"] = predicted.to_json()
        say("\n".join(lines_of_prediction(recipe, result["predicted"])))
        if bad:
            raise UserError(f"to be mended first: {', '.join(bad)}")
        measured = measure(recipe, predicted, _open(recipe).clock, console)
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


@cache
def _open(recipe: Recipe) -> Job:
    from mimray.train.prepare import open_data

    return open_data(recipe)


def _versions(recipe: Recipe) -> str:
    return ", ".join(f"{p} {version(p)}" for p in ("mimray", "torch", "ray", "timm", "mlflow"))


def _model(recipe: Recipe) -> str:
    import torch

    from mimray.mim.build import build_model
    from mimray.optim import parameter_count
    from mimray.train.tasks.check_pretraining import check_model

    check_model(recipe)
    with torch.device("meta"):
        count = parameter_count(build_model(recipe).parameters())
    gib = count * 16 / 2**30
    return f"{recipe.model.encoder}, {count / 1e6:.1f} M parameters, {gib:.2f} GiB with gradients and AdamW"


def _data(recipe: Recipe) -> str:
    job = _open(recipe)
    assert job.clock.total is not None
    return (
        f"{recipe.data.train} ({job.train_source.kind}): {len(job.order)} photos to train on, "
        f"{len(job.val_rows)} held out; {job.clock.total} steps of {recipe.optim.batch}, "
        f"{job.clock.total / job.clock.steps_per_epoch:.1f} epochs"
    )


def _storage(recipe: Recipe) -> str:
    from mimray.train.run_folder import RunFolder

    run = RunFolder.of(recipe)
    run.check_free()
    free = (
        f", {shutil.disk_usage(_existing(run.path)).free / 2**30:.0f} GiB free" if run.local else ""
    )
    return f"{run.uri} can be written{free}"


def _existing(path: str) -> Path:
    """The nearest folder above that is there."""
    return next(p for p in (Path(path), *Path(path).parents) if p.exists())


def _machine(recipe: Recipe) -> str:
    import torch

    from mimray.train.cluster import private_cpus, ray_session
    from mimray.train.resources import Node, cluster_nodes, lay_out

    if os.environ.get("RAY_ADDRESS"):
        with ray_session(recipe.speed.most_workers):
            nodes = cluster_nodes()
    else:
        nodes = [Node("here", private_cpus(recipe.speed.most_workers), torch.cuda.device_count())]
    layout = lay_out(recipe.speed, nodes)
    kind = "GPU" if layout.use_gpu else f"{layout.cpus_per_worker:g} CPU"
    cpus = sum(n.cpus for n in nodes)
    return (
        f"{len(nodes)} host(s), {cpus:g} logical CPUs on {os.cpu_count()} cores: "
        f"{layout.workers} trainer(s) of {kind} each, the rest reads the data"
    )
