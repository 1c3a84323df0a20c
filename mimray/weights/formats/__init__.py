"""Formats by name: how each project names the weights in its checkpoints.

A format stands in one file; adding one adds the file and its line here.
"""

from __future__ import annotations

from collections.abc import Collection

from mimray.weights.formats.beit import Beit
from mimray.weights.formats.dino import Dino
from mimray.weights.formats.huggingface import HuggingFace
from mimray.weights.formats.mae import Mae
from mimray.weights.formats.mimray_own import MimrayOwn
from mimray.weights.formats.moco import Moco
from mimray.weights.formats.official import Official
from mimray.weights.formats.protocol import Format, Translated, Weights
from mimray.weights.formats.timm import TimmFormat

__all__ = ["FORMATS", "Format", "Translated", "Weights", "recognise"]

_IN_ORDER: tuple[Format, ...] = (
    MimrayOwn(),
    Official(),
    HuggingFace(),
    Moco(),
    Dino(),
    Mae(),
    Beit(),
    TimmFormat(),
)
FORMATS: dict[str, Format] = {form.name: form for form in _IN_ORDER}
"""Asked in this order; the first that recognises a file reads it."""


def recognise(names: Collection[str]) -> Format:
    """The format of a file with these names of weights. Raises ValueError where none knows them."""
    for form in FORMATS.values():
        if form.recognises(names):
            return form
    shown = ", ".join(sorted(names)[:4])
    raise ValueError(
        f"the names of the weights ({shown}, ...) are those of no project that is known: "
        f"{', '.join(FORMATS)}"
    )
