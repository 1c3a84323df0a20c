"""`mimray runs ls` and `mimray runs show RUN`, from the runs' own records."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pyarrow import fs

from mimray.data.files import absolute, join, resolve
from mimray.environment import project_folder
from mimray.errors import UserError
from mimray.train.run_folder import RunFolder


def run(arguments: argparse.Namespace) -> int:
    """Print one line a run, or one run's record."""
    storage = absolute(arguments.storage or str(project_folder() / "runs"))
    if arguments.action == "show":
        if arguments.run is None:
            raise UserError("runs show: name a run; `mimray runs ls` has them")
        record = RunFolder(join(storage, arguments.run)).record()
        if record is None:
            raise UserError(f"no run {arguments.run!r} in {storage}; `mimray runs ls` has them")
        print(json.dumps(record, indent=None if arguments.json else 2))
        return 0
    records = find_runs(storage)
    if arguments.json:
        print(json.dumps({"storage": storage, "runs": records}))
        return 0
    for record in records:
        final = record["final"]
        loss = f"val {final['val/loss']:.4f}" if final.get("val/loss") else ""
        if "val/skill" in final:  # a target that is classified has none
            loss += f"  skill {final['val/skill']:+.3f}"
        steps = f"{record['steps']}/{record['total_steps']}"
        print(f"{record['name']:<32}{record['status']:<10}{steps:>14}  {loss}")
    if not records:
        print(f"no runs in {storage}")
    return 0


def find_runs(storage: str) -> list[dict[str, Any]]:
    """The records of all runs under a storage URI, by name."""
    filesystem, path = resolve(storage)
    try:
        folders = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise UserError(f"--storage {storage}: {str(error).splitlines()[0]}") from None
    found = (RunFolder(join(storage, f.base_name)).record() for f in folders if not f.is_file)
    return sorted((r for r in found if r is not None), key=lambda r: str(r["name"]))
