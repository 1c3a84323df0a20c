"""What a study's YAML file may say: encoders, pictures, lengths, and what is measured."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from mimray.recipe import NAME, Section
from mimray.recipe.sections import Seed, Uri
from mimray.study.sweeps.sweep import Finetune

Settings = dict[str, Any]
"""`section.key` and value."""
Named = dict[str, Settings]

TASKS = ("knn", "linear")
"""Further tasks by name: see `mimray.study.scaling.frozen`."""


class Pictures(Section):
    """Of a further task: pictures with labels, to learn from and to test on; the study's when not given."""

    train: Uri | None = None
    val: Uri | None = None


class Study(Section):
    """Every encoder on every subset for every length, with every seed, is a run."""

    name: str = Field("study", pattern=NAME)
    recipe: str
    set: Settings = Field(default_factory=dict)
    """Settings that all cells share."""
    encoders: Annotated[Named, Field(min_length=1)]
    """Names, and the settings that make each of them; a text is `model.encoder`."""
    subsets: Annotated[Named, Field(min_length=1)]
    """Names, and the settings that say the training pictures; a text is `data.subset`: a share, or a
    manifest. Other pictures are `{data.train: URI}`."""
    lengths: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """In iterations. The schedule is stretched to each of them."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default_factory=lambda: [0])
    """Of several the table has means; a subset holds the same pictures for all."""
    finetune: Finetune | None = None
    """How a cell is fine-tuned, on the study's pictures where the settings say no others."""
    tasks: dict[str, Pictures] = Field(default_factory=dict)
    """What else is measured, by name."""

    @field_validator("encoders", mode="before")
    @classmethod
    def _of_encoders(cls, given: object) -> object:
        return _named(given, "model.encoder")

    @field_validator("subsets", mode="before")
    @classmethod
    def _of_subsets(cls, given: object) -> object:
        return _named(given, "data.subset")

    @field_validator("tasks", mode="before")
    @classmethod
    def _listed(cls, tasks: object) -> object:
        return {name: {} for name in tasks} if isinstance(tasks, list) else tasks

    @model_validator(mode="after")
    def _each_once(self) -> Study:
        for name in ("lengths", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice: {values}")
        for name in self.tasks:
            if name not in TASKS:
                raise ValueError(f"tasks has no {name}; it may have {', '.join(TASKS)}")
        return self


def _named(given: object, setting: str) -> object:
    """A list of texts, or texts by name, as settings by name."""
    if isinstance(given, list):
        given = {str(value): value for value in given}
    if not isinstance(given, dict):
        return given
    return {
        str(name): value if isinstance(value, dict) else {setting: str(value)}
        for name, value in given.items()
    }
