"""The studies that come with mimray, to the end of their fine-tunings' checks: it builds the giants."""

from dataclasses import replace

import pytest

from mimray.study.scaling.cells import load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.plan import steps_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "cells", "fewer"),
    [("photos", 24, {}), ("paper", 90, {"optim.batch": 640, "speed.micro_batch": 20})],
)
def test_the_recipes_fit(name, cells, fewer, tmp_path):
    """Also their fine-tunings, with batches that the photos that come with mimray fill."""
    words = [f"data.{split}=builtin:photos/{split}" for split in ("train", "val")]
    laid = load_study(f"tuning/scaling_{name}.yaml", [f"run.storage={tmp_path}", *words])
    assert len(laid.cells) == cells
    assert {cell.recipe.schedule.warmup for cell in laid.cells} <= {"5%", "1.25%"}
    (step,) = (s for s in steps_of(laid, StudyFolder(laid)) if s.name == "finetune")
    settings = step.settings.model_copy(update={"set": step.settings.set | fewer})
    replace(step, settings=settings).check(laid.cells)
