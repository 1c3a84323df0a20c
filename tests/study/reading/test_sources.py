"""From the subsets of a study's file to the law's pictures: what is of one source."""

import pytest

from mimray.study.reading.gains import gains
from mimray.study.reading.table import Run, StudyTable
from mimray.study.scaling.cells import load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.table import study_rows

pytestmark = pytest.mark.unit

STUDY = """
recipe: demo
set: {{data.val: builtin:photos/val, speed.workers: 1, speed.device: cpu, run.tracking: "off"}}
encoders: [swin_nano]
subsets: {subsets}
lengths: [4]
"""


@pytest.fixture
def sources(tmp_path):
    """`sources(subsets)` -> the table's source of each subset."""

    def of(subsets):
        (tmp_path / "s.yaml").write_text(STUDY.format(subsets=subsets))
        laid = load_study(str(tmp_path / "s.yaml"), [f"run.storage={tmp_path / 'runs'}"])
        rows = study_rows(laid.cells, (), StudyFolder(laid))
        return {row["data"]: row["source"] for row in rows}

    return of


@pytest.mark.parametrize(
    ("subsets", "wanted"),
    [
        ("{tenth: 10%, half: 0.5, all: 100%}", ["all", "all", "all"]),
        ("{tenth: 10%, half: 50%}", ["half", "half"]),
        ("{photos 10%: 10%, photos 100%: 100%}", ["photos", "photos"]),
        ("[10%, 100%]", ["train", "train"]),
        ("{photos 5%: 5%, photos: 100%, cats: c.parquet}", ["photos", "photos", "cats"]),
        ("{photos 5%: m.parquet, photos: 100%}", ["photos", "photos"]),
        ("{photos: 100%, others: {data.train: /data/others}}", ["photos", "others"]),
        (
            "{10%: 10%, 20%: {data.train: /data/train, data.subset: 20%}}",
            ["train", "/data/train"],
        ),
    ],
)
def test_shares_of_the_same_pictures_have_one_source(sources, subsets, wanted):
    assert list(sources(subsets).values()) == wanted


def test_subsets_without_a_percent_in_their_names_are_steps_of_data(sources):
    images = {"tenth": 88.0, "half": 440.0, "all": 880.0}
    source = sources("{tenth: 10%, half: 50%, all: 100%}")
    runs = tuple(
        Run(
            "m", data, length, 0.5 - 1e-4 * count - 1e-5 * length, images=count, source=source[data]
        )
        for data, count in images.items()
        for length in (1, 2)
    )
    found = {gain.factor: gain for gain in gains(StudyTable("t", runs))}
    assert "source" not in found and found["data"].before == ("half",)
    assert found["data"].loss.mean == pytest.approx(-0.044)
