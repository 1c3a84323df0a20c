"""Classification: which of some classes stands at a position, by the cross entropy."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from mimray.mim.targets.protocol import Target


class Classification(Target):
    """A target of class numbers, int64 (B, values, h, w).

    A prediction holds the logits of all values of the first class, then of the second, and so on.
    What is visible is no prediction of a class, so there are no fills to compare with.
    """

    fills: ClassVar[bool] = False

    def __init__(self, classes: int, values: int, pixel: int) -> None:
        super().__init__()
        self.classes, self.values, self.pixel = classes, values, pixel
        self.outputs = classes * values

    def logits(self, prediction: Tensor) -> Tensor:
        """(B, outputs, h, w) -> (B, classes, values, h, w), in place."""
        return prediction.unflatten(1, (self.classes, self.values))

    def error(self, prediction: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(self.logits(prediction), target, reduction="none").sum(dim=1)
