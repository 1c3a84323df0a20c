"""mimray's own checkpoints: the state of the model as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights.formats.official import DOWNSAMPLE
from mimray.weights.formats.protocol import Translated, Weights

_PARTS = {"encoder", "head", "target", "fc_norm", "classifier"}


class MimrayOwn:
    """`model.safetensors` of a run, or what `weights.load` was given by hand."""

    name = "mimray"

    def recognises(self, names: Collection[str]) -> bool:
        parts = {name.partition(".")[0] for name in names}
        return "encoder" in parts and parts <= _PARTS and f"encoder.{DOWNSAMPLE}" not in names

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        return Translated(dict(weights), {})

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        return dict(weights)
