"""What an analysis is made of: models, pictures, and the diagnostic of one model or across two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mimray.data.framing import Framing, evaluation_framing
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.evaluate.checkpoint import Checkpoint
from mimray.evaluate.diagnosis_kinds import Kind, Options
from mimray.evaluate.diagnosis_shards import encoder_of

if TYPE_CHECKING:
    from mimray.analysis.diagnostic import Diagnostic


class Model(NamedTuple):
    """A checkpoint under the name that figures and tables have for it."""

    label: str
    checkpoint: Checkpoint


class Pictures(NamedTuple):
    """`rows` of a source, int64, `batch` of them a forward pass. `data`, `split`: how it was named."""

    source: Source
    rows: np.ndarray
    batch: int
    data: str
    split: str


@dataclass(frozen=True, eq=False)
class Part:
    """A diagnostic of one model, or across two."""

    kind: Kind
    models: tuple[Model, ...]
    options: Options

    @property
    def label(self) -> str:
        """Who is looked at, for people."""
        return f"--from {' and '.join(model.checkpoint.weights for model in self.models)}"

    @property
    def framing(self) -> Framing:
        """As classification is validated."""
        return evaluation_framing(self.models[0].checkpoint.image_size)

    def build(self, device: str) -> Diagnostic:
        """With sums of nothing yet. Raises UserError where the encoders do not have it."""
        encoders = [encoder_of(model.checkpoint, device) for model in self.models]
        try:
            return self.kind.build(encoders, self.options)
        except ValueError as error:
            raise UserError(f"{self.label}: {error}") from None


def one_size(models: tuple[Model, ...]) -> bool:
    """Whether they take the same pictures."""
    return len({model.checkpoint.image_size for model in models}) == 1
