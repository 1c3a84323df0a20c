"""Photos that the benchmarks of the data path share, and the transform they stand beside."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

from benchmarks._report import machine
from mimray.data.crop import Crop

DEFAULT = Path(__file__).parents[1] / "../shared/data/photos_hi/images"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # timm's IMAGENET_DEFAULT_MEAN and _STD


def read_pictures(folder: str | None = None) -> list[bytes] | None:
    """Bytes of all JPEGs below a folder, in order of path; None where the default one is missing."""
    root = Path(folder) if folder else DEFAULT
    if not folder and not root.is_dir():
        return None
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        sys.exit(f"no JPEG below {root}: name a folder of photos with --images")
    return [path.read_bytes() for path in paths]


def skipped(name: str, as_json: bool) -> None:
    """Say that there are no pictures to measure on."""
    reason = "no pictures: name a folder of JPEGs with --images"
    if as_json:
        print(json.dumps({"name": name, "machine": machine(), "skipped": reason}))
    else:
        print(f"{name} skipped, {reason}")


class MemorySource:
    """What `mimray.data.load.load_block` reads, from memory; rows go round."""

    def __init__(self, pictures: list[bytes]) -> None:
        self.pictures = pictures

    def read(self, rows: np.ndarray) -> list[bytes]:
        """Bytes of some rows."""
        return [self.pictures[row % len(self.pictures)] for row in rows.tolist()]


class _CropAt(T.RandomResizedCrop):
    """Draws as its parent does, at the parent's cost, but cuts `box` where one is set."""

    box: Crop | None = None

    def get_params(self, img, scale, ratio):  # noqa: ANN001, ANN202
        drawn = T.RandomResizedCrop.get_params(img, scale, ratio)
        return self.box[:4] if self.box else drawn


class SimmimTransform:
    """From a file's bytes to what SimMIM trains on: float32 (3, size, size), normalised.

    The steps of microsoft/SimMIM, `data/data_simmim.py`, after torchvision's `pil_loader`.
    """

    def __init__(self, size: int, scale: tuple[float, float]) -> None:
        self.crop, self.flip = _CropAt(size, scale, (3 / 4, 4 / 3)), T.RandomHorizontalFlip()
        self.steps = T.Compose(
            [
                T.Lambda(lambda image: image.convert("RGB") if image.mode != "RGB" else image),
                *(self.crop, self.flip),
                *(T.ToTensor(), T.Normalize(MEAN, STD)),
            ]
        )

    def __call__(self, data: bytes) -> Tensor:
        return self.steps(Image.open(io.BytesIO(data)).convert("RGB"))

    def at(self, data: bytes, crop: Crop) -> Tensor:
        """The same with a given box and flip instead of those drawn."""
        self.crop.box, self.flip.p = crop, float(crop.flip)
        return self(data)


def simmim_transform(size: int, scale: tuple[float, float]) -> SimmimTransform:
    """SimMIM's own transform, its boxes and flips from torch's generator."""
    return SimmimTransform(size, scale)
