"""RandAugment (Cubuk et al., arXiv 1909.13719): timm's own, as a function of (seed, row, epoch).

timm draws from Python's and NumPy's global generators, which other threads draw from too. So each
thread runs a copy of timm's module that has generators of its own, seeded before every picture: the
same pixels as timm's after `random.seed` and `numpy.random.seed`.
"""

from __future__ import annotations

import importlib.util
import random
import re
import threading
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
from PIL import Image, ImageOps

from mimray.hashing import Purpose, key

_SECTION = re.compile(
    r"(m)\d+|(n)[1-9]|(p)(?:0(?:\.\d+)?|1)|(mstd)\d+(?:\.\d+)?|(mmax)[1-9]\d*|(inc)[01]"
    r"|(t)(?:weights|3aw?)"
)
_MEAN = (124, 116, 104)  # ImageNet's in bytes, laid where a picture is moved away
_TRANSLATION = 0.45  # of the frame's side
_MASK32 = 2**32 - 1  # NumPy's seeds are no larger


def check(notation: str) -> None:
    """Raise ValueError for what timm would ignore, or fail on at some picture."""
    first, *sections = notation.split("-")
    found = [_SECTION.fullmatch(section) for section in sections]
    names = [match[match.lastindex or 0] if match else None for match in found]
    wrong = next((s for s, name in zip(sections, names, strict=True) if name is None), None)
    if first != "rand":
        reason = f"it starts with {first!r}, not with 'rand'"
    elif wrong is not None:
        reason = f"{wrong!r} is none of m9, n2, p0.5, mstd0.5, mmax10, inc1, tweights"
    elif len(set(names)) < len(names):
        reason = "a part stands in it twice"
    else:
        return
    raise ValueError(
        f"augment.randaugment={notation!r}: {reason}; an example is rand-m9-mstd0.5-inc1"
    )


def rand_augment(
    picture: np.ndarray, notation: str, interpolation: str, seed: int, row: int, epoch: int
) -> np.ndarray:
    """Apply RandAugment to uint8 (S, S, 3), cut and mirrored already: uint8 (S, S, 3).

    `notation` is one that `check` lets pass; `interpolation`, of what is turned or sheared,
    "bilinear" or "bicubic".
    """
    numbers = key(key(Purpose.AUGMENT, seed, row, epoch), np.arange(2))
    transform = _OWN.transform(notation, interpolation, min(picture.shape[:2]))
    _OWN.draws.seed(int(numbers[0]) & _MASK32)
    _OWN.choices.seed(int(numbers[1]) & _MASK32)
    return np.asarray(transform(Image.fromarray(picture)))


class _Own(threading.local):
    """Each thread's copy of timm's module, its generators, and the transforms that it has built."""

    def __init__(self) -> None:
        self.draws = random.Random()  # noqa: S311
        self.choices = np.random.RandomState()
        self.transform = lru_cache(maxsize=16)(self._build)

    @cached_property
    def timm(self) -> ModuleType:
        module = _copy_of_timm()
        vars(module)["random"] = self.draws
        vars(module)["np"] = SimpleNamespace(**vars(np) | {"random": self.choices})
        vars(module)["ImageOps"] = SimpleNamespace(**vars(ImageOps) | {"posterize": _posterize})
        return module

    def _build(
        self, notation: str, interpolation: str, size: int
    ) -> Callable[[Image.Image], Image.Image]:
        """With the constants that timm's `create_transform` sets (`transforms_factory.py`)."""
        constants = {
            "translate_const": int(size * _TRANSLATION),
            "img_mean": _MEAN,
            "interpolation": Image.Resampling[interpolation.upper()],
        }
        return self.timm.rand_augment_transform(notation, constants)


def _copy_of_timm() -> ModuleType:
    """timm's `data/auto_augment.py`, run from its file: importing timm takes 1.7 s and 200 MB."""
    package = importlib.util.find_spec("timm")
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "data" / "auto_augment.py"
    spec = importlib.util.spec_from_file_location("timm.data.auto_augment", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    """Pillow's; without bits black, as older versions made it, where Pillow 13 raises ValueError.

    timm asks for no bits at the highest level: of about one picture in 650 of SimMIM's fine-tuning.
    """
    return ImageOps.posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


_OWN = _Own()
