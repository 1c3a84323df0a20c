import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from mimray.data.decode import MAX_PIXELS, REASONS, Unreadable, decode
from tests.data.conftest import encode, noise

pytestmark = pytest.mark.unit


def reason(data):
    with pytest.raises(Unreadable) as caught:
        decode(data)
    assert caught.value.reason in REASONS[1:]
    return caught.value.reason


def photo(size=(64, 48), **options):
    smooth = Image.fromarray(noise(6, 8)).resize(size, Image.Resampling.BICUBIC)
    return encode(smooth, **{"format": "JPEG", "quality": 95} | options)


def lenient(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_png_is_exact_whatever_its_name():
    picture = noise()
    out = decode(encode(picture))
    assert np.array_equal(out, picture) and out.flags.writeable


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}]
)
def test_jpeg_is_what_pillow_shows(options):
    out = decode(photo(**options))
    assert out.shape == (48, 64, 3) and out.dtype == np.uint8
    assert np.abs(out.astype(int) - lenient(photo(**options))).max() <= 4


def test_lossless_webp_is_exact():
    assert np.array_equal(decode(encode(noise(), "WEBP", lossless=True)), noise())


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_grey_becomes_three_equal_channels(format):
    out = decode(encode(noise()[..., 0], format))
    assert out.shape == (24, 32, 3)
    assert (out == out[..., :1]).all()


def test_alpha_is_dropped():
    rgba = np.dstack([noise(), np.zeros((24, 32), dtype=np.uint8)])
    assert np.array_equal(decode(encode(rgba)), noise())


def test_grey_with_alpha_keeps_its_grey():
    image = Image.fromarray(noise()[..., 0]).convert("LA")
    assert np.array_equal(decode(encode(image))[..., 1], noise()[..., 0])


def test_a_palette_becomes_its_colours():
    image = Image.fromarray(noise()).quantize(16)
    assert np.array_equal(decode(encode(image)), np.asarray(image.convert("RGB")))
    transparent = encode(image, transparency=3)
    assert np.array_equal(decode(transparent), np.asarray(image.convert("RGB")))


def test_one_bit_is_black_and_white():
    bits = noise()[..., 0] > 127
    assert np.array_equal(decode(encode(Image.fromarray(bits)))[..., 2], bits * np.uint8(255))


def test_16_bits_keep_their_high_byte():
    deep = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
    assert np.array_equal(decode(encode(deep)), np.repeat((deep >> 8)[..., None], 3, axis=2))


def test_cmyk_is_converted_as_pillow_does():
    data = encode(Image.fromarray(noise()).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(data).astype(int) - lenient(data)).max() <= 1


def turned(orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return photo(exif=exif, **options)


KINDS = [{}, {"format": "PNG"}, {"format": "WEBP", "lossless": True}]


@pytest.mark.parametrize("options", KINDS)
def test_exif_rotation_is_applied_only_when_asked(options):
    plain = decode(photo(**options))
    for orientation in range(1, 9):
        data = turned(orientation, **options)
        assert np.array_equal(decode(data), plain)
        got = decode(data, upright=True)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert got.shape == (upright.height, upright.width, 3)
        assert np.abs(got.astype(int) - np.asarray(upright)).max() <= 4
        assert got.flags.c_contiguous


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_says_nothing(orientation, options):
    data = turned(orientation, **options)
    assert np.array_equal(decode(data, upright=True), decode(data))


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_says_nothing(exif):
    data = photo(exif=b"Exif\0\0" + exif)
    assert np.array_equal(decode(data, upright=True), decode(data))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    "make", [photo, lambda: encode(noise(64, 64)), lambda: photo(format="WEBP")]
)
def test_a_cut_file_is_damaged(make, share):
    data = make()
    assert reason(data[: int(len(data) * share)]) == "damaged"


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_jpegs_with_changed_bytes_are_damaged_though_pillow_shows_them(mode):
    """Some changes are legal code; of a dozen, several are not (255 would start a marker)."""
    smooth = Image.fromarray(noise(6, 8)).resize((200, 200), Image.Resampling.BICUBIC)
    sound = encode(smooth.convert(mode), "JPEG", quality=95)
    assert decode(sound).shape == (200, 200, 3)
    found = 0
    for seed in range(12):
        data, middle = bytearray(sound), len(sound) // 2
        data[middle : middle + 64] = bytes(b % 255 for b in noise(1, 22, seed).tobytes()[:64])
        try:
            lenient(bytes(data))
            decode(bytes(data))
        except Unreadable as error:
            assert error.reason == "damaged"
            found += 1
    assert found >= 3


def test_a_png_with_a_changed_byte_is_damaged():
    data = bytearray(encode(noise(64, 64)))
    data[len(data) // 2] ^= 0xFF
    assert reason(bytes(data)) == "damaged"


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"<html>404</html>", b"RIFF....WAVE", b"GIF", b"II*\x00", b"\xff\xd8"]
)
def test_other_bytes_are_no_picture(data):
    assert reason(data) == "not a picture"


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "JPEG2000", "AVIF"])
def test_pictures_of_other_formats_are_told_so(format):
    assert reason(encode(noise(), format)) == "format"


@pytest.mark.parametrize("data", [b"BMW is a car", b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n"])
def test_a_beginning_alone_is_no_format(data):
    assert reason(data) in ("not a picture", "damaged")


@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (100, 7), (3, 2000)])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_seven_pixels_are_too_small(shape, format):
    assert reason(encode(noise(*shape), format)) == "too small"


def test_eight_pixels_are_enough():
    assert decode(encode(noise(8, 8))).shape == (8, 8, 3)


def claiming(height, width):
    """A JPEG, a PNG and three WebPs that say to be so large."""
    jpeg = bytearray(photo())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    png = bytearray(encode(noise()))
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    lossy, lossless = (bytearray(encode(noise(), "WEBP", lossless=exact)) for exact in (0, 1))
    lossy[26:30] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    lossless[21:25] = struct.pack("<I", (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14)
    exif = Image.Exif()
    extended = bytearray(encode(noise(), "WEBP", exif=exif.tobytes()))
    assert extended[12:16] == b"VP8X"
    extended[24:27] = (width - 1).to_bytes(3, "little")
    extended[27:30] = (height - 1).to_bytes(3, "little")
    return [bytes(data) for data in (jpeg, png, lossy, lossless, extended)]


@pytest.mark.parametrize(("height", "width"), [(MAX_PIXELS // 10_000 + 1, 10_000), (6_400, 16_000)])
def test_size_is_judged_before_anything_is_decoded(height, width):
    assert [reason(data) for data in claiming(height, width)] == ["too many pixels"] * 5


def test_the_largest_jpeg_header_is_refused():
    assert reason(claiming(60_000, 60_000)[0]) == "too many pixels"


def test_a_picture_that_is_not_as_large_as_it_says_is_damaged_and_nothing_is_printed(capfd):
    """A size between Pillow's warning and our limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [reason(data) for data in claiming(9_500, 10_000)] == ["damaged"] * 5
    assert capfd.readouterr() == ("", "")


def test_a_reason_travels_as_its_place_in_the_list():
    assert REASONS[0] == "" and len(set(REASONS)) == len(REASONS) < 128
