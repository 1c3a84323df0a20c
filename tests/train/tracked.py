"""Run folders as a driver leaves them, and what MLflow's own store has of them."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from mimray.train.run_folder import RunFolder


def make_run(folder: Path, uri: str, status: str = "running") -> RunFolder:
    """A run without rows whose `run.tracking` is `uri`; its uid is the folder's name."""
    run = RunFolder(str(folder))
    run.make()
    settings = {"name": "demo", "mask": {"ratio": 0.6}, "run": {"tracking": uri, "seed": 0}}
    run.write("recipe.yaml", yaml.safe_dump(settings).encode())
    run.write_record(
        {
            "uid": f"uid-of-{folder.name}",
            "name": folder.name,
            "recipe": "demo",
            "status": status,
            "recipe_digest": "r",
            "data_digest": "d",
            "mask": {"hidden_ratio": 0.6},
            "steps": 0,
            "total_steps": 100,
            "starts": [{"time": 1.7e9, "step": 0}],
            "final": {},
            "mlflow_run_id": None,
            "mlflow_pending": True,
        }
    )
    return run


def row(step: int, **more: Any) -> dict[str, Any]:
    """A row of `metrics.jsonl`: four pictures a step, a step a second."""
    return {
        "step": step,
        "position": step,
        "attempt": 0,
        "images": step * 4,
        "time": 1.7e9 + step + 0.125,
        "train/loss": 1.0 / step,
        "speed/images_per_s": 10.0 + step,
    } | more


class Store:
    """MLflow's sqlite file, read as it is."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def _ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=30) as connection:
            return connection.execute(question, values).fetchall()

    def runs(self, uid: str) -> list[tuple[str, str]]:
        """(id, status) of the runs of a uid that are not deleted."""
        return self._ask(
            "select r.run_uuid, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'mimray.uid' and t.value = ? and r.lifecycle_stage = 'active'",
            uid,
        )

    def metrics(self, run_id: str) -> dict[str, list[tuple[int, int, float]]]:
        """(step, milliseconds, value) of each metric, in the order in which they arrived."""
        found = defaultdict(list)
        for key, *point in self._ask(
            "select key, step, timestamp, value from metrics where run_uuid = ? order by rowid",
            run_id,
        ):
            found[key].append(tuple(point))
        return found

    def params(self, run_id: str) -> dict[str, str]:
        return dict(self._ask("select key, value from params where run_uuid = ?", run_id))


def assert_whole(store: Store, run: RunFolder, status: str) -> None:
    """MLflow has the run once, with its status, and every value of its rows once and in order."""
    record, rows = run.record(), run.rows()
    assert record is not None
    ((run_id, found),) = store.runs(record["uid"])
    assert found == status
    metrics = store.metrics(run_id)
    assert [value for _, _, value in metrics.pop("mask/hidden_ratio")] == [0.6]
    expected = defaultdict(list)
    for one in rows:
        for key in set(one) - {"position", "attempt", "images", "time"}:
            if one[key] is not None:
                expected[key].append((one["images"], int(one["time"] * 1000), one[key]))
    assert metrics == expected
    params = store.params(run_id)
    assert (params["mask.ratio"], params["recipe"]) == ("0.6", "demo")
