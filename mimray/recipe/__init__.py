"""Every setting of a run, typed and checked, and how a recipe is read.

Sections `model, mask, head, target, data, optim, schedule` and `run.seed` change the result; their
digest names the run. `speed` and the rest of `run` may not change it. No torch here, so that the
command line answers at once.
"""

from mimray.recipe.finetuning import Augment, FinetuneRecipe
from mimray.recipe.pretraining import Recipe
from mimray.recipe.reading import (
    builtin_recipes,
    load_any,
    load_finetune_recipe,
    load_recipe,
    validate_recipe,
    whole,
)
from mimray.recipe.running import Optim, Run, Schedule, Speed
from mimray.recipe.sections import (
    CLASSIFIED,
    NAME,
    Data,
    Head,
    Mask,
    Model,
    Section,
    TargetSettings,
)
from mimray.recipe.training import TrainingRecipe

__all__ = [
    "CLASSIFIED",
    "NAME",
    "Augment",
    "Data",
    "FinetuneRecipe",
    "Head",
    "Mask",
    "Model",
    "Optim",
    "Recipe",
    "Run",
    "Schedule",
    "Section",
    "Speed",
    "TargetSettings",
    "TrainingRecipe",
    "builtin_recipes",
    "load_any",
    "load_finetune_recipe",
    "load_recipe",
    "validate_recipe",
    "whole",
]
