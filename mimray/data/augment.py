"""Augmentation for the supervised side, through albumentations: pictures, boxes, masks, keypoints.

What a sample becomes is a pure function of (sample, seed, row, epoch), as for the crops of
pre-training; neither NumPy's nor Python's global random state is read or changed. Coordinates are
continuous (see `mimray.data.view`): add 0.5 to annotations that name pixels, as COCO's keypoints do.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mimray.data.crop import random_crop
from mimray.data.view import Placement, View, lay
from mimray.errors import UserError
from mimray.hashing import Purpose, key, uniform

_CROP_DRAWS = 41  # what random_crop takes
_DRAWS = _CROP_DRAWS + 6
_MASK64 = 2**64 - 1
_BASES = ("contain", "cover", "native")


@dataclass(frozen=True)
class ResizedCrop:
    """Random resized crop: a share of the picture's area, of width / height in `ratio`, as the frame."""

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class ScaleJitter:
    """Scale the picture, keeping its aspect ratio, then cut or pad it to the frame.

    At scale 1 the picture lies just inside the frame ("contain"), just covers it ("cover") or keeps
    its pixels ("native"). What is too large is cut at a random place; what is too small lies at the
    top left. Of a sample with a `region`, that takes the picture's part and lies in the middle.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    base: Literal["contain", "cover", "native"] = "contain"


@dataclass(frozen=True)
class Colour:
    """Colour jitter as torchvision's: factors within 1 +- the first three, hue within +- of 1."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    p: float = 1.0


@dataclass(frozen=True)
class Augmentation:
    """What is done to a sample; by default it is only brought to `size`.

    `flip`, `vertical_flip`, `rotate_p`, `grey` and `blur` are probabilities. Raises UserError for a
    value out of its range.
    """

    size: tuple[int, int]  # height, width, pixels
    crop: ResizedCrop | ScaleJitter = ScaleJitter()
    flip: float = 0.0
    vertical_flip: float = 0.0
    rotate: float = 0.0  # degrees, either way, about the middle of what is shown
    rotate_p: float = 1.0
    colour: Colour = Colour()
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the frame
    fill: tuple[int, int, int] = (124, 116, 104)  # RGB; ImageNet's mean, 0 once normalised
    min_visible: float = 0.0  # boxes of which a smaller share of the area can be seen are dropped

    def __post_init__(self) -> None:
        for name in ("flip", "vertical_flip", "rotate_p", "grey", "blur"):
            _check(f"augment.{name}", getattr(self, name), 0, 1)
        _check("augment.size", self.size, 8, 2**15)
        _check("augment.min_visible", self.min_visible, 0, 0.99)
        _check("augment.rotate", self.rotate, 0, 180)
        _check("augment.blur_sigma", self.blur_sigma, 0.01, 100)
        _check("augment.fill", self.fill, 0, 255)
        if isinstance(self.crop, ResizedCrop):
            _check("augment.crop.scale", self.crop.scale, 1e-4, 1)
            _check("augment.crop.ratio", self.crop.ratio, 0.01, 100)
        else:
            _check("augment.crop.scale", self.crop.scale, 1e-2, 100)
            if self.crop.base not in _BASES:
                raise UserError(
                    f"augment.crop.base: {self.crop.base!r} is none of {', '.join(_BASES)}"
                )
        for name, high in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            _check(f"augment.colour.{name}", getattr(self.colour, name), 0, high)
        _check("augment.colour.p", self.colour.p, 0, 1)


def _check(name: str, value: float | tuple[float, ...], low: float, high: float) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(low <= number <= high for number in numbers):
        raise UserError(f"{name}: {value} does not lie in {low:g} to {high:g}")
    if name.endswith(("scale", "ratio", "sigma")) and numbers[0] > numbers[-1]:
        raise UserError(f"{name}: {value} is not (low, high)")


@dataclass(frozen=True, eq=False)
class Mask:
    """Values of any type, (H, W), of which none are mixed; `fill` stands outside the picture.

    Classes with the ignored index, or a depth with 0, as `fill`.
    """

    values: np.ndarray
    fill: float


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled picture. Raises ValueError for labels whose shapes do not fit."""

    image: np.ndarray  # uint8 (H, W, 3)
    boxes: np.ndarray | None = None  # float (n, 4): left, top, right, bottom, pixels
    box_labels: np.ndarray | None = None  # (n, ...), whatever goes with the boxes
    masks: tuple[Mask, ...] = ()
    keypoints: np.ndarray | None = None  # float (k, 3): x, y in pixels, and 0 where not visible
    flip_pairs: tuple[tuple[int, int], ...] = ()  # keypoints that change names in a mirror
    region: tuple[float, float, float, float] | None = None  # a box to look at, for ScaleJitter

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image: {self.image.dtype} {self.image.shape} is not uint8 (H, W, 3)")
        for name, width in (("boxes", 4), ("keypoints", 3)):
            value = getattr(self, name)
            if value is not None and (value.ndim != 2 or value.shape[1] != width):
                raise ValueError(f"{name}: {value.shape} is not (n, {width})")
            if value is not None and not np.isfinite(value).all():
                raise ValueError(f"{name}: not all are finite")
        if self.boxes is not None and (self.boxes[:, 2:] < self.boxes[:, :2]).any():
            raise ValueError("boxes: not all are left, top, right, bottom")
        if self.box_labels is not None and (
            self.boxes is None or len(self.box_labels) != len(self.boxes)
        ):
            raise ValueError("box_labels: not as many as boxes")
        if self.region is not None:
            left, top, right, bottom = self.region
            height, width = self.image.shape[:2]
            inside = 0 < left + right < 2 * width and 0 < top + bottom < 2 * height
            if not (left < right and top < bottom and inside):
                raise ValueError(f"region: {self.region} is no box with its middle in the picture")
        points = 0 if self.keypoints is None else len(self.keypoints)
        if any(not 0 <= point < points for pair in self.flip_pairs for point in pair):
            raise ValueError(f"flip_pairs: {self.flip_pairs} of {points} keypoints")
        for mask in self.masks:
            if mask.values.shape != self.image.shape[:2]:
                raise ValueError(f"mask: {mask.values.shape} is not {self.image.shape[:2]}")
            if not np.array_equal(np.asarray(mask.fill).astype(mask.values.dtype), mask.fill, True):
                raise ValueError(f"mask: no fill {mask.fill} in {mask.values.dtype}")


def apply(augmentation: Augmentation, sample: Sample, seed: int, row: int, epoch: int) -> Sample:
    """The augmented sample, of the frame's size, sharing no memory with `sample`.

    Boxes (float32) are clipped to the frame; those of which less than `min_visible` or less than a
    pixel a side is left are dropped, with their labels. Of keypoints (float32) outside the frame the
    third column becomes 0.
    """
    from mimray.data.transforms import pipeline  # albumentations is slow to import

    numbers = key(key(Purpose.AUGMENT, seed, row, epoch), np.arange(_DRAWS + 2))
    view = _draw_view(augmentation, sample, uniform(numbers[:_DRAWS]))
    transforms = pipeline(augmentation)
    # Not set_random_seed: it starts every transform at the same number, which couples their draws.
    first, second = (int(number) & _MASK64 for number in numbers[_DRAWS:])
    transforms.set_random_state(np.random.default_rng(first), random.Random(second))  # noqa: S311
    data: dict[str, Any] = {"image": sample.image, "planes": sample.masks, "view": view}
    if sample.boxes is not None:
        data["bboxes"] = np.column_stack([sample.boxes, np.arange(len(sample.boxes))])
    if sample.keypoints is not None:
        data["keypoints"] = sample.keypoints
    data = transforms(**data)
    image = data["image"]
    if len(transforms) > 1 and not view.full:  # colours have changed the padding too
        image[view.outside] = augmentation.fill
    boxes, labels = _boxes(sample, data.get("bboxes"))
    return replace(
        sample,
        image=image,
        boxes=boxes,
        box_labels=labels,
        masks=tuple(data["planes"]),
        keypoints=_keypoints(sample, data.get("keypoints"), view),
        region=None,
    )


def _boxes(sample: Sample, found: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The boxes that are left, and their labels; the fifth column says which ones they are."""
    if found is None:
        return None, None
    kept = found[:, 4].astype(np.int64) if len(found) else np.zeros(0, np.int64)
    labels = None if sample.box_labels is None else sample.box_labels[kept]
    return found[:, :4].astype(np.float32), labels


def _keypoints(sample: Sample, found: np.ndarray | None, view: View) -> np.ndarray | None:
    """Points outside are not visible; in a mirror, left and right change places."""
    if found is None:
        return None
    points = found.astype(np.float32).reshape(-1, 3)
    outside = (points[:, :2] < 0) | (points[:, :2] > (view.size[1], view.size[0]))
    points[outside.any(axis=1), 2] = 0
    if view.mirror[0] != view.mirror[1]:
        for left, right in sample.flip_pairs:
            points[[left, right]] = points[[right, left]]
    return points


def _draw_view(augmentation: Augmentation, sample: Sample, draw: np.ndarray) -> View:
    height, width = sample.image.shape[:2]
    size, crop = augmentation.size, augmentation.crop
    flip, vertical, turned, angle, *rest = draw[_CROP_DRAWS - 1 :]
    if isinstance(crop, ResizedCrop):
        if sample.region is not None:
            raise ValueError("region: only ScaleJitter takes one")
        box = random_crop(height, width, crop.scale, crop.ratio, 0.0, draw[:_CROP_DRAWS])
        scale_y, scale_x = size[0] / box.height, size[1] / box.width
        move_x, move_y = -box.left * scale_x, -box.top * scale_y
        place = Placement(scale_x, scale_y, move_x, move_y, size[1] / 2, size[0] / 2)
    else:
        place = _jitter(crop, size, (height, width), sample.region, rest)
    degrees = augmentation.rotate * (2 * angle - 1) if turned < augmentation.rotate_p else 0.0
    mirror = bool(vertical < augmentation.vertical_flip), bool(flip < augmentation.flip)
    return lay((height, width), size, place, degrees, mirror)


def _jitter(
    crop: ScaleJitter,
    size: tuple[int, int],
    picture: tuple[int, int],
    region: tuple[float, float, float, float] | None,
    draw: list[float],
) -> Placement:
    """Where a picture lies whose scale is drawn; `draw`: scale, and place along y and x."""
    left, top, right, bottom = region or (0.0, 0.0, picture[1], picture[0])
    fits = size[0] / (bottom - top), size[1] / (right - left)
    base = {"contain": min(fits), "cover": max(fits), "native": 1.0}[crop.base]
    scale = base * (crop.scale[0] + (crop.scale[1] - crop.scale[0]) * draw[0])
    if region:
        x, y = size[1] / 2, size[0] / 2
        move_x, move_y = x - scale * (left + right) / 2, y - scale * (top + bottom) / 2
        return Placement(scale, scale, move_x, move_y, x, y)
    height, width = (max(1, round(side * scale)) for side in picture)
    move_y = -int(draw[1] * (max(0, height - size[0]) + 1))
    move_x = -int(draw[2] * (max(0, width - size[1]) + 1))
    x, y = min(width, size[1]) / 2, min(height, size[0]) / 2  # the middle of what is shown
    return Placement(width / picture[1], height / picture[0], move_x, move_y, x, y)
