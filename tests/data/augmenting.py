"""Pictures with labels, augmentations to try on them, and how results are compared."""

import hashlib

import numpy as np
from hypothesis import strategies as st

from mimray.data.augment import Augmentation, Colour, Mask, ResizedCrop, Sample, ScaleJitter, apply

SEEDS = st.integers(0, 2**40)
COLOUR = Colour(0.4, 0.4, 0.4, 0.1)
EVERYTHING = Augmentation(
    (80, 112),
    ScaleJitter((0.3, 2.0), "cover"),
    flip=0.5,
    vertical_flip=0.3,
    rotate=40,
    rotate_p=0.5,
    colour=COLOUR,
    grey=0.2,
    blur=0.5,
)
GEOMETRIES = [
    Augmentation((64, 96), ResizedCrop(), flip=0.5, vertical_flip=0.5),
    Augmentation((96, 96), ScaleJitter((0.1, 2.0)), flip=0.5),
    Augmentation((64, 64), ScaleJitter((0.5, 2.0), "cover"), flip=0.5, vertical_flip=0.5),
    Augmentation((48, 64), ScaleJitter((1.0, 1.0), "native"), flip=0.5),
    Augmentation((96, 72), ScaleJitter((0.5, 1.5)), flip=0.5, rotate=45),
    Augmentation((72, 96), ResizedCrop((0.3, 1.0)), flip=0.5, vertical_flip=0.5, rotate=180),
]


def labelled(picture, seed=0, boxes=6, points=5):
    """A picture with boxes, a mask of classes, a depth, and keypoints drawn at random."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    corners = np.sort(rng.random((boxes, 2, 2)) * (width, height), axis=1)
    xy = rng.random((points, 2)) * (width, height)
    return Sample(
        picture,
        boxes=corners.reshape(-1, 4).astype(np.float32),
        box_labels=np.arange(boxes) + 100,
        masks=(
            Mask((picture[..., 0] // 32).astype(np.uint8), 255),
            Mask(rng.random((height, width)).astype(np.float32) + 1, 0.0),
        ),
        keypoints=np.hstack([xy, np.full((points, 1), 2)]).astype(np.float32),
        flip_pairs=((0, 1), (2, 4)),
    )


def arrays(sample):
    found = [sample.image, sample.boxes, sample.box_labels, sample.keypoints]
    return [a for a in found if a is not None] + [m.values for m in sample.masks]


def digest(sample):
    parts = [f"{a.dtype}{a.shape}".encode() + a.tobytes() for a in arrays(sample)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def same(left, right):
    return digest(left) == digest(right)


def many(numbers):
    """What rows `numbers` become, some under other settings."""
    out = {}
    for row in numbers:
        picture = np.random.default_rng(row).integers(0, 256, (60, 50, 3), dtype=np.uint8)
        augmentation = GEOMETRIES[row % 6] if row % 2 else EVERYTHING
        out[row] = digest(apply(augmentation, labelled(picture, row), 7, row, row % 3))
    return out
