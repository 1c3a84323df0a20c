"""How a camera was held when it took a picture, by EXIF, and turning the picture upright."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mimray.data.headers import PNG, jpeg_segments, png_chunks

ORIENTATION = 0x0112  # EXIF tag: how the camera was held


def orientation(data: bytes) -> int:
    """How a camera was held, by EXIF: 1 (upright, or nothing sensible noted) to 8. Never raises."""
    if data[:2] == b"\xff\xd8":
        noted = _orientation(_jpeg_exif(data))
    else:
        noted = _orientation(_png_exif(data) if data[:8] == PNG else _webp_exif(data))
    return noted if noted in range(1, 9) else 1


def turn(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Undo one of the eight orientations (EXIF 2.32, section 4.6.4): where row 0 and column 0 lie."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def _jpeg_exif(data: bytes) -> bytes:
    for marker, payload in jpeg_segments(data):
        if marker == 0xE1 and payload[:6] == b"Exif\0\0":
            return payload[6:]
    return b""


def _png_exif(data: bytes) -> bytes:
    for name, at, end in png_chunks(data):
        if name == b"eXIf":
            return data[at + 8 : end - 4]
    return b""


def _webp_exif(data: bytes) -> bytes:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
        at += 8 + length + length % 2
    return b""


def _orientation(exif: bytes) -> int:
    """The orientation in the first directory of EXIF data; 1, upright, where it holds none."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    order: Literal["little", "big"] = "little" if exif[:1] == b"I" else "big"
    at = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[at : at + 2], order)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif)), 12):
        if int.from_bytes(exif[entry : entry + 2], order) == ORIENTATION:
            return int.from_bytes(exif[entry + 8 : entry + 10], order)
    return 1
