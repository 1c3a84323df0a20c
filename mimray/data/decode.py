"""Bytes to pixels, strictly: what a strict decoder rejects is damaged, whatever a lenient one shows.

The format is told by content (JPEG, PNG, WebP), size and pixel count are read from the header before
anything is decoded. Grey becomes RGB, CMYK is converted, alpha is dropped, 16 bits keep their high
byte, of several frames the first is taken, EXIF rotation is not applied unless asked for: all as the
papers' own loader does. What follows the end of a picture is ignored.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

MIN_SIDE = 8  # pixels
MAX_PIXELS = 100_000_000

# A reason travels through the stream as its place in this list; 0 means that nothing is wrong.
REASONS = ("", "not a picture", "format", "damaged", "too small", "too many pixels")

_PNG = b"\x89PNG\r\n\x1a\n"
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
ORIENTATION = 0x0112  # EXIF tag: how the camera was held


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
    elif data[:8] == _PNG:
        picture = _decode_png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        picture = _decode_webp(data)
    else:
        raise Unreadable("format" if _is_other_format(data) else "not a picture")
    return _turn(picture, orientation(data)) if upright else picture


def orientation(data: bytes) -> int:
    """How a camera was held, by EXIF: 1 (upright, or nothing sensible noted) to 8. Never raises."""
    if data[:2] == b"\xff\xd8":
        noted = _orientation(_jpeg_exif(data))
    else:
        noted = _orientation(_png_exif(data) if data[:8] == _PNG else _webp_exif(data))
    return noted if noted in range(1, 9) else 1


def mode(data: bytes) -> str:
    """How a picture that `decode` accepts stores its colours, in Pillow's words. Never raises.

    L, RGB, CMYK, P, LA, RGBA, "1" (one bit) or "I;16" (grey of 16 bits); "" where no header tells.
    """
    if data[:2] == b"\xff\xd8":
        return {1: "L", 3: "RGB", 4: "CMYK"}.get(len(_frame(data).sampling), "")
    if data[:8] == _PNG:
        depth, colours = (*data[24:26], 0, 0)[:2]
        if colours == 0:
            return {1: "1", 16: "I;16"}.get(depth, "L")
        return {2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}.get(colours, "")
    kind, body = data[12:16], data[20:30]
    alpha = (kind == b"VP8X" and body[:1] and body[0] & 0x10) or (
        kind == b"VP8L" and int.from_bytes(body[1:5], "little") >> 28 & 1
    )
    return "RGBA" if alpha else "RGB"


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
        frame = _frame(data)
        if not frame.sampling:
            raise ValueError("no frame header") from None
        return frame.height, frame.width, len(frame.sampling) == 4


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of a JPEG's segments up to the first scan."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone
            at += 2
            continue
        if marker == 0xDA or length < 2:
            return
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


class _Frame(NamedTuple):
    """What a JPEG's frame header says.

    `process`: 0 to 15, as in the marker SOF0 to SOF15; `bits` a sample; `height`, `width` in pixels;
    `sampling`: of each component, across (high half of the byte) and down.
    """

    process: int = 0
    bits: int = 8
    height: int = 0
    width: int = 0
    sampling: bytes = b""


def _frame(data: bytes) -> _Frame:
    """The first frame header; one without components where none is found."""
    for marker, payload in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width = struct.unpack(">BHH", payload[:5].ljust(5, b"\0"))
            return _Frame(marker - 0xC0, bits, height, width, payload[7::3])
    return _Frame()


def _is_common_jpeg(data: bytes) -> bool:
    """Baseline, extended or progressive, of 8 bits, and of a sampling that is decoded.

    Not lossless, hierarchical or of 12 bits. Colour is sampled as often as light or once a block of
    up to four pixels in a row or column (4:4:4 to 4:1:1); black, of four, as often as light.
    """
    frame = _frame(data)
    light, others = frame.sampling[:1], frame.sampling[1:]
    sampled = light in b"\x11\x12\x21\x22\x14\x41" and set(others) <= {0x11, *light}
    black = others[2:3] in (b"", light)
    return frame.process in (0, 1, 2, 9, 10) and frame.bits == 8 and sampled and black


def _has_endless_scans(data: bytes) -> bool:
    """Whether a progressive JPEG holds so many scans that decoding is all it was made for.

    A scan of a dozen bytes may run over all pixels. In coded data these two bytes never stand side
    by side, so what is counted are scans, and those of a thumbnail.
    """
    return _frame(data).process in (2, 10) and data.count(_START_OF_SCAN) > _MAX_SCANS


def _decode_png(data: bytes) -> np.ndarray:
    """Pixels, once every checksum up to the end is right.

    The decoder is given only what pixels are made of: it would unpack texts and profiles of any size.
    """
    if data[12:16] != b"IHDR":
        raise Unreadable("damaged")
    _check_size(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
    kept = [_PNG]
    for name, at, end in _chunks(data):
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


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of a PNG's chunks that are whole, checksums included."""
    at, name = 8, b""
    while name != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        name = data[at + 4 : at + 8]
        yield name, at, end
        at = end


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


def _jpeg_exif(data: bytes) -> bytes:
    for marker, payload in _segments(data):
        if marker == 0xE1 and payload[:6] == b"Exif\0\0":
            return payload[6:]
    return b""


def _png_exif(data: bytes) -> bytes:
    for name, at, end in _chunks(data):
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


def _turn(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Undo one of the eight orientations (EXIF 2.32, section 4.6.4): where row 0 and column 0 lie."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)
