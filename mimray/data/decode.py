"""Bytes to pixels, strictly: what a strict decoder rejects is damaged, whatever a lenient one shows.

The format is told by content (JPEG, PNG, WebP), size and pixel count are read from the header before
anything is decoded. Grey becomes RGB, CMYK is converted, alpha is dropped, 16 bits keep their high
byte, EXIF rotation is not applied: all as the papers' own loader does.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image

MIN_SIDE = 8  # pixels
MAX_PIXELS = 100_000_000

# A reason travels through the stream as its place in this list; 0 means that nothing is wrong.
REASONS = ("", "not a picture", "format", "damaged", "too small", "too many pixels")


class Unreadable(Exception):
    """A picture that cannot be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes) -> np.ndarray:
    """Decode a picture to uint8 (height, width, 3). Raises Unreadable."""
    if data[:3] == b"\xff\xd8\xff":
        return _decode_jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return _decode_pillow(data, ("PNG", "WEBP"))
    try:
        Image.open(io.BytesIO(data), formats=("GIF", "BMP", "TIFF"))
    except Image.DecompressionBombError:
        pass  # it is one of these formats all the same
    except Exception:  # Pillow's plugins raise of every kind on bytes that are no picture
        raise Unreadable("not a picture") from None
    raise Unreadable("format")


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise Unreadable("too small")
    if height * width > MAX_PIXELS:
        raise Unreadable("too many pixels")


def _decode_jpeg(data: bytes) -> np.ndarray:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(height, width)
        if colours in ("CMYK", "YCCK"):
            simplejpeg.decode_jpeg(data, "CMYK")  # Pillow, which converts, is lenient: check first
            return _decode_pillow(data, ("JPEG",))
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        raise Unreadable("damaged") from None


def _decode_pillow(data: bytes, formats: tuple[str, ...]) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        _check_size(image.height, image.width)
        if image.mode.startswith("I"):  # 16 bits in one channel
            high = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
            return np.repeat(high[..., None], 3, axis=2)
        return np.array(image.convert("RGB"))
    except Image.DecompressionBombError:
        raise Unreadable("too many pixels") from None
    except Unreadable:
        raise
    except Exception:  # as above: a damaged stream fails in many ways
        raise Unreadable("damaged") from None
