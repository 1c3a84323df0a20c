"""Held-out loss on fixed pictures with fixed masks, beside fills that need no learning."""

from __future__ import annotations

import io
from dataclasses import fields

import torch
from PIL import Image
from torch import Tensor

from mimray.errors import RunFailed
from mimray.hashing import Purpose, key
from mimray.mim.fills import nearest_pixel, visible_mean
from mimray.mim.masks import draw
from mimray.mim.model import MaskedImageModel
from mimray.mim.normalisation import normalise
from mimray.mim.pictures import reconstruction_grid
from mimray.mim.step import autocast, sum_over_ranks
from mimray.recipe import Recipe
from mimray.train.batches import Received
from mimray.train.group import Trainer
from mimray.train.held_out import HeldOut
from mimray.train.job import Job

_PICTURES = 8
FILLS = {"val/fill_visible_mean": visible_mean, "val/fill_nearest": nearest_pixel}


class MaskedValidation:
    """This rank's share of the validation pictures; `run` is called by all ranks together."""

    def __init__(self, recipe: Recipe, job: Job, trainer: Trainer) -> None:
        self.recipe, self.trainer = recipe, trainer
        self.pictures = HeldOut(job, trainer)
        self.damaged = self.pictures.damaged
        self.fills: dict[str, float] = {}

    def _masked(self, received: Received, patch: int) -> tuple[Tensor, Tensor]:
        """Normalised images and their masks, which depend on the row and `data.val_seed` alone."""
        seeds = key(Purpose.VALIDATION_MASK, self.recipe.data.val_seed, received.rows)
        mask, size = self.recipe.mask, self.recipe.model.image_size
        return normalise(received.images), draw(
            mask.strategy, size, mask.unit, patch, mask.ratio, seeds
        )

    @torch.no_grad()
    def run(self, model: MaskedImageModel, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """`val/loss`, and for targets that are regressed `val/skill` = 1 - loss / nearest-pixel fill
        and the two fills' losses."""
        with_fills = model.target.fills and not self.fills
        names = ["loss", *FILLS] if with_fills else ["loss"]
        sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=self.trainer.device)
        model.eval()
        for received in self.pictures:
            images, hidden = self._masked(received, model.patch)
            with autocast(images.device, self.trainer.bf16):
                out = model(images, hidden)
            sums[0] += (out.values * received.weight).sum()
            sums[1] += (out.error * received.weight).sum()
            if with_fills:
                target, region = model.target(images), model.asked(hidden)
                for place, fill in enumerate(FILLS.values(), start=2):
                    off = model.target.error(fill(target, region), target) * region
                    sums[place] += (off.sum(dim=(1, 2)) * received.weight).sum()
        model.train()
        values, *errors = sum_over_ranks(sums, self.trainer.ranks).tolist()
        if not values:
            raise RunFailed("none of the validation pictures can be read (named in run.json)")
        losses = {name: error / values for name, error in zip(names, errors, strict=True)}
        self.fills = self.fills or {name: losses[name] for name in FILLS if name in losses}
        found = {"val/loss": losses["loss"], **self.fills}
        if self.fills:
            found["val/skill"] = 1.0 - losses["loss"] / max(self.fills["val/fill_nearest"], 1e-12)
        return found

    @torch.no_grad()
    def picture(self, model: MaskedImageModel) -> bytes | None:
        """PNG of this rank's first validation pictures, after a `run`: `reconstruction_grid`.

        None where the share holds nothing readable, or the target is no picture.
        """
        received = self.pictures.first
        assert received is not None, "`run` went before"
        readable = received.weight.nonzero().flatten()[:_PICTURES]
        first = readable if len(readable) else readable.new_zeros(1)
        share = Received(*(getattr(received, field.name)[first] for field in fields(received)))
        model.eval()
        with autocast(self.trainer.device, self.trainer.bf16):
            grid = reconstruction_grid(model, *self._masked(share, model.patch))
        model.train()
        if grid is None or not len(readable):
            return None
        out = io.BytesIO()
        Image.fromarray(grid.numpy()).save(out, "PNG")
        return out.getvalue()
