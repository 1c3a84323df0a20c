"""Masked image modeling: hide, predict, compare where the picture is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mimray.data.framing import Framing
from mimray.recipe import Recipe
from mimray.train.files import digests
from mimray.train.task import Rows

if TYPE_CHECKING:
    import torch

    from mimray.mim.learner import Learner
    from mimray.mim.model import MaskedImageModel
    from mimray.mim.step import MicroBatch
    from mimray.train.batches import Received
    from mimray.train.group import Trainer
    from mimray.train.job import Job
    from mimray.train.tasks.masked_validation import MaskedValidation


@dataclass
class Pretraining:
    """`mimray pretrain`; see `mimray.train.task.Task`."""

    recipe: Recipe
    kind: str = "pretrain"
    together: int = 1

    @cached_property
    def mask(self) -> dict[str, float]:
        """`hidden_ratio` and `average_distance` of the recipe's masks."""
        from mimray.mim.encoders import ENCODERS
        from mimray.mim.masks.statistics import statistics

        mask, model = self.recipe.mask, self.recipe.model
        patch = ENCODERS[model.encoder].patch
        return statistics(mask.strategy, model.image_size, mask.unit, patch, mask.ratio)._asdict()

    @cached_property
    def files(self) -> dict[str, str]:
        """What the target is made from."""
        target = self.recipe.target
        code = (target.module or "").rpartition(":")[0]
        names = [f for f in (target.file, code if code.endswith(".py") else None) if f]
        return digests("target.file", names)

    @property
    def about(self) -> dict[str, Any]:
        """The masks: losses do not compare over them."""
        return {"mask": self.mask}

    def lines(self) -> list[str]:
        """How much the masks hide."""
        hidden, distance = self.mask["hidden_ratio"], self.mask["average_distance"]
        return [f"masks: {hidden:.1%} hidden, AvgDist {distance:.1f} px"]

    def framing(self, training: bool) -> Framing:
        """Random crops and flips; for validation the centred square."""
        data, size = self.recipe.data, self.recipe.model.image_size
        if not training:
            return Framing(size, False, upright=data.upright)
        seed = self.recipe.run.seed
        return Framing(size, True, seed, data.crop_scale, data.crop_ratio, data.flip, data.upright)

    def build(self, fresh: bool) -> MaskedImageModel:
        """From nothing, for there is nothing before pre-training."""
        from mimray.mim.build import build_model

        return build_model(self.recipe)

    def optimizer(self, model: Learner) -> torch.optim.Optimizer:
        from mimray.optim import build_optimizer

        return build_optimizer(model, self.recipe.optim)

    def micro_batch(self, received: Received, epoch: int) -> MicroBatch:
        """Masks are drawn from (seed, row, epoch), on the device."""
        from mimray.mim.encoders import ENCODERS
        from mimray.mim.step import micro_batch

        patch = ENCODERS[self.recipe.model.encoder].patch
        return micro_batch(
            self.recipe, patch, received.images, received.rows, received.weight, epoch
        )

    def validation(self, job: Job, trainer: Trainer) -> MaskedValidation:
        """Held-out loss on fixed masks."""
        from mimray.train.tasks.masked_validation import MaskedValidation

        return MaskedValidation(self.recipe, job, trainer)

    def criterion(self, metrics: dict[str, float]) -> float:
        """The held-out loss."""
        return metrics["val/loss"]

    def final(self, rows: Rows) -> dict[str, float]:
        """The last validation."""
        found: dict[str, float] = {}
        for row in rows:
            found |= {name: value for name, value in row.items() if name.startswith("val/")}
        return found
