"""What MLflow is given of a run, read from the run's folder: nothing else has to be kept for it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from pyarrow import fs

from mimray.tracking import Head
from mimray.train.parent import parent_of, settings_of, store_of
from mimray.train.run_folder import RunFolder

# Where a run lies, which stands in its name and tags: as params they would differ between any two runs,
# and MLflow's page that compares draws what differs.
_PLACES = ("run.name", "run.storage", "run.tracking", "run.experiment")


def head_of(run: RunFolder, record: dict[str, Any]) -> Head:
    """From `recipe.yaml` and the record; as plain YAML, for the run may be of an older mimray."""
    settings = settings_of(run)
    sections = {name: values for name, values in settings.items() if isinstance(values, dict)}
    params = {
        f"{section}.{key}": str(value)
        for section, values in sections.items()
        for key, value in values.items()
        if f"{section}.{key}" not in _PLACES
    }
    return Head(
        uid=record["uid"],
        uri=store_of(settings),
        experiment=sections.get("run", {}).get("experiment", "mimray"),
        name=record["name"],
        params=params | {"recipe": record["recipe"]},
        tags={
            "mimray.kind": record.get("kind", "pretrain"),
            "mimray.data_digest": record["data_digest"],
            "mimray.recipe_digest": record["recipe_digest"],
            "mimray.run_dir": run.uri,
        },
        # Losses do not compare over masks, and AvgDist tells why.
        constants={f"mask/{name}": value for name, value in record.get("mask", {}).items()},
        began=record["starts"][0]["time"] if record["starts"] else None,
        parent=parent_of(settings, record),
    )


def rows_after(run: RunFolder, step: int) -> Iterator[dict[str, Any]]:
    """Rows of `metrics.jsonl` after a step, one at a time: there may be millions.

    A last line that was cut off by a crash is left out.
    """
    file = run.file("metrics.jsonl")
    if run.filesystem.get_file_info(file).type == fs.FileType.NotFound:
        return
    with run.filesystem.open_input_stream(file) as stream, io.BufferedReader(stream) as lines:
        for line in lines:
            if line.endswith(b"\n") and (row := json.loads(line))["step"] > step:
                yield row


def files(run: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what MLflow keeps as artifacts: the recipe and the figures."""
    figures = run.filesystem.get_file_info(
        fs.FileSelector(run.file("figures"), allow_not_found=True)
    )
    drawn = sorted(f"figures/{info.base_name}" for info in figures if info.is_file)
    for name in ("recipe.yaml", *drawn):
        if (data := run.read(name)) is not None:
            yield name, data
