"""`mimray runs ls`, `show` and `sync`, from the runs' own records."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mimray.data.files import absolute, join
from mimray.environment import project_folder
from mimray.errors import UserError
from mimray.train.fence import Fence
from mimray.train.run_folder import RunFolder
from mimray.train.sync import run_folders, sync


def run(arguments: argparse.Namespace) -> int:
    """Print one line a run, one run's record, or what was delivered to MLflow."""
    storage = absolute(arguments.storage or str(project_folder() / "runs"))
    if arguments.action == "show":
        return _show(storage, arguments.run, arguments.json)
    if arguments.action == "sync":
        return _sync(storage, arguments.run, arguments.json)
    return _list(storage, arguments.json)


def _list(storage: str, as_json: bool) -> int:
    records = find_runs(storage)
    for record in records:
        if record["status"] in ("starting", "running"):
            run = RunFolder(join(storage, record["name"]))
            record["status"] = "died" if Fence(run).is_gone() else record["status"]
    if as_json:
        print(json.dumps({"storage": storage, "runs": records}))
        return 0
    for record in records:
        final = record["final"]
        loss = f"val {final['val/loss']:.4f}" if final.get("val/loss") else ""
        if "val/top1" in final:
            loss += f"  top-1 {final['val/top1']:.1%}"
        if "val/skill" in final:  # a target that is classified has none
            loss += f"  skill {final['val/skill']:+.3f}"
        steps = f"{record['steps']}/{record['total_steps']}"
        print(f"{record['name']:<32}{record['status']:<10}{steps:>14}  {loss}")
    if not records:
        print(f"no runs in {storage}")
    return 0


def _show(storage: str, names: list[str], as_json: bool) -> int:
    if len(names) != 1:
        raise UserError("runs show: name one run; `mimray runs ls` has them")
    record = _named(storage, names[0]).record()
    print(json.dumps(record, indent=None if as_json else 2))
    return 0


def _sync(storage: str, names: list[str], as_json: bool) -> int:
    """The runs of these names, or all of which MLflow lacks something and which nobody trains."""
    lacking = [_named(storage, name) for name in names] or [
        run
        for run in run_folders(storage)
        if (record := run.record()) is not None and record.get("mlflow_pending", False)
    ]
    synced = []
    for run in lacking:
        try:
            done = sync(run)
        except UserError as error:  # somebody trains it; its own driver delivers
            if names:
                raise
            if not as_json:
                print(str(error).partition(";")[0])
            continue
        synced.append(done._asdict())
        if not as_json:
            print(f"{done.name:<32}{done.status:<10}{done.rows:>8} rows delivered")
    if as_json:
        print(json.dumps({"storage": storage, "synced": synced}))
    elif not lacking:
        print(f"MLflow lacks nothing of the runs in {storage}")
    return 0


def find_runs(storage: str) -> list[dict[str, Any]]:
    """The records of all runs under a storage URI, by name."""
    found = (run.record() for run in run_folders(storage))
    return sorted((r for r in found if r is not None), key=lambda r: str(r["name"]))


def _named(storage: str, name: str) -> RunFolder:
    run = RunFolder(join(storage, name))
    if run.record() is None:
        raise UserError(f"no run {name!r} in {storage}; `mimray runs ls` has them")
    return run
