"""A pre-trained model's loss on each validation picture, under the masks of its run's validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mimray.data.collections import open_pictures
from mimray.data.order import held_out
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.evaluate.decoding import decoded
from mimray.recipe import Recipe, load_recipe
from mimray.train.parent import run_behind, settings_of
from mimray.train.tasks.pretraining import Pretraining
from mimray.train.tasks.starting_weights import found_at

if TYPE_CHECKING:
    from mimray.mim.model import MaskedImageModel

_BATCH = 64  # pictures of a forward pass


class Losses(NamedTuple):
    """Of the pictures that can be read: `rows` int64 (n,); `loss` float64 (n,), the mean over a picture's
    hidden values; `weight` (n,), how many these are; `fill` (n,), the nearest-pixel fill's loss over the
    same values, nan for a target that is classified. `unreadable`: how many others there are."""

    rows: np.ndarray
    loss: np.ndarray
    weight: np.ndarray
    fill: np.ndarray
    unreadable: int

    @property
    def mean(self) -> float:
        """As a run's `val/loss`: over all hidden values of all pictures."""
        return float((self.loss * self.weight).sum() / self.weight.sum())

    @property
    def skill(self) -> np.ndarray:
        """1 - loss / the fill's loss, of each."""
        from mimray.mim.masked_losses import skill

        return np.array([skill(*pair) for pair in zip(self.loss, self.fill, strict=True)])


@dataclass(frozen=True)
class Masked:
    """A checkpoint's run, and validation pictures: `rows` of `source`, which was named `data`. Travels to
    Ray's tasks."""

    weights: str
    recipe: Recipe
    data: str
    source: Source
    rows: np.ndarray

    @classmethod
    def open(cls, weights: str, data: str | None = None) -> Masked:
        """Of a run, its newest checkpoint, or of one of its checkpoints.

        `data`: its val split instead of the run's own validation pictures. Raises UserError for what is no
        pre-training, and where the pictures are not there.
        """
        run = run_behind(weights)
        if run is None:
            raise UserError(
                f"{weights}: is of no run on this machine, whose masks and head are needed"
            )
        if "task" in settings_of(run):
            raise UserError(
                f"{weights}: is of a fine-tuning, which hides nothing; name a pre-training"
            )
        recipe = load_recipe(Path(run.path) / "recipe.yaml")
        try:
            found = found_at(weights) or weights
        except ValueError as error:
            raise UserError(str(error)) from None
        return cls(found, recipe, *_pictures(recipe, data))

    @property
    def about(self) -> dict[str, str]:
        """What the losses depend on, for people."""
        mask = self.recipe.mask
        return {
            "checkpoint": self.weights.rstrip("/").rpartition("/")[2],
            "pictures": self.data,
            "masks": f"{mask.strategy}, unit {mask.unit} px, ratio {mask.ratio:g}, data.val_seed "
            f"{self.recipe.data.val_seed}",
        }

    def losses(self, device: str = "cpu") -> Losses:
        """Look at all of them. Raises UserError for weights that do not fill the model, or whose losses are
        not finite, and where nothing can be read."""
        import torch

        model, threads = self._model().to(device), torch.get_num_threads()
        found = picture_losses(model, self.recipe, self.source, self.rows, device, threads)
        if not np.isfinite(found.loss).all():
            raise UserError(
                f"{self.weights}: its losses are not finite; has its run diverged? Take an earlier "
                "checkpoint"
            )
        return found

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """As the model sees them, uint8 (n, side, side, 3)."""
        framing = Pretraining(self.recipe).framing(training=False)
        return next(decoded(self.source, [rows], framing, 1))["image"]

    def _model(self) -> MaskedImageModel:
        from mimray.mim.build import build_model
        from mimray.weights import load

        try:
            model = build_model(self.recipe)
            report = load(model, self.weights)
        except ValueError as error:
            raise UserError(str(error)) from None
        if report.missing:
            raise UserError(f"{self.weights}: does not hold {next(iter(report.missing))}")
        return model.eval()


def picture_losses(
    model: MaskedImageModel,
    recipe: Recipe,
    source: Source,
    rows: np.ndarray,
    device: str = "cpu",
    threads: int = 1,
) -> Losses:
    """Of `rows` of a source, cut and masked as the recipe's validation cuts and masks them.

    `model`: filled, in evaluation mode, on `device`; `threads` decode for it. Raises UserError where there
    are no pictures, or none can be read.
    """
    if not len(rows):
        raise UserError(f"{source.uri}: holds no pictures to look at")
    framing = Pretraining(recipe).framing(training=False)
    batches = np.array_split(rows, -(-len(rows) // _BATCH))
    seen, found = [], []
    for block in decoded(source, batches, framing, threads):
        readable = block["reason"] == 0
        if readable.any():
            seen.append(block["row"][readable])
            found.append(_look(model, recipe, block["image"][readable], seen[-1], device))
    if not seen:
        raise UserError(f"{source.uri}: none of its pictures can be read")
    loss, weight, fill = np.concatenate(found, axis=1)
    read = np.concatenate(seen)
    return Losses(read, loss, weight, fill, len(rows) - len(read))


def _look(
    model: MaskedImageModel, recipe: Recipe, images: np.ndarray, rows: np.ndarray, device: str
) -> np.ndarray:
    """Loss, weight and the nearest-pixel fill's loss of each picture, float64 (3, n)."""
    import torch

    from mimray.mim.masked_losses import fills, fixed_masks
    from mimray.mim.normalisation import normalise

    where, size = torch.from_numpy(rows).to(device), recipe.model.image_size
    hidden = fixed_masks(recipe.mask, size, model.patch, recipe.data.val_seed, where)
    shown = normalise(torch.from_numpy(images).to(device).permute(0, 3, 1, 2))
    with torch.no_grad():
        out = model(shown, hidden)
        errors = {name: error for name, _, error in fills(model, shown, hidden)}
    nearest = errors.get("nearest", torch.full_like(out.error, torch.nan))
    figures = torch.stack([out.error / out.values, out.values, nearest / out.values])
    return figures.double().cpu().numpy()


def _pictures(recipe: Recipe, data: str | None) -> tuple[str, Source, np.ndarray]:
    """The validation pictures, as training opens them, and how they were named."""
    settings = recipe.data
    if (uri := data or settings.val) is not None:
        source = open_pictures(uri, "val")
        return uri, source, np.arange(len(source))
    source = open_pictures(settings.train, "train")
    held = held_out(len(source), settings.val_fraction, settings.val_seed)
    return f"held out from {settings.train}", source, held.rows()


def look(masked: Masked, device: str = "cpu") -> Losses:
    """`masked.losses`, as `Workers.call` takes it."""
    return masked.losses(device)
