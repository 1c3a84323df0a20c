"""One run's writer in a process of its own: rows as a driver hands them to its tracker.

    python -m tests.services.writer FOLDER URI ROWS

It says `ready` once MLflow has the run and waits for a line; exit status 1 where MLflow lacks some.
"""

import sys
import time
from pathlib import Path

from mimray import environment

environment.prepare()

from mimray.train.spool import head_of  # noqa: E402
from mimray.train.tracker import Tracker  # noqa: E402
from tests.train.tracked import make_run, row  # noqa: E402

PAUSE_S = 0.01


def write(folder: Path, uri: str, rows: int) -> bool:
    """Whether MLflow has all of it."""
    run = make_run(folder, uri)
    tracker = Tracker(run, head_of(run, run.record()))
    while tracker.run_id is None:
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.readline()
    for step in range(1, rows + 1):
        run.append_rows([row(step)])
        tracker.rows([row(step)])
        time.sleep(PAUSE_S)
    run.write_record(run.record() | {"status": "finished", "mlflow_run_id": tracker.run_id})
    return tracker.finish("finished")


if __name__ == "__main__":
    sys.exit(not write(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
