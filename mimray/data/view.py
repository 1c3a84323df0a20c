"""Where a frame's pixels come from: one map for a picture, its masks, its boxes and its keypoints.

Coordinates are continuous: the pixel in row i and column j covers [j, j + 1) x [i, i + 1), so its
centre is (j + 0.5, i + 0.5) and a picture of width w spans [0, w]. A picture is scaled and moved
first, then turned, then the frame is mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mimray.data.crop import rescale


class Rectangle(NamedTuple):
    """Whole pixels: rows top .. bottom - 1, columns left .. right - 1."""

    top: int
    left: int
    bottom: int
    right: int


class Placement(NamedTuple):
    """How a picture is scaled and moved, frame x = scale_x * x + move_x and so for y, then turned.

    It is turned about (`centre_x`, `centre_y`), a point of the frame that shows the picture.
    """

    scale_x: float
    scale_y: float
    move_x: float
    move_y: float
    centre_x: float
    centre_y: float


@dataclass(frozen=True, eq=False)
class View:
    """A part of a picture on a frame of `size` (height, width).

    `matrix`: float64 (2, 3), picture coordinates to frame coordinates, before the mirrors. Where
    nothing is turned, the rectangle `source` of the picture is laid onto `target` of the frame, both
    in whole pixels, and the matrix is what that makes of it; else `source` is all that can be seen.
    `mirror`: whether (rows, columns) are reversed.
    """

    picture: tuple[int, int]
    size: tuple[int, int]
    source: Rectangle
    target: Rectangle
    matrix: np.ndarray
    turned: bool
    mirror: tuple[bool, bool]

    def image(self, image: np.ndarray, fill: tuple[int, int, int]) -> np.ndarray:
        """Pixels uint8 (h, w, 3) of the frame, antialiased; `fill` where the picture is not."""
        top, left, bottom, right = self.source
        part = image[top:bottom, left:right]
        top, left, bottom, right = self.target
        part = (
            self._turn(part, fill) if self.turned else _scaled(part, (bottom - top, right - left))
        )
        if self.mirror[0]:
            part, top = part[::-1], self.size[0] - bottom
        if self.mirror[1]:
            part, left = part[:, ::-1], self.size[1] - right
        if part.shape[:2] == self.size:
            return part.copy()  # it may be the picture itself
        frame = np.empty((*self.size, 3), np.uint8)
        frame[:] = np.tile(np.array(fill, np.uint8), (self.size[1], 1))
        frame[top : top + part.shape[0], left : left + part.shape[1]] = part
        return frame

    def _turn(self, part: np.ndarray, fill: tuple[int, int, int]) -> np.ndarray:
        """Shrink with antialiasing first, so that the turn itself leaves the scale as it is."""
        import cv2  # comes with albumentations

        linear, move = self.matrix[:, :2], self.matrix[:, 2]
        scale = np.minimum(1.0, np.hypot(linear[0], linear[1]))  # of x and of y
        height, width = part.shape[:2]
        small = (max(1, round(height * scale[1])), max(1, round(width * scale[0])))
        step = linear * (width / small[1], height / small[0])
        move = move + linear @ (self.source.left, self.source.top)
        move = move + step @ (0.5, 0.5) - 0.5  # OpenCV counts from the centre of the first pixel
        return cv2.warpAffine(
            _scaled(part, small),
            np.column_stack([step, move]),
            (self.size[1], self.size[0]),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=fill,
        )

    def plane(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Values (H, W) of the picture on the frame: the nearest, and `fill` where there are none."""
        row, column, _ = self._nearest
        plane = values[row, column]
        if not self.full:
            plane[self.outside] = fill
        return plane

    @property
    def full(self) -> bool:
        """Whether the frame is sure to show the picture everywhere."""
        return not self.turned and self.target == (0, 0, *self.size)

    @cached_property
    def outside(self) -> np.ndarray:
        """Bool (h, w): where the frame does not show the picture."""
        return np.broadcast_to(~self._nearest[2], self.size)

    @cached_property
    def _nearest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each frame pixel's centre, the picture's row and column, and whether it is inside.

        int64, int64 and bool; they broadcast to (h, w). Rows and columns are clipped to the picture.
        """
        (a, b, x0), (c, d, y0) = _inverse(self.matrix)
        y = (np.arange(self.size[0]) + 0.5)[:: -1 if self.mirror[0] else 1, None]
        x = (np.arange(self.size[1]) + 0.5)[None, :: -1 if self.mirror[1] else 1]
        column = np.floor(a * x + x0 + (b * y if self.turned else 0.0)).astype(np.int64)
        row = np.floor(d * y + y0 + (c * x if self.turned else 0.0)).astype(np.int64)
        height, width = self.picture
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return np.clip(row, 0, height - 1), np.clip(column, 0, width - 1), inside

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Picture coordinates (n, 2) to frame coordinates, float64."""
        moved = xy.astype(np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        for axis in (0, 1):
            if self.mirror[1 - axis]:
                moved[:, axis] = self.size[1 - axis] - moved[:, axis]
        return moved

    def boxes(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) to the smallest ones around them in the frame, float64, not yet clipped."""
        low, high = xyxy[:, :2].astype(np.float64), xyxy[:, 2:].astype(np.float64)
        middle = self.points((low + high) / 2)
        half = (high - low) / 2 @ np.abs(self.matrix[:, :2]).T
        return np.hstack([middle - half, middle + half])


def lay(
    picture: tuple[int, int],
    size: tuple[int, int],
    place: Placement,
    degrees: float,
    mirror: tuple[bool, bool],
) -> View:
    """The view of a placement, turned anticlockwise by so many degrees."""
    if not degrees:
        source, target, matrix = _snap(picture, size, place)
    else:
        matrix = np.array([[place.scale_x, 0, place.move_x], [0, place.scale_y, place.move_y]])
        turn = math.radians(degrees)
        rotation = np.array(
            [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
        )  # y points down
        centre = np.array([place.centre_x, place.centre_y])
        matrix = rotation @ matrix
        matrix[:, 2] += centre - rotation @ centre
        source, target = _seen(picture, size, matrix), Rectangle(0, 0, *size)
    return View(picture, size, source, target, matrix, bool(degrees), mirror)


def _snap(
    picture: tuple[int, int], size: tuple[int, int], place: Placement
) -> tuple[Rectangle, Rectangle, np.ndarray]:
    """Whole pixels of the picture onto whole pixels of the frame, and the matrix that this is."""
    spans = []
    along_y, along_x = (place.scale_y, place.move_y), (place.scale_x, place.move_x)
    for axis, (scale, move) in enumerate([along_y, along_x]):
        start = min(size[axis] - 1, max(0, round(move)))
        stop = max(start + 1, min(size[axis], round(move + scale * picture[axis])))
        first = min(picture[axis] - 1, max(0, round((start - move) / scale)))
        last = min(picture[axis], max(first + 1, round((stop - move) / scale)))
        step = (stop - start) / (last - first)
        spans.append((first, last, start, stop, step, start - step * first))
    (y0, y1, top, bottom, scale_y, move_y), (x0, x1, left, right, scale_x, move_x) = spans
    return (
        Rectangle(y0, x0, y1, x1),
        Rectangle(top, left, bottom, right),
        np.array([[scale_x, 0, move_x], [0, scale_y, move_y]]),
    )


def _seen(picture: tuple[int, int], size: tuple[int, int], matrix: np.ndarray) -> Rectangle:
    """The picture's pixels that can be seen in a turned frame, with a rim for the interpolation."""
    corners = np.array([(x, y) for x in (0, size[1]) for y in (0, size[0])])
    back = _inverse(matrix)
    xy = corners @ back[:, :2].T + back[:, 2]
    rim = 2 + np.abs(back[:, :2]).sum(axis=1)
    left, top = np.floor(xy.min(axis=0) - rim).astype(int)
    right, bottom = np.ceil(xy.max(axis=0) + rim).astype(int)
    top, left = max(0, int(top)), max(0, int(left))
    return Rectangle(top, left, min(picture[0], int(bottom)), min(picture[1], int(right)))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse of an affine map (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _scaled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As in pre-training; `picture` may be of any layout in memory."""
    if picture.shape[:2] == size:
        return picture
    return rescale(np.require(picture, requirements=["C", "W"]), size)
