"""The albumentations pipeline of an augmentation; the only file that imports albumentations.

It takes about a second to import, so `mimray.data.augment` does that when it first needs one. Its
license is MIT; its successor AlbumentationsX is AGPL and is not used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import albumentations as A
import numpy as np

from mimray.data.augment import Augmentation, Mask
from mimray.data.view import View


class Lay(A.DualTransform):
    """Lays picture, masks, boxes and keypoints on the frame as the data's `view` says.

    One geometric transform of our own, because albumentations' resize without antialiasing, and
    place keypoints half a pixel apart in a flip or a rotation (which count from the first pixel's
    centre) and in a resize (which counts from its corner).
    """

    def __init__(self, fill: tuple[int, int, int]) -> None:
        super().__init__(p=1.0)
        self.colour = fill  # `fill` has a meaning of its own in the base class

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """Our own masks are `planes`: albumentations would stack them, to one type and one fill."""
        return {
            "image": self.apply,
            "planes": self.apply_to_planes,
            "bboxes": self.apply_to_bboxes,
            "keypoints": self.apply_to_keypoints,
        }

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        return {"view": data["view"]}

    def apply(self, img: np.ndarray, view: View, **_: Any) -> np.ndarray:
        return view.image(img, self.colour)

    def apply_to_planes(self, planes: list[Mask], view: View, **_: Any) -> list[Mask]:
        return [Mask(view.plane(mask.values, mask.fill), mask.fill) for mask in planes]

    def apply_to_bboxes(self, bboxes: np.ndarray, view: View, **_: Any) -> np.ndarray:
        pixels = bboxes[:, :4] * np.tile(view.picture[::-1], 2)  # theirs are shares of the sides
        laid = view.boxes(pixels) / np.tile(view.size[::-1], 2)
        return np.column_stack([laid, bboxes[:, 4:]])

    def apply_to_keypoints(self, keypoints: np.ndarray, view: View, **_: Any) -> np.ndarray:
        return np.column_stack([view.points(keypoints[:, :2]), keypoints[:, 2:]])


def _build(augmentation: Augmentation) -> A.Compose:
    colour = augmentation.colour
    jitter = (colour.brightness, colour.contrast, colour.saturation, colour.hue)
    transforms: list[A.BasicTransform] = [Lay(augmentation.fill)]
    if any(jitter) and colour.p:
        transforms.append(A.ColorJitter(*jitter, p=colour.p))
    if augmentation.grey:
        transforms.append(A.ToGray(p=augmentation.grey))
    if augmentation.blur:
        transforms.append(A.GaussianBlur(0, augmentation.blur_sigma, p=augmentation.blur))
    return A.Compose(
        transforms,
        bbox_params=A.BboxParams(
            "pascal_voc",
            min_visibility=augmentation.min_visible,
            min_width=1.0,
            min_height=1.0,
            clip=True,
            filter_invalid_bboxes=True,
            check_each_transform=False,
        ),
        keypoint_params=A.KeypointParams("xy", remove_invisible=False),
    )


class _Pipelines(threading.local):
    """Each thread's own: a pipeline holds its random state, and takes 1.5 ms to build."""

    def __init__(self) -> None:
        self.of = lru_cache(maxsize=16)(_build)


_PIPELINES = _Pipelines()


def pipeline(augmentation: Augmentation) -> A.Compose:
    """This thread's pipeline of an augmentation; seed it before every call."""
    return _PIPELINES.of(augmentation)
