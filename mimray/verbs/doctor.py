"""`mimray doctor [RECIPE]`: would this run start here? Every finding with its mend; starts nothing."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from mimray.errors import UserError
from mimray.recipe import Recipe, load_recipe


def run(arguments: argparse.Namespace) -> int:
    """Print a line a check; exit 2 if one of them would stop the run."""
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    checks: dict[str, Callable[[Recipe], str]] = {
        "versions": _versions,
        "model": _model,
        "data": _data,
        "storage": _storage,
        "machine": _machine,
    }
    findings = []
    for name, check in checks.items():
        try:
            findings.append({"check": name, "ok": True, "finding": check(recipe)})
        except UserError as error:
            findings.append({"check": name, "ok": False, "finding": str(error)})
    well = all(f["ok"] for f in findings)
    if arguments.json:
        print(json.dumps({"ok": well, "findings": findings}))
    else:
        for f in findings:
            print(f"{'ok  ' if f['ok'] else 'MEND'}  {f['check']:<9} {f['finding']}")
    return 0 if well else 2


def _versions(recipe: Recipe) -> str:
    return ", ".join(f"{p} {version(p)}" for p in ("mimray", "torch", "ray", "timm", "mlflow"))


def _model(recipe: Recipe) -> str:
    import torch

    from mimray.mim.build import build_model
    from mimray.optim import parameter_count
    from mimray.train.prepare import check_model

    check_model(recipe)
    with torch.device("meta"):
        count = parameter_count(build_model(recipe).parameters())
    gib = count * 16 / 2**30
    return f"{recipe.model.encoder}, {count / 1e6:.1f} M parameters, {gib:.2f} GiB with gradients and AdamW"


def _data(recipe: Recipe) -> str:
    from mimray.train.prepare import open_data

    job = open_data(recipe)
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
