import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

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


def test_exif_rotation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(photo(exif=exif)).shape == (48, 64, 3)


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


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF"])
def test_pictures_of_other_formats_are_told_so(format):
    assert reason(encode(noise(), format)) == "format"


@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (100, 7), (3, 2000)])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_seven_pixels_are_too_small(shape, format):
    assert reason(encode(noise(*shape), format)) == "too small"


def test_eight_pixels_are_enough():
    assert decode(encode(noise(8, 8))).shape == (8, 8, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("width", [20_000, 60_000])
def test_size_is_judged_before_anything_is_decoded(width):
    height = MAX_PIXELS // width + 1
    png = bytearray(encode(noise()))
    png[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    jpeg = bytearray(photo())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    assert reason(bytes(png)) == reason(bytes(jpeg)) == "too many pixels"


def test_a_reason_travels_as_its_place_in_the_list():
    assert REASONS[0] == "" and len(set(REASONS)) == len(REASONS) < 128


def test_hard_pictures_are_kept_or_told_why_not(shared):
    folder = shared / "data/hard"
    for case in json.loads((folder / "manifest.json").read_text()):
        data = (folder / case["file"]).read_bytes()
        if case["expected"] == "keep":
            width, height = case["size"]
            assert decode(data).shape == (height, width, 3), case["file"]
        else:
            assert reason(data) == case["reason"], case["file"]
