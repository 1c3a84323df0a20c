"""A fine-tuning run's recipe: end-to-end classification from a pre-trained encoder."""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import Field

from mimray.recipe.running import Optim, Run, Schedule, Speed
from mimray.recipe.sections import NAME, Data, Model, Range, Section


class FinetuneModel(Model):
    pretrained_windows: tuple[int, ...] | None = None
    """SwinV2: the windows of each stage in pre-training, which scale its position bias."""


class FinetuneData(Data):
    crop_scale: Range = (0.08, 1.0)
    """Random resized crop: share of the picture's area."""


class Augment(Section):
    randaugment: str | None = "rand-m9-mstd0.5-inc1"
    """In timm's notation."""
    mixup: float = Field(0.8, ge=0.0)
    cutmix: float = Field(1.0, ge=0.0)
    erasing: float = Field(0.25, ge=0.0, le=1.0)
    """Probability that a rectangle is erased."""
    smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    """Label smoothing."""


class FinetuneOptim(Optim):
    lr: float = Field(5e-3, gt=0.0)
    """Peak learning rate of the last layer at this batch."""
    layer_decay: float = Field(0.9, gt=0.0, le=1.0)
    """Learning rate of a layer / that of the next."""


class FinetuneRecipe(Section):
    """All settings of a fine-tuning run. Source of the defaults: SimMIM `configs/*finetune*`."""

    name: str = Field("finetune", pattern=NAME)
    task: Literal["classify"]
    model: FinetuneModel = FinetuneModel()
    data: FinetuneData = FinetuneData()
    augment: Augment = Augment()
    optim: FinetuneOptim = FinetuneOptim()
    schedule: Schedule = Schedule(length="100ep", warmup="20ep")
    run: Run = Run()
    speed: Speed = Speed()

    def to_yaml(self) -> str:
        """All settings, resolved, as YAML that reads back the same."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
