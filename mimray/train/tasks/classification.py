"""End-to-end classification: a pre-trained encoder, or a fresh one, and a linear layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mimray.data.framing import Framing, evaluation_framing
from mimray.errors import UserError
from mimray.recipe import FinetuneRecipe
from mimray.train.task import Rows
from mimray.train.tasks.starting_weights import found_at, identities, load_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mimray.downstream.classifier import Classifier
    from mimray.mim.learner import Learner
    from mimray.mim.step import MicroBatch
    from mimray.train.batches import Received
    from mimray.train.group import Trainer
    from mimray.train.job import Job
    from mimray.train.tasks.accuracy import Accuracy
    from mimray.weights import LoadReport

SCORES = ("val/top1", "val/mean_per_class")
"""What classifications are compared by; with `_average` behind, those of the average of the weights."""


@dataclass
class Classification:
    """`mimray finetune`; see `mimray.train.task.Task`.

    `train_labels`, `val_labels`: the class of every row of the two sources, of `classes`.
    """

    recipe: FinetuneRecipe
    classes: int
    train_labels: np.ndarray
    val_labels: np.ndarray
    kind: str = "finetune"
    together: int = 2  # mixed with each other
    report: LoadReport | None = field(default=None, init=False, compare=False)
    """What became of the weights when a model was last filled with them."""

    @cached_property
    def files(self) -> dict[str, str]:
        """The weights that the encoder starts from."""
        return identities(self.recipe.model.weights)

    @property
    def about(self) -> dict[str, Any]:
        """How many classes there are, and where the weights come from: as asked, and as found."""
        weights = self.recipe.model.weights
        return {"classes": self.classes, "weights": weights, "weights_at": self.weights_at}

    @cached_property
    def weights_at(self) -> str | None:
        """The file or checkpoint that the weights are read from. Raises UserError for none."""
        try:
            return found_at(self.recipe.model.weights)
        except ValueError as error:
            raise UserError(f"model.weights: {error}") from None

    def lines(self) -> list[str]:
        """The same, and what loading the weights did, once it has been tried."""
        lines = [f"{self.classes} classes, from {self.weights_at or 'scratch'}"]
        if self.report is not None:
            from mimray.weights import bias_windows

            lines.append(f"weights: {str(self.report).splitlines()[0]}")
            if doubt := self.report.missing.get(bias_windows.NAME):
                lines.append(f"{bias_windows.NAME}: {doubt}; if not, set model.pretrained_windows")
        return lines

    def framing(self, training: bool) -> Framing:
        """Random crops, flips and RandAugment; for validation the centre."""
        data, size, seed = self.recipe.data, self.recipe.model.image_size, self.recipe.run.seed
        if not training:
            return evaluation_framing(size, data.upright)
        return Framing(
            size,
            True,
            seed,
            data.crop_scale,
            data.crop_ratio,
            data.flip,
            data.upright,
            interpolation="bicubic",
            randaugment=self.recipe.augment.randaugment,
        )

    def build(self, fresh: bool) -> Classifier:
        """The encoder's variant for fine-tuning, and a linear layer."""
        from mimray.mim.encoders.shortened import take_remaining

        model = self.recipe.model
        classifier = self._classifier(model.drop_layers)
        classifier.encoder.mask_token.requires_grad_(False)  # nothing is hidden: no gradient comes
        if fresh and model.weights is not None:
            whole = self._classifier(0) if model.drop_layers else classifier
            self.report = load_weights(whole, model.weights)
            if whole is not classifier:
                take_remaining(classifier, whole)
        return classifier

    def _classifier(self, drop_layers: int) -> Classifier:
        from mimray.downstream.classifier import Classifier
        from mimray.mim.encoders import build_encoder

        model = self.recipe.model
        encoder = build_encoder(
            model.encoder,
            model.image_size,
            model.window,
            model.drop_path,
            finetune=True,
            pretrained_windows=model.pretrained_windows,
            drop_layers=drop_layers,
            drop_from=model.drop_from,
        )
        return Classifier(encoder, self.classes)

    def optimizer(self, model: Learner) -> torch.optim.Optimizer:
        """AdamW with layer-wise decay of the learning rate, and the average of the weights and running
        statistics, if asked."""
        from mimray.mim.parallel import running_statistics
        from mimray.optim import build_optimizer, keep_average, layer_scales

        settings = self.recipe.optim
        scales = layer_scales(model.encoder, settings.layer_decay)
        optimizer = build_optimizer(model, settings, scales, finetune=True)
        if settings.average:
            statistics = running_statistics(model).values()
            keep_average(
                optimizer, settings.average, [s for s in statistics if s.is_floating_point()]
            )
        return optimizer

    def micro_batch(self, received: Received, epoch: int) -> MicroBatch:
        """Erased, mixed and smoothed, by a hash of (seed, row, epoch), on the device."""
        from mimray.downstream.erasing import erase
        from mimray.downstream.mixing import Mixing
        from mimray.hashing import key
        from mimray.mim.normalisation import normalise
        from mimray.mim.step import MicroBatch

        augment = self.recipe.augment
        seeds = key(self.recipe.run.seed, received.rows, epoch)
        labels = self.labels(received, self.train_labels)
        images = erase(normalise(received.images), augment.erasing, seeds)
        mixing = Mixing(self.classes, augment.mixup, augment.cutmix, augment.smoothing)
        images, targets = mixing(images, labels, seeds, received.weight)
        return MicroBatch(images, targets, seeds, received.weight)

    def labels(self, received: Received, of_rows: np.ndarray) -> Tensor:
        """The classes of what is seen: int64 (B,), 0 for padding."""
        return self._on(received.images.device, of_rows)[received.seen.clamp(min=0)].long()

    def _on(self, device: torch.device, of_rows: np.ndarray) -> Tensor:
        """All labels on a device, once."""
        import torch

        kept: dict[Any, Tensor] = self.__dict__.setdefault("_kept", {})
        name = (id(of_rows), device)
        if name not in kept:
            kept[name] = torch.from_numpy(of_rows).to(device)
        return kept[name]

    def validation(self, job: Job, trainer: Trainer) -> Accuracy:
        """Top-1 on the held-out pictures."""
        from mimray.train.tasks.accuracy import Accuracy

        return Accuracy(self, job, trainer)

    def criterion(self, metrics: dict[str, float]) -> float:
        """Errors of what the checkpoint gives to others: the average where there is one."""
        return 1.0 - metrics.get("val/top1_average", metrics["val/top1"])

    def final(self, rows: Rows) -> dict[str, float]:
        """The last epoch's figures, and beside its scores the best of any, which is what papers state."""
        found: dict[str, float] = {}
        for row in rows:
            found |= {name: value for name, value in row.items() if name.startswith("val/")}
        best = {}
        for name in [*SCORES, *(f"{score}_average" for score in SCORES)]:
            values = [row[name] for row in rows if row.get(name) is not None]
            if values:
                best[f"{name}_best"] = max(values)
        return found | best
