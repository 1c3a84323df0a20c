"""Held-out loss on fixed pictures with fixed masks, beside fills that need no learning."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field, fields

import torch
from PIL import Image
from torch import Tensor

from mimray.errors import RunFailed
from mimray.mim.masked_losses import FILLS, fills, fixed_masks, skill
from mimray.mim.model import MaskedImageModel, MimOutput
from mimray.mim.normalisation import normalise
from mimray.mim.pictures import reconstruction_grid
from mimray.mim.step import autocast, sum_over_ranks
from mimray.recipe import Mask, Recipe
from mimray.train.batches import Received
from mimray.train.group import Trainer
from mimray.train.held_out import HeldOut
from mimray.train.job import Job

_PICTURES = 8


class MaskedValidation:
    """This rank's share of the validation pictures; `run` is called by all ranks together."""

    def __init__(self, recipe: Recipe, job: Job, trainer: Trainer) -> None:
        self.recipe, self.trainer = recipe, trainer
        self.pictures = HeldOut(job, trainer)
        self.damaged = self.pictures.damaged
        self.maskings = [Masking("val/", recipe.mask)]
        if recipe.run.reference_mask is not None:
            self.maskings.append(Masking("val/reference_", recipe.run.reference_mask))

    def _hidden(self, mask: Mask, patch: int, rows: Tensor) -> Tensor:
        recipe = self.recipe
        return fixed_masks(mask, recipe.model.image_size, patch, recipe.data.val_seed, rows)

    @torch.no_grad()
    def run(self, model: MaskedImageModel, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """`val/loss`, and for targets that are regressed `val/skill` = 1 - loss / nearest-pixel fill
        and the two fills' losses; the same as `val/reference_...` under a reference mask."""
        sums = [masking.nothing(model, self.trainer.device) for masking in self.maskings]
        model.eval()
        for received in self.pictures:
            images = normalise(received.images)
            for masking, own in zip(self.maskings, sums, strict=True):
                hidden = self._hidden(masking.mask, model.patch, received.rows)
                with autocast(images.device, self.trainer.bf16):
                    out = model(images, hidden)
                masking.add(own, model, images, hidden, out, received.weight)
        model.train()
        found: dict[str, float] = {}
        for masking, own in zip(self.maskings, sums, strict=True):
            found |= masking.losses(sum_over_ranks(own, self.trainer.ranks).tolist())
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
        share = Received(*(getattr(received, f.name)[first] for f in fields(received)))
        hidden = self._hidden(self.recipe.mask, model.patch, share.rows)
        model.eval()
        with autocast(self.trainer.device, self.trainer.bf16):
            grid = reconstruction_grid(model, normalise(share.images), hidden)
        model.train()
        if grid is None or not len(readable):
            return None
        out = io.BytesIO()
        Image.fromarray(grid.numpy()).save(out, "PNG")
        return out.getvalue()


@dataclass
class Masking:
    """One kind of mask over the held-out pictures. `prefix`: of its metrics' names; `fills`: what the fills
    lose under it, by their metrics' names, once it is known."""

    prefix: str
    mask: Mask
    fills: dict[str, float] = field(default_factory=dict)

    def nothing(self, model: MaskedImageModel, device: torch.device) -> Tensor:
        """Sums to add to: of values and the model's error; the fills' too, the first time."""
        count = len(FILLS) if model.target.fills and not self.fills else 0
        return torch.zeros(2 + count, dtype=torch.float64, device=device)

    def add(
        self,
        sums: Tensor,
        model: MaskedImageModel,
        images: Tensor,
        hidden: Tensor,
        out: MimOutput,
        weight: Tensor,
    ) -> None:
        """Take in a micro-batch; `weight` (B,)."""
        sums[0] += (out.values * weight).sum()
        sums[1] += (out.error * weight).sum()
        if len(sums) > 2:
            for place, (_, _, error) in enumerate(fills(model, images, hidden), start=2):
                sums[place] += (error * weight).sum()

    def losses(self, sums: list[float]) -> dict[str, float]:
        """Metrics by name, from the sums over all ranks. Raises RunFailed where nothing could be read."""
        values, error, *errors = sums
        if not values:
            raise RunFailed("none of the validation pictures can be read (named in run.json)")
        if errors:
            self.fills = {
                f"{self.prefix}fill_{name}": own / values
                for name, own in zip(FILLS, errors, strict=True)
            }
        loss = error / values
        found = {f"{self.prefix}loss": loss, **self.fills}
        worth = skill(loss, self.fills.get(f"{self.prefix}fill_nearest", math.nan))
        return found if math.isnan(worth) else found | {f"{self.prefix}skill": worth}
