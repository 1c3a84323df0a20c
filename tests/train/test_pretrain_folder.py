"""A pre-training on a folder of pictures, some of them damaged, on a real Ray."""

import pytest

from tests.train.runs import TINY, pretrain, write_photos

pytestmark = pytest.mark.slow


def test_a_folder_of_jpegs_with_a_few_damaged_ones(tmp_path):
    """Unreadable pictures, up to the limit, are left out, counted and named."""
    photos = tmp_path / "photos"
    write_photos(photos, count=120)
    (photos / "b").mkdir()
    (photos / "b" / "cut short.jpg").write_bytes((photos / "000.jpg").read_bytes()[:900])
    (photos / "page.JPG").write_text("<html>404</html>")
    done = pretrain(tmp_path, *TINY, f"data.train={photos}", "schedule.length=7it",
                    "speed.workers=1")  # fmt: skip
    assert done.status == 0, done.err
    assert done.record["photos"] == {"train": 61, "val": 61}
    named = {d["name"]: d["reason"] for d in done.record["damaged"]}
    assert named == {"b/cut short.jpg": "damaged", "page.JPG": "not a picture"}
