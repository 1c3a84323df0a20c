"""Fine-tunings of a few steps in this process, on the shipped photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from mimray.recipe import FinetuneRecipe, load_finetune_recipe
from mimray.train.console import Console
from mimray.train.job import Job
from mimray.train.launch import launch
from mimray.train.prepare import open_data
from mimray.train.run_folder import RunFolder

TINY = [
    *("model.encoder=vit_nano", "model.image_size=32", "model.window=null", "optim.batch=16"),
    *("schedule.length=6it", "schedule.warmup=1it", "run.validate_every=3it", "run.log_every=1it"),
    *("run.checkpoint_every=3it", "run.tracking=off", "speed.loader=torch"),
    "speed.loader_processes=0",
]
MIXED = ["augment.mixup=0.8", "augment.cutmix=1.0", "augment.erasing=0.25", "optim.average=0.5"]


def ask(folder: Path, *words: str, name: str = "run") -> list[str]:
    """What the verb is asked, `--from` apart."""
    return ["finetune_demo", *TINY, f"run.storage={folder}", f"run.name={name}", *words]


def recipe_of(folder: Path, *words: str, name: str = "run") -> FinetuneRecipe:
    """The recipe of what is asked."""
    return load_finetune_recipe("finetune_demo", ask(folder, *words, name=name)[1:])


def finetune(folder: Path, *words: str, name: str = "run") -> tuple[dict[str, Any], list[dict]]:
    """The record and rows of a run to its end."""
    recipe = recipe_of(folder, *words, name=name)
    record, _ = launch(recipe, Console(), lambda rows, title: b"", here=True)
    return record, RunFolder.of(recipe).rows()


def job_of(folder: Path, *words: str) -> Job:
    """A run that was not started, with its data open."""
    return open_data(recipe_of(folder, *words))


def tensors_of(
    folder: Path, kind: str = "model", name: str = "run", step: int = 6
) -> dict[str, Tensor]:
    """What a checkpoint's file of the model or the optimiser holds."""
    from safetensors.torch import load_file

    return load_file(folder / name / f"checkpoints/step-{step:08d}/{kind}.safetensors")
