"""A pre-training run's recipe."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import model_validator

from mimray.recipe.running import Run
from mimray.recipe.sections import Head, Mask, TargetSettings
from mimray.recipe.training import TrainingRecipe

_PATCHES = {"vit_nano": 8, "vit_standard_huge": 14}


def _patch(encoder: str) -> int:
    """Side of an encoder's patches, pixels: `EncoderSpec.patch`, which is out of reach without torch."""
    return _PATCHES.get(encoder, 16 if encoder.startswith("vit_") else 4)


class PretrainRun(Run):
    reference_mask: Mask | None = None
    """Held-out pictures are looked at under this mask too, beside the run's own: `val/reference_loss` and
    `val/reference_skill` compare over runs whose masks differ."""


class Recipe(TrainingRecipe):
    """All settings of a pre-training run."""

    results: ClassVar = ("model", "mask", "head", "target", "data", "optim", "schedule")

    mask: Mask = Mask()
    head: Head = Head()
    target: TargetSettings = TargetSettings()
    run: PretrainRun = PretrainRun()

    @model_validator(mode="after")
    def _mask_fits(self) -> Recipe:
        size, unit, ratio = self.model.image_size, self.mask.unit, self.mask.ratio
        if size % unit:
            mend = self.units_to_take(_patch(self.model.encoder))
            raise ValueError(f"mask.unit={unit} does not divide model.image_size={size}; {mend}")
        cells = (size // unit) ** 2
        if cells == 1:
            raise ValueError(f"mask.unit={unit} is the whole picture; take a smaller one")
        if math.ceil(cells * ratio) >= cells:
            raise ValueError(
                f"mask.ratio={ratio} hides all {cells} cells of {unit} px; "
                f"the most that leaves one visible is {math.floor((cells - 1) / cells * 1000) / 1000}"
            )
        return self

    def units_to_take(self, patch: int) -> str:
        """The mend for a wrong `mask.unit`: those nearest to it that go with the picture's size, the
        ratio and the encoder's patch (pixels)."""
        size, unit, ratio = self.model.image_size, self.mask.unit, self.mask.ratio
        fits = [u for u in range(patch, size, patch) if size % u == 0]
        if not fits:
            name = self.model.encoder
            return f"no multiple of {name}'s patch {patch} divides it; change model.image_size"
        leaves_some = [u for u in fits if math.ceil((size // u) ** 2 * ratio) < (size // u) ** 2]
        near = sorted(sorted(leaves_some or fits, key=lambda u: abs(u - unit))[:2])
        return f"take {' or '.join(map(str, near))}"
