"""Accuracies on the held-out pictures, of the weights and of their average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from mimray.errors import RunFailed
from mimray.mim.normalisation import normalise
from mimray.mim.step import autocast, sum_over_ranks
from mimray.optim.average import averaged
from mimray.train.group import Trainer
from mimray.train.held_out import HeldOut
from mimray.train.job import Job
from mimray.train.tasks.classification import SCORES

if TYPE_CHECKING:
    from mimray.downstream.classifier import Classifier
    from mimray.train.tasks.classification import Classification


class Accuracy:
    """This rank's share of the held-out pictures; `run` is called by all ranks together."""

    def __init__(self, task: Classification, job: Job, trainer: Trainer) -> None:
        self.task, self.trainer = task, trainer
        self.pictures = HeldOut(job, trainer)
        self.damaged = self.pictures.damaged

    @torch.no_grad()
    def run(self, model: Classifier, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """`val/loss` (cross entropy), `val/top1`, `val/mean_per_class` (the mean of the classes' own
        accuracies), and with more than 5 classes `val/top5`; where the run keeps an average of its
        weights, which is what its checkpoints give to others, that one's `val/top1_average` and
        `val/mean_per_class_average` too."""
        found = self._measure(model)
        if self.task.recipe.optim.average:
            with averaged(model, optimizer):
                of_average = self._measure(model)
            for name in SCORES:
                found[f"{name}_average"] = of_average[name]
        return found

    def _measure(self, model: Classifier) -> dict[str, float]:
        device = self.trainer.device
        sums = torch.zeros(2, dtype=torch.float64, device=device)  # top-5, loss
        # right ones and all, of every class
        counts = torch.zeros(2, self.task.classes, dtype=torch.float64, device=device)
        model.eval()
        for received in self.pictures:
            labels = self.task.labels(received, self.task.val_labels)
            with autocast(device, self.trainer.bf16):
                logits = model.logits(normalise(received.images)).float()
            best = logits.topk(min(5, self.task.classes), dim=1).indices == labels[:, None]
            loss = F.cross_entropy(logits, labels, reduction="none")
            weight = received.weight.double()
            sums += torch.stack([(best.any(dim=1) * weight).sum(), (loss * weight).sum()])
            counts.index_add_(1, labels, torch.stack([best[:, 0] * weight, weight]))
        model.train()
        right, of = sum_over_ranks(counts, self.trainer.ranks)
        five, loss = sum_over_ranks(sums, self.trainer.ranks)
        count = of.sum()
        if not count:
            raise RunFailed("none of the validation pictures can be read (named in run.json)")
        found = {
            "val/loss": float(loss / count),
            "val/top1": float(right.sum() / count),
            "val/mean_per_class": float((right / of)[of > 0].mean()),
        }
        return found | ({"val/top5": float(five / count)} if self.task.classes > 5 else {})

    def picture(self, model: Any) -> None:
        """None: a classifier draws nothing."""
