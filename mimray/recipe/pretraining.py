"""A pre-training run's recipe."""

from __future__ import annotations

import hashlib
import json
import math

import yaml
from pydantic import Field, model_validator

from mimray.recipe.running import Optim, Run, Schedule, Speed
from mimray.recipe.sections import NAME, Data, Head, Mask, Model, Section, TargetSettings

RESULT_SECTIONS = ("model", "mask", "head", "target", "data", "optim", "schedule")

_PATCHES = {"vit_nano": 8, "vit_standard_huge": 14}


def _patch(encoder: str) -> int:
    """Side of an encoder's patches, pixels: `EncoderSpec.patch`, which is out of reach without torch."""
    return _PATCHES.get(encoder, 16 if encoder.startswith("vit_") else 4)


class Recipe(Section):
    """All settings of a pre-training run. `name` is the recipe's own, from its file."""

    name: str = Field("recipe", pattern=NAME)
    model: Model = Model()
    mask: Mask = Mask()
    head: Head = Head()
    target: TargetSettings = TargetSettings()
    data: Data = Data()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    run: Run = Run()
    speed: Speed = Speed()

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

    def digest(self) -> str:
        """Hex digest of everything that changes the result."""
        settings = self.model_dump(mode="json", include=set(RESULT_SECTIONS))
        settings["seed"] = self.run.seed
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def run_name(self) -> str:
        """`run.name`, or the recipe's name with its digest: another setting is another run."""
        return self.run.name or f"{self.name}-{self.digest()[:8]}"

    def to_yaml(self) -> str:
        """All settings, resolved, as YAML that `load_recipe` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
