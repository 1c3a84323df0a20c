"""A training run, from the recipe to its record."""

from __future__ import annotations

from typing import Any

from mimray.errors import RunFailed, Stopped, UserError
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
    job = prepare(in_this_process(recipe) if here else recipe)
    made = job.run.make()
    fence = Fence(job.run)
    try:
        fence.claim()
        driver = Driver(job, fence, progress, draw)
        return (driver.drive_here() if here else driver.drive()), False
    except OSError as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunFailed(
            f"run.storage: {job.run.uri} cannot be written ({words}); mend that, and the same command "
            f"goes on"
        ) from None
    except SystemExit:  # Ray's own answer to SIGTERM, while it starts or ends
        raise Stopped("stopped while Ray started or ended; the same command goes on") from None
    finally:
        if job.run.record() is None:  # nothing is left of a run that never began
            fence.withdraw()
            remove_empty(made)
        fence.release()


def in_this_process(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with the `speed` of a run that has no Ray: one trainer that decodes for itself.

    Raises UserError where a GPU is asked for and there is none.
    """
    import torch

    if recipe.speed.device == "gpu" and not torch.cuda.is_available():
        raise UserError("speed.device=gpu and this host has no GPU; set speed.device=cpu")
    own = recipe.speed.loader_processes if recipe.speed.loader == "torch" else 0
    alone = {"workers": 1, "loader": "torch", "loader_processes": own}
    return recipe.model_copy(update={"speed": recipe.speed.model_copy(update=alone)})


def is_finished(record: dict[str, Any], recipe: TrainingRecipe) -> bool:
    """Whether a record is that of this very recipe, and of a run that reached its end.

    Raises UserError where a file that it was started with has changed since.
    """
    finished = record["status"] == "finished" and record["recipe_digest"] == recipe.digest()
    if finished:
        check_files(record)
    return bool(finished)
