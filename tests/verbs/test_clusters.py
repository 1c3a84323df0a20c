"""`mimray data clusters`, as it is typed, and what training makes of its file."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mimray.cli import main
from mimray.data.sources import open_source
from mimray.mim.kmeans import nearest, squared_distances
from mimray.mim.normalisation import normalise
from mimray.mim.targets import build_target
from mimray.mim.targets.patches import standardise, to_patches
from mimray.recipe import TargetSettings
from mimray.verbs.data.pieces import cut_out, sample, vectors
from tests.data.conftest import encode

pytestmark = pytest.mark.unit

PHOTOS = "builtin:photos/train"
FEW = ("--clusters", "16", "--images", "30")


@pytest.fixture
def mimray(capsys):
    """Run a command in process: (status, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        status = main(["data", "clusters", *map(str, words)])
        return status, *capsys.readouterr()

    return run


def flat(folder: Path, colours, side=64):
    """Pictures of one colour each."""
    folder.mkdir()
    for number, colour in enumerate(colours):
        pixels = np.broadcast_to(np.array(colour, dtype=np.uint8), (side, side, 3))
        (folder / f"{number}.png").write_bytes(encode(np.ascontiguousarray(pixels)))
    return folder


class TestColours:
    def test_those_of_flat_pictures_are_found(self, mimray, tmp_path):
        colours = [[10, 20, 30], [200, 100, 0], [255, 255, 255]]
        folder, out = flat(tmp_path / "pictures", colours), tmp_path / "c.safetensors"
        status, said, err = mimray(folder, "--out", out, "--clusters", 3)
        assert status == 0 and err == "clustering 768 pixels of 3 pictures\n"
        assert f"3 clusters of pixels: {out}" in said
        assert "distortion  0, the mean squared distance to the centre; 0.0% of their" in said
        assert f"target.kind=clusters target.resolution=48 target.file={out}" in said
        target = build_target(TargetSettings(kind="clusters", file=str(out)), 8)
        assert sorted(target.colours.tolist()) == colours
        pictures = torch.tensor(colours).view(3, 3, 1, 1).expand(3, 3, 8, 8)
        assert torch.equal(
            target.colours[target(normalise(pictures))[:, 0, 0, 0]], pictures[..., 0, 0]
        )

    def test_one_object_and_what_stands_in_the_file(self, mimray, tmp_path):
        out = tmp_path / "c.safetensors"
        status, said, _ = mimray(PHOTOS, "--out", out, *FEW, "--seed", 3, "--json")
        (line,) = said.splitlines()
        found = json.loads(line)
        assert status == 0
        assert (found["clusters"], found["patch"], found["images"]) == (16, 1, 30)
        assert (found["vectors"], found["unreadable"], found["seed"]) == (30 * 256, 0, 3)
        assert found["source"] == open_source(PHOTOS).digest
        assert 0 < found["distortion"] < 0.1 * found["variance"]
        with safe_open(out, "pt") as file:
            assert list(file.keys()) == ["colours"] and file.get_tensor("colours").shape == (16, 3)
            about = file.metadata()
        assert about == {name: str(value) for name, value in found.items() if name != "file"}

    def test_the_same_words_give_the_same_colours_and_another_seed_others(self, mimray, tmp_path):
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            assert mimray(PHOTOS, "--out", tmp_path / name, *FEW, "--seed", seed)[0] == 0
        first, again, other = (
            build_target(TargetSettings(kind="clusters", file=str(tmp_path / name)), 8).colours
            for name in "abc"
        )
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_codebook_of_patches_is_what_the_tokenizer_looks_up(mimray, tmp_path):
    out = tmp_path / "p.safetensors"
    status, said, _ = mimray(PHOTOS, "--out", out, *FEW, "--patch", 16)
    assert status == 0 and "16 clusters of patches" in said
    assert "30 (960 patches), seed 0" in said
    module = "mimray.mim.targets.patch_codebook:PatchCodebook"
    assert f"target.kind=tokens target.module={module} target.file={out}" in said
    settings = TargetSettings(kind="tokens", module=module, file=str(out))
    target = build_target(settings, 64)
    assert (target.classes, target.pixel) == (16, 16)
    data = open_source(PHOTOS).read(np.arange(20))
    seen = torch.from_numpy(np.concatenate([cut_out(d, 0, 64, 0) for d in data]))
    tokens = target(normalise(seen))
    patches = standardise(to_patches(normalise(seen), 16)).flatten(0, 2)
    labels, codebook = tokens.flatten(), target.frozen[0].codebook
    assert torch.equal(labels, nearest(patches, codebook)) and len(labels.unique()) > 8
    assert (
        squared_distances(patches, codebook, labels).mean() < 0.9 * patches.square().sum(1).mean()
    )


def test_a_job_takes_the_same_words(tmp_path, monkeypatch, capsys):
    words = [PHOTOS, "--out", str(tmp_path / "c"), *FEW]
    monkeypatch.setattr(sys, "argv", ["clusters.py", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(__file__).parents[2] / "jobs/clusters.py"), run_name="__main__")
    assert ended.value.code == 0 and (tmp_path / "c").is_file()


def test_what_cannot_be_read_is_left_out_and_counted(mimray, tmp_path):
    folder = flat(tmp_path / "pictures", [[0, 0, 0], [255, 0, 0]])
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:60])
    found = json.loads(mimray(folder, "--out", tmp_path / "c", "--clusters", 2, "--json")[1])
    assert (found["images"], found["unreadable"]) == (2, 1)
    for file in folder.glob("[0-9]*"):
        file.unlink()
    status, _, err = mimray(folder, "--out", tmp_path / "d", "--clusters", 2)
    assert status == 2 and err == f"mimray: {folder}: none of 1 pictures can be read\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--clusters", 1], "--clusters 1: must be 2 to 65,536"),
        (["--patch", 0], "--patch 0: must be 1 to 64"),
        (["--images", 0], "--images 0: must be 1 to 1,000,000"),
        (["--seed", -1], "--seed -1: must be 0 to"),
        (["--clusters", 3], "3 clusters are too many: of 512 points only 2 differ; take fewer, or"),
        (["--out", "/proc/c"], "--out /proc/c: cannot be written: "),
    ],
)
def test_what_a_user_gets_wrong(mimray, tmp_path, words, says):
    folder = flat(tmp_path / "pictures", [[0, 0, 0], [255, 0, 0]])
    status, said, err = mimray(folder, "--out", tmp_path / "c", "--clusters", 2, *words)
    assert (status, said) == (2, "")
    assert err.splitlines()[-1].startswith("mimray: ") and says in err.splitlines()[-1]
    assert not (tmp_path / "c").exists()


def test_nothing_is_written_over(mimray, tmp_path):
    (tmp_path / "c").write_text("mine")
    status, _, err = mimray(PHOTOS, "--out", tmp_path / "c")
    assert status == 2 and f"--out {tmp_path}/c is there already" in err
    assert (tmp_path / "c").read_text() == "mine"
    assert f"--out {tmp_path} is a folder" in mimray(PHOTOS, "--out", tmp_path)[2]


class TestPieces:
    def test_a_sample_is_hashed_and_grows_with_its_count(self):
        source = open_source(PHOTOS)
        few, more, others = sample(source, 20, 0), sample(source, 60, 0), sample(source, 20, 1)
        assert len(set(few)) == 20 and set(few) < set(more) and set(few) != set(others)
        assert (np.diff(few) > 0).all()
        assert np.array_equal(sample(source, 10_000, 0), np.arange(880))

    def test_a_sample_of_large_data_keeps_to_some_row_groups(self, monkeypatch):
        source = open_source(PHOTOS)
        monkeypatch.setattr("mimray.verbs.data.pieces.SAMPLE_BYTES", 1)
        rows = sample(source, 100, 0)
        groups = np.unique(np.searchsorted(np.cumsum(source.groups), rows, side="right"))
        assert len(set(rows)) == 100 and len(groups) == 8 < len(source.groups)
        assert not np.array_equal(rows, sample(source, 100, 1))

    @pytest.mark.parametrize(("patch", "count"), [(1, 256), (8, 128), (16, 32), (64, 2)])
    def test_pieces_are_parts_of_the_picture_the_same_each_time(self, patch, count):
        y, x = np.mgrid[:192, :192].astype(np.uint8)
        data = encode(np.stack([y, x, y ^ x], axis=-1))
        pieces = cut_out(data, 5, patch, 0)
        assert pieces.shape == (count, 3, patch, patch) and pieces.dtype == np.uint8
        step = np.arange(patch)
        rows, columns = pieces[:, 0], pieces[:, 1]
        assert (rows == rows[:, :1, :1] + step[:, None]).all()
        assert (columns == columns[:, :1, :1] + step).all()
        assert (pieces[:, 2] == rows ^ columns).all()
        assert np.array_equal(pieces, cut_out(data, 5, patch, 0))
        assert not np.array_equal(pieces, cut_out(data, 6, patch, 0))
        assert not np.array_equal(pieces, cut_out(data, 5, patch, 1))

    def test_colours_keep_their_levels_and_patches_lose_theirs(self):
        pieces = torch.arange(48, dtype=torch.uint8).view(4, 3, 2, 2) ** 2
        assert torch.equal(vectors(pieces[..., :1, :1]), pieces[..., 0, 0].float())
        expected = standardise(to_patches(normalise(pieces), 2))[:, 0, 0]
        torch.testing.assert_close(vectors(pieces), expected)
