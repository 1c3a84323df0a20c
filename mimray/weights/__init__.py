"""Floor 1: other projects' checkpoints, read into mimray's models and written back."""

from mimray.weights import remap
from mimray.weights.architecture import Architecture, describe
from mimray.weights.formats import FORMATS, recognise
from mimray.weights.load import load
from mimray.weights.read import read
from mimray.weights.report import LoadReport

__all__ = [
    "FORMATS",
    "Architecture",
    "LoadReport",
    "describe",
    "load",
    "read",
    "recognise",
    "remap",
]
