"""Floor 1: what a trained model does inside, in plain PyTorch; a diagnostic to a file."""

from mimray.analysis.cka import cka
from mimray.analysis.statistics import (
    attention_distance,
    attention_entropy,
    head_divergence,
)

__all__ = ["attention_distance", "attention_entropy", "cka", "head_divergence"]
