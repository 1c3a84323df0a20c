import io
import json
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimray.data import inspect
from mimray.data.decode import REASONS
from mimray.data.exif import orientation
from mimray.data.headers import mode as decode_mode
from mimray.data.inspect import (
    evenly,
    format_of,
    in_class_order,
    look,
    look_at,
    rows_to_look_at,
    share_interval,
    whole_groups,
)
from mimray.data.sheet import CELL, draw_sheet, thumbnail
from mimray.data.sources import open_source
from tests.data.conftest import encode, noise, write_parquet
from tests.data.test_poison import with_chunk

pytestmark = pytest.mark.unit


class TestSample:
    @given(total=st.integers(1, 10**9), share=st.floats(0, 1))
    def test_even_places_cover_the_whole(self, total, share):
        count = max(1, int(min(total, 5000) * share))
        places = evenly(total, count)
        steps = np.diff(np.concatenate([[-1], places, [total]]))
        assert len(np.unique(places)) == count
        assert steps.max() <= 1.5 * total / count + 1

    @given(
        groups=st.lists(st.integers(1, 40), min_size=1, max_size=60),
        count=st.integers(1, 200),
        kept=st.integers(1, 20),
    )
    def test_rows_are_real_ascending_and_of_few_groups(self, groups, count, kept):
        source = Groups(np.array(groups), kept)
        rows = rows_to_look_at(source, count)
        assert (np.diff(rows) > 0).all()
        assert rows[0] >= 0 and rows[-1] < len(source)
        if count >= len(source):
            assert len(rows) == len(source)
            return
        touched = np.unique(np.searchsorted(np.cumsum(groups), rows, side="right"))
        assert len(touched) <= max(kept, inspect._FEWEST_GROUPS)

    def test_several_rows_of_a_group_are_spread_over_it(self):
        source = Groups(np.full(100, 1000), kept=10)
        rows = rows_to_look_at(source, 500)
        groups, counts = np.unique(rows // 1000, return_counts=True)
        assert len(groups) == 10 and set(counts) == {50}
        assert set(np.diff(np.sort(rows[:50] % 1000))) == {20}

    @given(groups=st.lists(st.integers(1, 40), min_size=1, max_size=30), least=st.integers(1, 64))
    def test_a_group_is_read_in_one_piece(self, groups, least):
        source = Groups(np.array(groups), 1)
        pieces = list(whole_groups(source, np.arange(len(source)), least))
        assert [p.start for p in pieces] == [0, *(p.stop for p in pieces[:-1])]
        assert pieces[-1].stop == len(source)
        assert {p.stop for p in pieces} <= set(np.cumsum(groups).tolist())
        assert all(least <= p.stop - p.start < least + max(groups) for p in pieces[:-1])

    def test_all_is_all(self):
        assert rows_to_look_at(Groups(np.array([3, 4]), 1), None).tolist() == list(range(7))


class Groups:
    """A source of which only the sizes matter: a sample may read `kept` of its groups."""

    def __init__(self, groups, kept):
        self.groups, self.kept = groups, kept

    def __len__(self):
        return int(self.groups.sum())

    def parts(self):
        return [("all", len(self.groups) * (inspect.SAMPLE_BYTES // self.kept), len(self))]


class TestLook:
    def test_what_a_picture_is(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encode(noise(), "JPEG", exif=exif)
        found = look(7, data)
        assert (found.row, found.size, found.format, found.mode) == (7, len(data), "JPEG", "RGB")
        assert (found.width, found.height, found.turned, found.reason) == (32, 24, True, "")
        assert found.thumbnail is None
        assert look(7, data, 16).thumbnail.shape == (16, 16, 3)

    @pytest.mark.parametrize(
        ("picture", "format", "mode"),
        [
            (Image.fromarray(noise()).convert("L"), "PNG", "grey"),
            (Image.fromarray(noise()).convert("CMYK"), "JPEG", "CMYK"),
            (Image.fromarray(noise()).convert("RGBA"), "PNG", "RGB with alpha"),
            (Image.fromarray(noise()).quantize(9), "PNG", "palette"),
            (Image.fromarray(noise()[..., 0].astype(np.uint16)), "PNG", "grey of 16 bits"),
            (Image.fromarray(noise()), "WEBP", "RGB"),
        ],
    )
    def test_modes_by_peoples_names(self, picture, format, mode):
        found = look(0, encode(picture, format))
        assert (found.mode, found.format.upper(), found.reason) == (mode, format, "")

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
    @pytest.mark.parametrize("options", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True},
                                         {"format": "PNG"}, {"format": "WEBP"},
                                         {"format": "WEBP", "lossless": True},
                                         {"format": "WEBP", "exif": b"Exif\0\0"}])  # fmt: skip
    def test_the_mode_is_pillows(self, mode, options):
        picture = Image.fromarray(noise()).convert(mode)
        if "A" in mode:
            picture.putalpha(Image.fromarray(noise(seed=1)[..., 0]))
        try:
            data = encode(picture, **options)
        except OSError:
            pytest.skip("this format has no such mode")
        pillows = Image.open(io.BytesIO(data)).mode
        assert decode_mode(data) == pillows
        assert look(0, data).mode == inspect._MODES.get(pillows, pillows)

    @pytest.mark.parametrize(
        ("name", "body"),
        [
            *((b"pHYs", b"\0"), (b"cHRM", b"\0"), (b"sRGB", b""), (b"gAMA", b"")),
            (b"zTXt", b"a\0\0" + zlib.compress(bytes(50 << 20), 9)),
        ],
    )
    def test_what_a_decoder_skips_is_not_opened(self, name, body):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = with_chunk(encode(noise(), exif=exif), name, body)
        found = look(0, data)
        assert (found.mode, found.reason, found.turned) == ("RGB", "", True)

    def test_a_closer_look_warns_of_nothing(self):
        large = encode(np.zeros((9500, 10_000), dtype=bool))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert look(0, large).mode == "one bit"

    @given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(max_size=40))
    def test_headers_alone_never_raise(self, format, rest):
        start = encode(noise(), format)[: 40 - len(rest)]
        for data in (start + rest, rest):
            assert isinstance(decode_mode(data), str) and orientation(data) in range(1, 9)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
    def test_the_format_is_told_by_content(self, format):
        assert format_of(encode(noise(), format)) == format
        assert format_of(b"<html>") == format_of(b"") == "other"

    def test_damaged_exif_is_upright(self):
        exif = Image.Exif()
        exif[0x0112] = 8
        data = encode(noise(), "JPEG", exif=exif)
        assert orientation(data) == 8
        at = data.index(b"Exif\0\0") + 6
        assert orientation(data[:at] + b"\xff" * 12 + data[at + 12 :]) == 1

    def test_a_whole_source_in_order_of_row(self, tmp_path):
        pictures = [encode(noise(seed=i)) for i in range(150)]
        pictures[70] = b"no picture"
        write_parquet(tmp_path / "x.parquet", pictures, group=11)
        source = open_source(str(tmp_path))
        looks = [
            one for part in look_at(source, np.arange(150), frozenset({3, 70}), 8) for one in part
        ]
        assert [one.row for one in looks] == list(range(150))
        assert [one.row for one in looks if one.reason] == [70]
        assert [one.row for one in looks if one.thumbnail is not None] == [3]

    def test_the_hard_pictures(self, shared):
        folder = shared / "data/hard"
        for case in json.loads((folder / "manifest.json").read_text()):
            found = look(0, (folder / case["file"]).read_bytes())
            assert found.reason == (case.get("reason", "")), case["file"]
            assert found.reason in REASONS
            if case["expected"] == "keep":
                assert [found.width, found.height] == case["size"]


class TestInterval:
    def test_it_is_wilsons_for_independent_pictures(self):
        bad = np.arange(2000) < 16
        low, high = share_interval(bad, np.arange(2000))
        assert (round(low, 5), round(high, 5)) == (0.00493, 0.01296)  # by hand

    def test_none_found_does_not_mean_none_there(self):
        low, high = share_interval(np.zeros(200, dtype=bool), np.arange(200))
        assert low == 0 and 0.01 < high < 0.02

    def test_damage_that_comes_in_groups_tells_less(self):
        group = np.repeat(np.arange(20), 100)
        whole_group = group == 3
        scattered = np.arange(2000) % 20 == 3
        _, high = share_interval(whole_group, group)
        _, alone = share_interval(scattered, group)
        assert high > 2 * alone
        assert alone == pytest.approx(share_interval(scattered, np.arange(2000))[1])

    @pytest.mark.parametrize("share", [0.01, 0.2])
    def test_it_holds_the_truth_about_as_often_as_it_says(self, share):
        draws = np.random.default_rng(0).random((400, 500)) < share
        held = [low <= share <= high for low, high in
                (share_interval(bad, np.arange(500)) for bad in draws)]  # fmt: skip
        assert 0.92 <= np.mean(held) <= 0.99


class TestClassOrder:
    def test_classes_one_after_another_in_a_large_source(self):
        labels = np.repeat(np.arange(10), 1000)
        assert in_class_order(labels, 8192)
        assert not in_class_order(np.random.default_rng(0).permutation(labels), 8192)

    def test_a_window_of_everything_mixes_everything(self):
        assert not in_class_order(np.repeat(np.arange(10), 100), 8192)

    def test_one_class_has_no_order(self):
        assert not in_class_order(np.zeros(10_000, dtype=np.int64), 8192)


class TestSheet:
    def test_pictures_lie_row_by_row_and_why_stands_where_one_is_missing(self):
        colours = [np.full((CELL, CELL, 3), shade, dtype=np.uint8) for shade in range(0, 90, 10)]
        sheet = np.asarray(Image.open(io.BytesIO(draw_sheet([*colours, "damaged"]))))
        assert sheet.shape == (2 * (CELL + 4) + 4, 8 * (CELL + 4) + 4, 3)
        assert (sheet[4 : 4 + CELL, 4 + 132 : 132 + 4 + CELL] == 10).all()
        assert (sheet[136 : 136 + CELL, 4 : 4 + CELL] == 80).all()
        missing = sheet[136 : 136 + CELL, 136 : 136 + CELL]
        assert missing.min() == 90 and missing.max() > 200

    def test_few_pictures_make_a_small_sheet(self):
        picture = thumbnail(noise(40, 90), CELL)
        assert Image.open(io.BytesIO(draw_sheet([picture]))).size == (CELL + 8, CELL + 8)

    def test_a_thumbnail_is_the_centre(self):
        wide = np.zeros((10, 30, 3), dtype=np.uint8)
        wide[:, 10:20] = 200
        assert (thumbnail(wide, 8) == 200).all()
