"""What the recipes of all training runs share: their sections, digest and name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import ClassVar

import yaml
from pydantic import Field

from mimray.recipe.running import Optim, Run, Schedule, Speed
from mimray.recipe.sections import NAME, Data, Model, Section


class TrainingRecipe(Section):
    """All settings of a training run. `name` is the recipe's own, from its file."""

    results: ClassVar[tuple[str, ...]]
    """Names of what changes the result, in the order in which people read them."""
    unless_default: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Settings, by section, of which the digest says nothing where they have their default, so that a run
    keeps its name whether or not mimray knew them when it was started."""

    name: str = Field("recipe", pattern=NAME)
    model: Model = Model()
    data: Data = Data()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    run: Run = Run()
    speed: Speed = Speed()

    def digest(self) -> str:
        """Hex digest of everything that changes the result."""
        settings = self.model_dump(mode="json", include=set(self.results))
        for section, names in self.unless_default.items():
            chosen = getattr(self, section).model_dump(include=set(names), exclude_defaults=True)
            for name in set(names) - set(chosen):
                del settings[section][name]
        settings["seed"] = self.run.seed
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def run_name(self) -> str:
        """`run.name`, or the recipe's name with its digest: another setting is another run."""
        return self.run.name or f"{self.name}-{self.digest()[:8]}"

    def micro_batch(self, workers: int, together: int = 1) -> int:
        """Pictures in one forward pass of one of `workers`; a multiple of `together`, which must not be
        parted."""
        share = -(-self.optim.batch // workers)  # more would leave other workers without pictures
        return -(-min(self.speed.micro_batch or 128, share) // together) * together

    def to_yaml(self) -> str:
        """All settings, resolved, as YAML that reads back the same."""
        settings = self.model_dump(mode="json")
        ordered = {name: settings[name] for name in ("name", *self.results, "run", "speed")}
        return yaml.safe_dump(ordered, sort_keys=False)
