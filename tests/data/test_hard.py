"""The agreed verdicts on awkward pictures: on those that travel with the project, and on all."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimray.data.decode import Unreadable, decode

pytestmark = pytest.mark.unit

HERE = Path(__file__).parent / "hard"
CASES = json.loads((HERE / "manifest.json").read_text())
NOT_OURS = ("grey.jpg", "rotated_found.jpg", "orientation_invalid.jpg", "depth_16bit.png")


def cases():
    """Every case with the folder in which it lies; those that do not travel need `shared`."""
    ours = [(case["file"], "here") for case in CASES]
    return ours + [(name, "shared") for name in NOT_OURS]


def pillow(data):
    """What a lenient reader shows: 16 bits in one channel, which Pillow clips, by the high byte."""
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def check(case, data):
    if case["expected"] == "quarantine":
        with pytest.raises(Unreadable) as caught:
            decode(data)
        assert caught.value.reason == case["reason"]
        return
    width, height = case["size"]
    picture = decode(data)
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - pillow(data)).max() <= 4  # two builds of one JPEG decoder
    width, height = case.get("upright_size", case["size"])
    assert decode(data, upright=True).shape == (height, width, 3)


@pytest.mark.parametrize(("name", "place"), cases())
def test_an_awkward_picture_gets_its_verdict(name, place, request):
    folder = HERE if place == "here" else request.getfixturevalue("shared") / "data/hard"
    manifest = {c["file"]: c for c in json.loads((folder / "manifest.json").read_text())}
    check(manifest[name], (folder / name).read_bytes())


def test_no_case_is_left_out_and_the_copies_are_true(shared):
    everything = json.loads((shared / "data/hard/manifest.json").read_text())
    assert [c for c in everything if c["file"] not in NOT_OURS] == CASES
    assert len(everything) == len(cases()) == 23
    for case in CASES:
        original = shared / "data/hard" / case["file"]
        assert (HERE / case["file"]).read_bytes() == original.read_bytes()
