"""What a sweep's YAML file may say: what is compared, how it is chosen, and by what it is judged."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationError, field_validator, model_validator

from mimray.recipe import NAME, Mask, Section
from mimray.recipe.sections import Uri
from mimray.settings_errors import explain
from mimray.study.sweeps.range import Range


def _values(given: object) -> list[Any] | Range:
    if isinstance(given, dict):
        try:
            return Range.model_validate(given)
        except ValidationError as error:
            raise ValueError(explain(error, Range)) from None
    if not isinstance(given, list):
        raise ValueError(f"{given!r} is neither a list of values nor a range, {{low: 1, high: 2}}")
    if not given:
        raise ValueError("a list of values needs at least 1 item")
    return given


Values = dict[str, Annotated[list[Any] | Range, PlainValidator(_values)]]
"""Settings and the values that each takes: a list of them, or a range to draw from."""


class Stop(Section):
    """Asynchronous successive halving (Li et al., 2020): at shares `grace`, `grace` x `reduction_factor`,
    ... of its length a trial ends that is not among the best 1 / `reduction_factor` of those that came so
    far before it."""

    rule: Literal["asha"] = "asha"
    grace: float = Field(0.1, gt=0.0, lt=1.0)
    reduction_factor: float = Field(4.0, gt=1.0)


class Finetune(Section):
    """How a trial is fine-tuned: a recipe, best a short one, and settings that differ from it."""

    recipe: str = "finetune_demo"
    set: dict[str, Any] = Field(default_factory=dict)


class Knn(Section):
    """Pictures with labels: neighbours are looked for among `train`, for those of `val`."""

    train: Uri
    val: Uri


class Sweep(Section):
    """A recipe, settings that all cells share, and the values that they do not."""

    name: str = Field("sweep", pattern=NAME)
    recipe: str
    set: dict[str, Any] = Field(default_factory=dict)
    grid: list[Annotated[Values, Field(min_length=1)]] = Field(min_length=1)
    """Every combination of the values is a cell; of several grids each one's."""
    search: Literal["grid", "random", "optuna"] = "grid"
    """All cells, `samples` of them drawn at random, or as many as Optuna asks for, one after another."""
    samples: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    """Of what is drawn, and of the order in which trials start that may be stopped."""
    objective: Literal["skill", "finetune", "knn"] = "skill"
    """Skill under the reference mask, top-1 after fine-tuning, or top-1 of the nearest neighbours of frozen
    features."""
    reference_mask: Mask | None = None
    """One mask for all cells, under which losses and skill compare; where cells have masks of their own,
    the recipe's when not given."""
    finetune: Finetune | None = None
    knn: Knn | None = None
    stop: Stop | None = None
    """How trials are ended that promise little, by skill under the reference mask."""

    @field_validator("grid", mode="before")
    @classmethod
    def _one_is_several(cls, grid: object) -> object:
        return [grid] if isinstance(grid, dict) else grid

    @field_validator("grid")
    @classmethod
    def _values_differ(cls, grid: list[Values]) -> list[Values]:
        for values in grid:
            for name, given in values.items():
                if isinstance(given, Range):
                    continue
                told = [json.dumps(value) for value in given]
                if len(set(told)) < len(told):
                    raise ValueError(f"{name} has a value twice: {', '.join(told)}")
        return grid

    @field_validator("stop", mode="before")
    @classmethod
    def _rule_alone(cls, stop: object) -> object:
        return {"rule": stop} if isinstance(stop, str) else stop

    @model_validator(mode="after")
    def _fits_together(self) -> Sweep:
        if self.search == "grid" and self.ranges:
            raise ValueError(
                f"search=grid runs through lists, and {self.ranges[0]} is a range; list its values, or "
                f"take search: random or optuna"
            )
        if self.search == "grid" and self.samples is not None:
            raise ValueError(
                f"samples={self.samples} is of search=random or optuna; leave it out, for a grid runs whole"
            )
        if self.search != "grid" and self.samples is None:
            raise ValueError(f"search={self.search} needs samples, like samples: 16")
        if self.search == "optuna" and len(self.grid) > 1:
            raise ValueError("search=optuna takes one grid, of which it chooses the values")
        for name in ("finetune", "knn"):
            if getattr(self, name) is not None and self.objective != name:
                raise ValueError(
                    f"{name} is of objective={name}, not of {self.objective}; leave it out"
                )
        return self

    @property
    def names(self) -> list[str]:
        """Settings that cells differ in."""
        return list(dict.fromkeys(name for values in self.grid for name in values))

    @property
    def ranges(self) -> list[str]:
        """Those of `names` that have no list."""
        return [
            name
            for name in self.names
            if any(isinstance(values.get(name), Range) for values in self.grid)
        ]

    @property
    def measures_skill(self) -> bool:
        """Whether skill ranks trials, or ends them."""
        return self.objective == "skill" or self.stop is not None
