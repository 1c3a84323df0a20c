"""A training run, from the recipe to its record."""

from __future__ import annotations

from typing import Any

from mimray.errors import Stopped
from mimray.recipe import TrainingRecipe
from mimray.train.clerk import Progress
from mimray.train.driver import Draw, Driver
from mimray.train.fence import Fence
from mimray.train.files import check_files
from mimray.train.prepare import prepare
from mimray.train.run_folder import RunFolder, remove_empty


def launch(
    recipe: TrainingRecipe, progress: Progress, draw: Draw, here: bool = False
) -> tuple[dict[str, Any], bool]:
    """Run, or go on with, a training run: its record (`run.json`), and whether it was finished already.

    `here`: train in this process, with one trainer and no Ray of its own. `draw` makes the loss curve
    (figures belong to a higher floor). Raises UserError, RunFailed or Stopped.
    """
    record = RunFolder.of(recipe).record()
    if record is not None and is_finished(record, recipe):
        return record, True
    job = prepare(recipe)
    made = job.run.make()
    fence = Fence(job.run)
    try:
        fence.claim()
        driver = Driver(job, fence, progress, draw)
        return (driver.drive_here() if here else driver.drive()), False
    except SystemExit:  # Ray's own answer to SIGTERM, while it starts or ends
        raise Stopped("stopped while Ray started or ended; the same command goes on") from None
    finally:
        if job.run.record() is None:  # nothing is left of a run that never began
            fence.withdraw()
            remove_empty(made)
        fence.release()


def is_finished(record: dict[str, Any], recipe: TrainingRecipe) -> bool:
    """Whether a record is that of this very recipe, and of a run that reached its end.

    Raises UserError where a file that it was started with has changed since.
    """
    finished = record["status"] == "finished" and record["recipe_digest"] == recipe.digest()
    if finished:
        check_files(record)
    return bool(finished)
