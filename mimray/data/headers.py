"""What the files of pictures say before their pixels: a JPEG's segments, a PNG's chunks, colours."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PNG = b"\x89PNG\r\n\x1a\n"


class JpegFrame(NamedTuple):
    """What a JPEG's frame header says.

    `process`: 0 to 15, as in the marker SOF0 to SOF15; `bits` a sample; `height`, `width` in pixels;
    `sampling`: of each component, across (high half of the byte) and down.
    """

    process: int = 0
    bits: int = 8
    height: int = 0
    width: int = 0
    sampling: bytes = b""


def mode(data: bytes) -> str:
    """How a picture that `decode` accepts stores its colours, in Pillow's words. Never raises.

    L, RGB, CMYK, P, LA, RGBA, "1" (one bit) or "I;16" (grey of 16 bits); "" where no header tells.
    """
    if data[:2] == b"\xff\xd8":
        return {1: "L", 3: "RGB", 4: "CMYK"}.get(len(jpeg_frame(data).sampling), "")
    if data[:8] == PNG:
        depth, colours = (*data[24:26], 0, 0)[:2]
        if colours == 0:
            return {1: "1", 16: "I;16"}.get(depth, "L")
        return {2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}.get(colours, "")
    kind, body = data[12:16], data[20:30]
    alpha = (kind == b"VP8X" and body[:1] and body[0] & 0x10) or (
        kind == b"VP8L" and int.from_bytes(body[1:5], "little") >> 28 & 1
    )
    return "RGBA" if alpha else "RGB"


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
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


def jpeg_frame(data: bytes) -> JpegFrame:
    """The first frame header; one without components where none is found."""
    for marker, payload in jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width = struct.unpack(">BHH", payload[:5].ljust(5, b"\0"))
            return JpegFrame(marker - 0xC0, bits, height, width, payload[7::3])
    return JpegFrame()


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of a PNG's chunks that are whole, checksums included."""
    at, name = 8, b""
    while name != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        name = data[at + 4 : at + 8]
        yield name, at, end
        at = end
