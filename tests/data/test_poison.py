"""Files made to break a decoder: a verdict each, in bounded time, and never anything else."""

import io
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mimray.data.decode import REASONS, Unreadable, decode
from mimray.data.inspect import look
from tests.data.conftest import encode, noise
from tests.data.test_decode import lenient, photo, reason, turned

pytestmark = pytest.mark.unit


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(png, name, body):
    """The PNG with a chunk more, after its header."""
    return png[:33] + chunk(name, body) + png[33:]


def interlaced(picture):
    """A PNG of Adam7, which Pillow cannot write."""
    height, width, _ = picture.shape
    lines = b""
    for top, left, down, right in [
        *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
        *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
    ]:
        lines += b"".join(b"\0" + row.tobytes() for row in picture[top::down, left::right])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_48_bits_keep_their_high_bytes():
    deep = np.random.default_rng(0).integers(0, 65536, (24, 32, 3)).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in deep)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 24, 16, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    assert np.array_equal(
        decode(b"\x89PNG\r\n\x1a\n" + header + data), (deep >> 8).astype(np.uint8)
    )


def test_an_interlaced_png_is_exact_and_damaged_when_cut():
    data = interlaced(noise())
    assert np.array_equal(decode(data), noise())
    assert reason(data[: len(data) // 2]) == "damaged"
    assert reason(data[:-12]) == "damaged"  # nothing but its end is missing


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
def test_what_unpacks_to_much_is_never_unpacked(name):
    packed = zlib.compress(bytes(50 << 20), 9)
    before = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[name]
    assert np.array_equal(decode(with_chunk(encode(noise()), name, before + packed)), noise())


def test_texts_without_end_do_no_harm():
    info = PngInfo()
    for number in range(200):
        info.add_text(f"k{number}", "x" * 900_000, zip=True)
    assert np.array_equal(decode(encode(noise(), pnginfo=info)), noise())


def test_a_wrong_checksum_is_damage():
    data = bytearray(with_chunk(encode(noise()), b"tEXt", b"a\0b"))
    data[data.index(b"tEXt") + 4] ^= 1
    assert reason(bytes(data)) == "damaged"


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "WEBP", "lossless": True}])
def test_of_an_animation_the_first_frame_is_taken(options):
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    data = encode(frames[0], **options, save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data), noise())


def test_of_a_jpeg_with_more_pictures_the_first_is_taken():
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(decode(data).astype(int) - lenient(data)).max() <= 4


@pytest.mark.parametrize("make", [photo, lambda: photo(format="PNG"), lambda: photo(format="WEBP")])
@pytest.mark.parametrize("more", [b"\0" * 1000, b"\xff\xd8\xff", b"garbage", None])
def test_what_follows_the_end_is_ignored(make, more):
    """Cameras append previews and padding; Pillow and a strict decoder take such files."""
    data = make()
    assert np.array_equal(decode(data + (data if more is None else more)), decode(data))


@pytest.mark.parametrize(
    ("marker", "bits", "expected"),
    [
        *((0xC0, 12, "format"), (0xC1, 12, "format"), (0xC2, 12, "format")),
        *((0xC3, 8, "format"), (0xC3, 16, "format"), (0xC5, 8, "format"), (0xCB, 8, "format")),
        (0xC9, 8, "damaged"),  # said to be arithmetic code, which it is not
    ],
)
def test_rare_kinds_of_jpeg_are_no_format_of_ours(marker, bits, expected):
    data = bytearray(photo())
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    assert reason(bytes(data)) == expected


def sampled(luma, size=(64, 64), mode="RGB"):
    """A 4:2:0 JPEG that claims another sampling; as many blocks make a picture in 4:4:1 and 4:1:1."""
    data = bytearray(encode(Image.open(io.BytesIO(photo(size))).convert(mode), "JPEG",
                            subsampling=2))  # fmt: skip
    data[data.index(b"\xff\xc0") + 11] = luma
    if mode == "CMYK":
        data[data.index(b"\xff\xc0") + 20] = luma
    return bytes(data)


def test_a_sampling_without_a_name_is_decoded_as_strictly():
    data = sampled(0x14)
    picture = decode(data)
    assert picture.shape == (64, 64, 3) and picture.flags.writeable
    assert np.abs(picture.astype(int) - lenient(data)).max() <= 4
    assert reason(data[: len(data) // 2]) == "damaged"
    at = data.index(b"\xff\xc0") + 5
    for side, why in ((60_000, "too many pixels"), (7, "too small"), (128, "damaged")):
        assert reason(data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]) == why
    four = sampled(0x14, mode="CMYK")  # of other blocks than these
    assert reason(four) == "damaged"


def test_a_frame_header_that_only_the_decoder_sees_makes_no_larger_picture():
    """It skips two bytes that we take for a segment's, so it finds a frame and a scan in there."""
    data = sampled(0x14)
    at, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda") + 14
    small, tables = data[at : at + 19], data[at + 19 : scan]
    large = small[:5] + struct.pack(">HH", 20_000, 20_000) + small[9:]
    hidden = struct.pack(">H", len(large + tables) + 2) + large + tables
    began = time.perf_counter()
    assert reason(data[:at] + b"\xff\0" + hidden + small + data[scan:]) == "damaged"
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("luma", [0x24, 0x42, 0x13, 0x31])
def test_a_sampling_that_is_not_decoded_is_no_format_of_ours(luma):
    assert reason(sampled(luma)) == "format"
    assert reason(sampled(luma)[: sampled(luma).index(b"\xff\xc0")]) == "damaged"


def test_black_that_is_sampled_unlike_light_is_no_format_of_ours():
    four = Image.fromarray(noise()).convert("CMYK")
    assert reason(encode(four, "JPEG", subsampling=2)) == "format"
    assert decode(encode(four, "JPEG", subsampling=0)).shape == (24, 32, 3)


def test_the_size_of_a_png_is_that_of_its_one_header():
    """Pillow takes the last header, and one that stands behind other chunks."""
    png, small = encode(noise()), struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    for first in (chunk(b"IHDR", small), chunk(b"tEXt", b"a\0b")):
        assert reason(png[:8] + first + png[8:]) == "damaged"


def scans_without_end(side, count):
    """A progressive JPEG that goes over all its pixels once more with every 14 bytes."""
    data = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


@pytest.mark.parametrize("filling", [b"", b"\xff", b"\xff\x01", b"\xff\xd0\xff\xff", b"\0garbage"])
def test_scans_without_end_are_found_behind_anything(filling):
    data, began = scans_without_end(2000, 2000), time.perf_counter()
    for place in (3, data.index(b"\xff\xc2")):
        assert reason(data[:place] + filling + data[place:]) == "damaged"
    assert time.perf_counter() - began < 2


def test_orientation_is_found_behind_fill_bytes():
    data = turned(6)
    padded = data[:3] + b"\xff\xff" + data[3:]
    assert np.array_equal(decode(padded, upright=True), decode(data, upright=True))
    assert decode(padded, upright=True).shape == (64, 48, 3)


def test_scans_without_end_do_not_hang():
    began = time.perf_counter()
    assert reason(scans_without_end(2000, 5000)) == "damaged"
    assert reason(scans_without_end(300, 5000)) == "damaged"  # small enough to be decoded
    assert time.perf_counter() - began < 5
    assert decode(scans_without_end(2000, 1)).shape == (2000, 2000, 3)


def bases():
    smooth = Image.fromarray(noise(6, 8)).resize((40, 32), Image.Resampling.BICUBIC)
    deep = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
    frames = {"save_all": True, "append_images": [Image.fromarray(noise(32, 40, 1))]}
    return [
        *(encode(smooth, "JPEG"), encode(smooth, "JPEG", progressive=True)),
        *(encode(smooth.convert("L"), "JPEG"), encode(smooth.convert("CMYK"), "JPEG")),
        *(turned(6), encode(smooth), interlaced(noise()), encode(deep)),
        *(encode(smooth.quantize(16), transparency=3), encode(smooth, **frames)),
        *(encode(smooth, "WEBP"), encode(smooth.convert("RGBA"), "WEBP", lossless=True)),
        *(turned(6, format="WEBP"), encode(smooth, "WEBP", **frames)),
        *(sampled(0x14), sampled(0x41)),
    ]


BASES = bases()
FRAMES = [i for i, data in enumerate(BASES) if b"\xff\xc0\0\x11" in data]
EDIT = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255))


@given(st.sampled_from(range(len(BASES))), st.lists(EDIT, max_size=8), st.floats(0, 1.2))
def test_whatever_happens_to_a_file_it_is_a_picture_or_unreadable(base, edits, share):
    data = bytearray(BASES[base])
    for place, change in edits:
        data[int(place * len(data))] ^= change
    verdict(bytes(data[: int(share * len(data))]))


@given(st.sampled_from(FRAMES), st.lists(st.tuples(st.integers(2, 18), st.integers(0, 255)),
                                         min_size=1, max_size=3))  # fmt: skip
def test_whatever_a_frame_header_says_it_is_a_picture_or_unreadable(base, edits):
    data = bytearray(BASES[base])
    frame = data.index(b"\xff\xc0")
    for place, value in edits:
        data[frame + place] = value
    verdict(bytes(data))


def verdict(data):
    """A picture or a reason, no warning, and a closer look that never fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look(0, data).reason in REASONS
        for upright in (False, True):
            try:
                picture = decode(data, upright)
                assert picture.dtype == np.uint8 and picture.flags.writeable
                assert picture.ndim == 3 and picture.shape[2] == 3 and min(picture.shape[:2]) >= 8
            except Unreadable as error:
                assert error.reason in REASONS[1:]
