"""Bytes to pixels, strictly: what a strict decoder rejects is damaged, whatever a lenient one shows.

The format is told by content (JPEG, PNG, WebP), size and pixel count are read from the header before
anything is decoded. Grey becomes RGB, CMYK is converted, alpha is dropped, 16 bits keep their high
byte, of several frames the first is taken, EXIF rotation is not applied unless asked for: all as the
papers' own loader does. What follows the end of a picture is ignored.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
import simplejpeg
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mimray.data.exif import orientation, turn
from mimray.data.headers import PNG, jpeg_frame, png_chunks

MIN_SIDE = 8  # pixels
MAX_PIXELS = 100_000_000

# A reason travels through the stream as its place in this list; 0 means that nothing is wrong.
REASONS = ("", "not a picture", "format", "damaged", "too small", "too many pixels")

_OTHER_FORMATS = (
    *(b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),  # JPEG 2000
    *(b"\0\0\0\x0cJXL ", b"\xff\x0a"),  # JPEG XL
    *(b"8BPS", b"qoif"),
)
_START_OF_SCAN = b"\xff\xda"
_MAX_SCANS = 100  # a progressive photo has about ten
_SCAN_WORK = 10**10  # bytes times pixels; below it scans without end take a second at most


class Unreadable(Exception):
    """A picture that cannot be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes, upright: bool = False) -> np.ndarray:
    """Decode a picture to uint8 (height, width, 3). Raises Unreadable, and nothing else.

    `upright` turns and mirrors it as its EXIF orientation says; a value that is none of the eight
    says nothing.
    """
    if data[:3] == b"\xff\xd8\xff":
        picture = _decode_jpeg(data)
    elif data[:8] == PNG:
        picture = _decode_png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        picture = _decode_webp(data)
    else:
        raise Unreadable("format" if _is_other_format(data) else "not a picture")
    return turn(picture, orientation(data)) if upright else picture


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise Unreadable("too small")
    if height * width > MAX_PIXELS:
        raise Unreadable("too many pixels")


def _is_other_format(data: bytes) -> bool:
    """Whether these are bytes of a picture in a format that is not taken."""
    if data[:2] == b"BM":
        return data[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
    if data[4:8] == b"ftyp":  # films begin so too
        return data[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    return len(data) > 12 and data.startswith(_OTHER_FORMATS)


def _decode_jpeg(data: bytes) -> np.ndarray:
    try:
        height, width, four = _jpeg_header(data)
        _check_size(height, width)
        if len(data) * height * width > _SCAN_WORK and _has_endless_scans(data):
            raise Unreadable("damaged")
        # into room of the size that was checked, so that no larger picture is decoded
        picture = np.empty((height, width, 4 if four else 3), dtype=np.uint8)
        picture = simplejpeg.decode_jpeg(data, "CMYK" if four else "RGB", buffer=picture)
        # Pillow, which converts, is lenient: hence both
        return _decode_pillow(data, JpegImageFile) if four else picture
    except ValueError:
        raise Unreadable("damaged" if _is_common_jpeg(data) else "format") from None


def _jpeg_header(data: bytes) -> tuple[int, int, bool]:
    """Height, width (pixels), and whether it has four colours. Raises ValueError where none is found."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        return height, width, colours in ("CMYK", "YCCK")
    except KeyError:  # 4:4:1, which simplejpeg 1.9 decodes and has no name for
        frame = jpeg_frame(data)
        if not frame.sampling:
            raise ValueError("no frame header") from None
        return frame.height, frame.width, len(frame.sampling) == 4


def _is_common_jpeg(data: bytes) -> bool:
    """Baseline, extended or progressive, of 8 bits, and of a sampling that is decoded.

    Not lossless, hierarchical or of 12 bits. Colour is sampled as often as light or once a block of
    up to four pixels in a row or column (4:4:4 to 4:1:1); black, of four, as often as light.
    """
    frame = jpeg_frame(data)
    light, others = frame.sampling[:1], frame.sampling[1:]
    sampled = light in b"\x11\x12\x21\x22\x14\x41" and set(others) <= {0x11, *light}
    black = others[2:3] in (b"", light)
    return frame.process in (0, 1, 2, 9, 10) and frame.bits == 8 and sampled and black


def _has_endless_scans(data: bytes) -> bool:
    """Whether a progressive JPEG holds so many scans that decoding is all it was made for.

    A scan of a dozen bytes may run over all pixels. In coded data these two bytes never stand side
    by side, so what is counted are scans, and those of a thumbnail.
    """
    return jpeg_frame(data).process in (2, 10) and data.count(_START_OF_SCAN) > _MAX_SCANS


def _decode_png(data: bytes) -> np.ndarray:
    """Pixels, once every checksum up to the end is right.

    The decoder is given only what pixels are made of: it would unpack texts and profiles of any size.
    """
    if data[12:16] != b"IHDR":
        raise Unreadable("damaged")
    _check_size(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
    kept = [PNG]
    for name, at, end in png_chunks(data):
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            raise Unreadable("damaged")
        if name == b"IHDR" and at > 8:  # a second one, of another size
            raise Unreadable("damaged")
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            kept.append(data[at:end])
    if kept[-1][4:8] != b"IEND":
        raise Unreadable("damaged")
    return _decode_pillow(b"".join(kept), PngImageFile)


def _decode_webp(data: bytes) -> np.ndarray:
    """Pixels; the canvas is measured here because Pillow makes room for it before it tells its size."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    if len(data) < 30:
        raise Unreadable("damaged")
    _check_size(height, width)
    return _decode_pillow(data, WebPImageFile)


def _decode_pillow(data: bytes, plugin: type[ImageFile]) -> np.ndarray:
    """First frame. The plugin is called by itself: `Image.open` would warn of sizes that we allow."""
    try:
        image = plugin(io.BytesIO(data))
        if image.mode.startswith("I"):  # 16 bits in one channel
            high = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
            return np.repeat(high[..., None], 3, axis=2)
        return np.array(image.convert("RGB"))
    except Exception:  # a damaged stream fails in many ways
        raise Unreadable("damaged") from None
