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
            fits = [d for d in range(1, size + 1) if size % d == 0 and d >= 4]
            near = sorted(sorted(fits, key=lambda d: abs(d - unit))[:3])
            raise ValueError(
                f"mask.unit={unit} does not divide model.image_size={size}; "
                f"near it {', '.join(map(str, near))} do"
            )
        cells = (size // unit) ** 2
        if cells == 1:
            raise ValueError(f"mask.unit={unit} is the whole picture; take a smaller one")
        if math.ceil(cells * ratio) >= cells:
            raise ValueError(
                f"mask.ratio={ratio} hides all {cells} cells of {unit} px; "
                f"the most that leaves one visible is {math.floor((cells - 1) / cells * 1000) / 1000}"
            )
        return self

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
