"""A short pre-training in this process, without a Ray: `python -m tests.services.training SETTING ...`"""

from __future__ import annotations

import sys
from typing import Any

from mimray import environment

environment.prepare()

import torch  # noqa: E402

from mimray.evaluate.cells import Quiet  # noqa: E402
from mimray.recipe import load_recipe  # noqa: E402
from mimray.report.curves import loss_curve  # noqa: E402
from mimray.train.launch import launch  # noqa: E402
from mimray.train.run_folder import RunFolder  # noqa: E402

SHORT = [
    *("schedule.length=8it", "schedule.warmup=2it", "optim.batch=4", "optim.lr=0.001"),
    *("run.validate_every=4it", "run.checkpoint_every=2it", "run.log_every=1it"),
    *("model.image_size=48", "model.window=3", "mask.unit=8", "run.tracking=off"),
]


def train(*settings: str) -> tuple[RunFolder, dict[str, Any]]:
    """Eight steps of a smaller demo; later settings win. Its folder and record."""
    torch.set_num_threads(1)  # in every process the same, or sums are not the same to the bit
    recipe = load_recipe("demo", [*SHORT, *settings])
    record, _ = launch(recipe, Quiet(), loss_curve, here=True)
    return RunFolder.of(recipe), record


if __name__ == "__main__":
    train(*sys.argv[1:])
