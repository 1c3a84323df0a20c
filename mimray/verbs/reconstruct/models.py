"""What `--from` names, as a whole model: encoder, head and target, and the recipe that tells them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from mimray.errors import UserError
from mimray.mim.build import build_model
from mimray.mim.model import MaskedImageModel
from mimray.recipe import Mask, Recipe, load_recipe
from mimray.settings_errors import known_settings, nearest
from mimray.train.manifest import name_of, problem_of, steps_of
from mimray.train.parent import run_behind, settings_of
from mimray.train.tasks.check_pretraining import check_model
from mimray.train.tasks.starting_weights import locate
from mimray.weights import load, read
from mimray.weights.read import files_of

_OWN = (
    "mask.strategy",
    "mask.unit",
    "mask.ratio",
    "model.image_size",
    "model.window",
    "target.file",
)
"""What may be another than the run's: the others would make another model of its weights."""


@dataclass(frozen=True)
class Opened:
    """A filled model in evaluation mode, on the GPU where there is one.

    `recipe`: with other masks, where such were asked for; `trained`: its own; `step`: of a run's
    checkpoint.
    """

    model: MaskedImageModel
    recipe: Recipe
    trained: Mask
    weights: str
    name: str
    step: int | None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    @property
    def title(self) -> str:
        """For people."""
        return self.name if self.step is None else f"{self.name}, step {self.step:,}"


def open_model(weights: str, overrides: list[str], recipe_name: str | None = None) -> Opened:
    """Build and fill the model of a run, of one of its checkpoints, or of a file and a recipe.

    Raises UserError for what is not there, is no checkpoint, holds no head, or was trained for something
    else, and for settings that do not fit.
    """
    try:
        path = locate(weights)
        files = files_of(path)
        source = _recipe(weights, path, overrides, recipe_name)
        recipe = load_recipe(source, overrides)
        check_model(recipe)
        model = build_model(recipe)
        report = load(model, path)
    except (ValueError, OSError) as error:  # OSError: a run that goes on removes its checkpoints
        raise UserError(f"--from {error}") from None
    lacking = [
        name
        for name in report.missing
        if name.startswith(("head.", "target.")) or name == "encoder.mask_token"
    ]
    if lacking:
        raise UserError(
            f"--from {weights}: does not hold all of the model ({lacking[0]}: "
            f"{report.missing[lacking[0]]}), so it predicts nothing; name a pre-training checkpoint "
            "with its head"
        )
    if recipe.model.visible_only:
        model.encoder.visible = None  # type: ignore[assignment]  # counted, for masks will differ
    run = run_behind(weights)
    return Opened(
        model=model.eval().to("cuda" if torch.cuda.is_available() else "cpu"),
        recipe=recipe,
        trained=load_recipe(source).mask,
        weights=weights,
        name=path.stem if run is None else Path(run.path).name,
        step=_step(files[0].absolute()),
    )


def _recipe(weights: str, path: Path, overrides: list[str], recipe_name: str | None) -> Path | str:
    """Where the recipe is read: of a run its own, of a file the one that is named.

    Raises UserError, and ValueError for a file that is no checkpoint at all.
    """
    run = run_behind(weights)
    if run is None:
        if recipe_name is None:
            read(path)
            raise UserError(
                f"--from {weights}: is of no run of mimray, and weights do not tell their head, target "
                "and masks; name the recipe of their pre-training (--recipe, see `mimray recipe list`)"
            )
        return recipe_name
    if recipe_name is not None:
        raise UserError(f"--recipe {recipe_name}: {weights} is of a run, which knows its own")
    if "task" in settings_of(run):
        raise UserError(
            f"--from {weights}: is of a fine-tuned classifier, which predicts no pictures; name the "
            "pre-training that it started from"
        )
    known = known_settings(Recipe)
    for override in overrides:
        if (name := override.partition("=")[0]) not in known:
            raise UserError(f"{name} is not a setting{nearest(name, known)}")
        if name not in _OWN:
            raise UserError(
                f"{name} is the run's own, and its weights are of no other; {', '.join(_OWN)} may differ"
            )
    return Path(run.path) / "recipe.yaml"


def _step(file: Path) -> int | None:
    """The step of a checkpoint that a file of weights lies in."""
    match = re.fullmatch(r"step-(\d+)", file.parent.name)
    return None if match is None else int(match[1])


def kept_checkpoints(weights: str) -> list[str]:
    """All complete checkpoints of the run behind `weights`, in the order of their steps.

    Raises UserError where there are fewer than two.
    """
    run = run_behind(weights)
    if run is None:
        raise UserError(
            f"--video: {weights} is of no run of mimray; name several checkpoints by --from"
        )
    steps = sorted(step for step in steps_of(run) if problem_of(run, step) is None)
    if len(steps) < 2:
        raise UserError(
            f"--video: {run.uri} keeps {len(steps)} checkpoint, and a video needs 2; train with "
            "run.keep=20 run.checkpoint_every=5%, or name several by --from"
        )
    return [run.file(name_of(step)) for step in steps]
