"""A fine-tuning run's recipe: end-to-end classification from an encoder's weights, or from scratch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mimray.recipe.running import Optim, Schedule
from mimray.recipe.sections import Data, Model, Range, Section, Uri
from mimray.recipe.training import TrainingRecipe
from mimray.shares import share

SCRATCH = "scratch"


class FinetuneModel(Model):
    weights: Uri | None = None
    """What the encoder starts from (`--from`): a run of mimray, one of its checkpoints, a file of any
    project that `mimray weights inspect` knows, supervised:timm/NAME, of which the weights lie in
    Hugging Face's cache, or scratch. The verb wants it said, here or there."""
    pretrained_windows: tuple[int, ...] | None = None
    """SwinV2: the windows of each stage in pre-training, which scale its position bias."""
    drop_layers: int = Field(0, ge=0)
    """Last blocks of the encoder that are left out; of `weights` the others are loaded."""
    drop_from: Literal["last", "longest"] = "last"
    """Where they are counted from: the end of the last stage and on through those before it, of which
    each keeps a block, or the end of the longest stage alone."""

    @field_validator("weights", mode="before")
    @classmethod
    def _from_scratch(cls, weights: object) -> object:
        return None if weights == SCRATCH else weights

    @property
    def start_is_said(self) -> bool:
        """Whether somebody said what the encoder starts from, be it `scratch`: a default is no choice."""
        return "weights" in self.model_fields_set

    @model_validator(mode="after")
    def _drop_fits(self) -> FinetuneModel:
        if self.drop_from != "last" and not self.drop_layers:
            raise ValueError(
                f"drop_from={self.drop_from} is of drop_layers, which is 0; leave it out"
            )
        return self


class FinetuneData(Data):
    crop_scale: Range = (0.08, 1.0)
    """Random resized crop: share of the picture's area."""
    labels: str | None = None
    """Share of every class that is trained on, like 1% or 10%; of seed 0, and shares nest."""

    @field_validator("labels", mode="before")
    @classmethod
    def _share(cls, labels: object) -> object:
        text = str(labels)
        if labels is not None and not 0.0 < share(text) <= 1.0:
            raise ValueError(f"{labels} is not a share; write it like 10% or 0.1, above 0")
        return labels if labels is None else text


class Augment(Section):
    randaugment: str | None = "rand-m9-mstd0.5-inc1"
    """In timm's notation."""
    mixup: float = Field(0.8, ge=0.0)
    """Two pictures as one, in shares of a beta distribution with this parameter; 0 for none."""
    cutmix: float = Field(1.0, ge=0.0)
    """A rectangle of one picture in another, likewise; where both are on, half of the pairs each."""
    erasing: float = Field(0.25, ge=0.0, le=1.0)
    """Probability that a rectangle is erased."""
    smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    """Label smoothing."""


class FinetuneOptim(Optim):
    lr: float = Field(5e-3, gt=0.0)
    """Peak learning rate of the last layer at this batch."""
    layer_decay: float = Field(0.9, gt=0.0, le=1.0)
    """Learning rate of a layer / that of the next."""
    average: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay, an update, of an exponential moving average of the weights, which is then evaluated besides;
    0 for none."""


class FinetuneRecipe(TrainingRecipe):
    """All settings of a fine-tuning run. Source of the defaults: SimMIM `configs/*finetune*`."""

    results: ClassVar = ("task", "model", "data", "augment", "optim", "schedule")
    unless_default: ClassVar = {"model": ("drop_layers", "drop_from")}

    task: Literal["classify"]
    model: FinetuneModel = FinetuneModel()
    data: FinetuneData = FinetuneData()
    augment: Augment = Augment()
    optim: FinetuneOptim = FinetuneOptim()
    schedule: Schedule = Schedule(length="100ep", warmup="20ep")
