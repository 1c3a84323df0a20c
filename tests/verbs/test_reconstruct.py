"""`mimray reconstruct`, on a run of four steps and on what is no run."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mimray import load_recipe
from mimray.cli import main
from mimray.data.sources import open_source
from mimray.mim.masks import average_distance, draw
from mimray.report.reconstruction import Cell, Row, Words, draw_masks, draw_rows, film
from mimray.train.console import Console
from mimray.train.launch import launch
from tests.verbs.test_weights import make_run

pytestmark = pytest.mark.unit
torch.set_num_threads(1)  # the tensors are small

SMALL = ["model.encoder=vit_nano", "model.image_size=32", "model.window=null", "mask.unit=16"]
COUNT = 3  # validation pictures
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of some of the shipped validation photos."""
    folder = tmp_path_factory.mktemp("photos")
    for row, data in enumerate(open_source("builtin:photos/val").read(np.arange(COUNT))):
        (folder / f"photo {row}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """Four steps, with checkpoints after the second and the fourth."""
    storage = tmp_path_factory.mktemp("runs")
    words = [
        *(*SMALL, f"data.val={photos}", "target.kind=windowed", "optim.batch=16"),
        *("schedule.length=4it", "schedule.warmup=1it", "run.checkpoint_every=2it", "run.keep=5"),
        *("run.log_every=1it", "run.tracking=off", f"run.storage={storage}", "run.name=mim"),
        *("speed.loader=torch", "speed.loader_processes=0"),
    ]
    launch(load_recipe("demo", words), Console(), lambda rows, title: b"", here=True)
    return storage / "mim"


def untrained(folder, *overrides):
    """As a run leaves its folder, with the weights that it starts from."""
    make_run(folder, *SMALL, *overrides)
    (folder / "run.json").write_text(json.dumps({"recipe_digest": "0", "name": folder.name}))
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def reconstruct(out, capsys):
    """Run `mimray reconstruct --json`, which succeeds; returns what it prints."""

    def call(*words):
        assert main(["reconstruct", *map(str, words), "--out", str(out), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert sorted(result["files"]) == sorted(str(file) for file in out.iterdir())
        return result

    return call


@pytest.fixture
def refused(out, capsys):
    """Run `mimray reconstruct`, which refuses; returns its one line."""

    def call(*words, out=out):
        capsys.readouterr()
        assert main(["reconstruct", *map(str, words), "--out", str(out)]) == 2
        printed, err = capsys.readouterr()
        assert printed == "" and not out.exists()
        (line,) = err.strip().splitlines()
        assert line.startswith("mimray: ")
        return line

    return call


# ----- what it does ---------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_run_s_own_validation(run, photos, reconstruct):
    found = reconstruct("--from", run, photos)
    final = json.loads((run / "run.json").read_text())["final"]
    assert found["step"] == 4 and len(found["pictures"]) == COUNT
    assert found["loss"] == pytest.approx(final["val/loss"], rel=1e-5)
    assert found["skill"] == pytest.approx(final["val/skill"], rel=1e-4)
    fills = [row["fill_nearest"] for row in found["pictures"]]
    assert np.mean(fills) == pytest.approx(final["val/fill_nearest"], rel=1e-5)


def test_other_masks(run, photos, reconstruct):
    words = ("--from", run, photos, "mask.ratio=0.25", "mask.unit=8")
    own, other, again = (reconstruct(*words, "--seed", seed) for seed in (0, 5, 0))
    assert (own["mask"]["unit"], own["mask"]["ratio"]) == (8, 0.25)
    assert {row["hidden_ratio"] for row in own["pictures"]} == {0.25}
    distances = [[row["average_distance"] for row in found["pictures"]] for found in (own, other)]
    assert distances[0] != distances[1] and len(set(distances[0])) > 1
    assert again["pictures"] == own["pictures"]


def test_pictures_of_several_places_have_masks_of_their_own(run, photos, reconstruct):
    files = [photos / "photo 0.jpg", photos / "photo 1.jpg", "builtin:photos/val"]
    words = ("--from", run, "mask.unit=8")  # of two by two cells there are few masks
    found = reconstruct(*words, *files, "--images", 2)
    assert [row["name"] for row in found["pictures"]][:2] == ["photo 0.jpg", "photo 1.jpg"]
    assert len(found["pictures"]) == 4
    own = reconstruct(*words, photos, "--images", 1)["pictures"]
    assert own[0]["name"] == "photo 1.jpg" and own[0] == found["pictures"][1]


def test_one_picture_under_many_masks(run, photos, reconstruct):
    words = ("--units", "8,16", "--ratios", "0.25,50%")
    found = reconstruct("--from", run, photos, "--images", 2, *words)
    assert len([file for file in found["files"] if "masks-" in file]) == 2
    cells = [(cell["unit"], cell["ratio"]) for cell in found["masks"]]
    assert cells == [(8, 0.25), (16, 0.25), (8, 0.5), (16, 0.5)] * 2
    assert [cell["hidden_ratio"] for cell in found["masks"][:4]] == [0.25, 0.25, 0.5, 0.5]
    far = average_distance(draw("random", 32, 16, 8, 0.25, torch.arange(1)), 8)
    assert found["masks"][1]["average_distance"] == pytest.approx(float(far))  # one cell of four


def test_a_video_shows_each_checkpoint(run, photos, reconstruct, capsys):
    found = reconstruct("--from", run, photos, "--images", 1, "--video")
    assert [frame["step"] for frame in found["steps"]] == [2, 4]
    assert found["steps"][1]["loss"] == found["loss"] != found["steps"][0]["loss"]
    film = Image.open(next(file for file in found["files"] if file.endswith("steps.webp")))
    assert film.n_frames == 2
    first = np.asarray(film.convert("RGB"))
    film.seek(1)
    assert (np.asarray(film.convert("RGB")) != first).any()
    second, first = (run / "checkpoints" / f"step-{n:08d}" for n in (4, 2))
    back = reconstruct("--from", second, "--from", first, photos, "--images", 1, "--video")
    assert [frame["step"] for frame in back["steps"]] == [4, 2] and back["step"] == 2


def test_a_file_of_weights_needs_its_recipe(run, photos, reconstruct, refused, tmp_path):
    file = tmp_path / "weights.safetensors"
    shutil.copy(run / "checkpoints" / "step-00000004" / "model.safetensors", file)
    assert "name the recipe of their pre-training (--recipe" in refused("--from", file, photos)
    settings = [*SMALL, "target.kind=windowed"]
    found = reconstruct("--from", file, photos, "--recipe", "demo", *settings)
    own = reconstruct("--from", run, photos)
    assert found["step"] is None and found["pictures"] == own["pictures"]


def test_other_masks_of_a_model_that_skips_what_is_hidden(photos, reconstruct, tmp_path):
    run = untrained(tmp_path / "visible", "model.visible_only=true", "head.kind=transformer")
    found = reconstruct("--from", run, photos, "--images", 1, "--units", "8", "--ratios", "0.3,0.8")
    assert [round(cell["hidden_ratio"], 2) for cell in found["masks"]] == [0.31, 0.81]


def test_what_cannot_be_read_is_left_out_and_named(run, photos, reconstruct, tmp_path, capsys):
    folder = tmp_path / "some"
    shutil.copytree(photos, folder)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    words = ["reconstruct", "--from", str(run), str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed, err = capsys.readouterr()
    assert "torn.jpg: damaged" in err and "photo 2.jpg" in printed


# ----- how it looks ---------------------------------------------------------------------------------


def flat(number, side=32):
    """A picture of one colour, which no letter has."""
    return np.full((side, side, 3), (200, 10, 20 * number + 5), np.uint8)


def place_of(picture, sheet):
    """(top, left, height, width) of a flat picture, which must be whole."""
    rows, columns = np.nonzero((np.asarray(sheet) == picture[0, 0]).all(axis=2))
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    assert len(rows) == height * width
    return top, left, height, width


@pytest.mark.parametrize(("side", "shown"), [(32, 160), (96, 192), (224, 224)])
def test_a_row_s_pictures_lie_side_by_side_and_whole(side, shown):
    pictures = [flat(number, side) for number in range(4)]
    rows = [Row(pictures[:2], "a", [("loss", "0.1")]), Row(pictures[2:], "b" * 99, [])]
    sheet = draw_rows(Words("title", "about " * 50, "note"), ["left", "right"], rows)
    places = [place_of(picture, sheet) for picture in pictures]
    assert {place[2:] for place in places} == {(shown, shown)}
    (top, left, *_), (beside, right, *_), (below, under, *_), _ = places
    assert beside == top and right == left + shown + 3  # the gap
    assert below == top + shown + 3 and under == left
    assert sheet.getpixel((0, 0)) == sheet.getpixel((sheet.width - 1, sheet.height - 1)) == WHITE


def test_cells_lie_in_rows_of_ratios_and_columns_of_units():
    first, second, third, last = (Cell(flat(n), flat(n + 1), "x" * 60) for n in (1, 3, 5, 7))
    words, cells = Words("title", "about " * 80, "note"), [[first, second], [third, last]]
    sheet = draw_masks(words, flat(0), ["8", "16"], ["30%", "60%"], cells)
    original, *places = (place_of(flat(number), sheet) for number in range(9))
    assert {place[2:] for place in places} == {(160, 160)}
    assert len({place[0] for place in places[:4]}) == 1 and original[0] == places[0][0]
    lefts = [place[1] for place in places]
    assert lefts[:4] == lefts[4:] == sorted(lefts[:4]) and original[1] < lefts[0]
    assert places[4][0] > places[0][0] + 160


def test_a_film_holds_frames_of_every_size():
    frames = [
        Image.new("RGB", size, colour) for size, colour in (((40, 20), "red"), ((30, 50), "blue"))
    ]
    played = Image.open(io.BytesIO(film(frames)))
    assert played.n_frames == 2 and played.size == (40, 50)
    assert played.convert("RGB").getpixel((35, 45)) == WHITE  # below the first


# ----- what it refuses ------------------------------------------------------------------------------


def test_pictures_that_are_none(run, photos, refused, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    assert "neither Parquet files nor pictures" in refused("--from", run, tmp_path / "notes.txt")
    assert "torn.jpg: damaged" in refused("--from", run, tmp_path / "torn.jpg")
    assert "no such file or folder" in refused("--from", run, tmp_path / "nowhere.jpg")
    assert "name pictures: files, folders" in refused("--from", run, "mask.ratio=0.5")
    assert "lower --images" in refused("--from", run, "builtin:photos/train", "--images", 101)


def test_checkpoints_that_are_none(run, photos, refused, tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    assert "not a checkpoint" in refused("--from", tmp_path / "notes.txt", photos)
    assert "no such file or folder" in refused("--from", tmp_path / "nowhere", photos)
    weights = load_file(run / "checkpoints" / "step-00000004" / "model.safetensors")
    encoder = {name: w for name, w in weights.items() if name.startswith("encoder.")}
    save_file(encoder, tmp_path / "encoder.safetensors")
    words = ("--from", tmp_path / "encoder.safetensors", photos, "--recipe", "demo", *SMALL)
    assert "does not hold all of the model (head." in refused(*words)
    assert "of a run, which knows its own" in refused("--from", run, photos, "--recipe", "demo")


def test_runs_that_predict_no_pictures(photos, refused, tmp_path):
    hog = untrained(tmp_path / "hog", "target.kind=hog")
    assert "(target.kind=hog) is no picture" in refused("--from", hog, photos)
    classifier = untrained(tmp_path / "classifier")
    (classifier / "recipe.yaml").write_text("task: classify\n")
    assert "is of a fine-tuned classifier" in refused("--from", classifier, photos)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("mask.unit=12", "mask.unit=12 does not divide model.image_size=32; take"),
        ("mask.unit=4", "mask.unit=4 is not a multiple of vit_nano's patch 8; take"),
        ("mask.ratio=0.9", "mask.ratio=0.9 hides all 4 cells"),
        ("head.kind=mlp", "head.kind is the run's own, and its weights are of no other"),
        ("model.image_size=36 mask.unit=12", "mask.unit=12 is not a multiple of vit_nano's patch"),
        ("--units 4", "mask.unit=4 is not a multiple of 8"),
        ("--ratios 0.5,0.9", "mask.ratio=0.9 hides all 4 cells"),
        ("--seed -1", "--seed -1: must be 0 to"),
    ],
)
def test_settings_that_do_not_fit(run, photos, refused, settings, words):
    assert words in refused("--from", run, photos, *settings.split())


def test_videos_of_too_little(run, photos, refused, tmp_path):
    short = tmp_path / "short"
    shutil.copytree(run, short)
    shutil.rmtree(short / "checkpoints" / "step-00000002")
    assert "keeps 1 checkpoint, and a video needs 2" in refused("--from", short, photos, "--video")
    many = ("builtin:photos/val", "--images", 13, "--video")
    assert "at most 12 pictures, not 13" in refused("--from", run, *many)
    two = ("--from", run, "--from", short)
    assert "2 checkpoints are the frames of a video" in refused(*two, photos)
    other = untrained(tmp_path / "other", "model.image_size=64")
    words = ("--from", other, "--from", run, photos, "--video")
    assert "takes pictures of 64 px and the last of them of 32" in refused(*words)


def test_a_folder_that_cannot_be_written(run, photos, refused, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = ("--from", run, photos)
    assert "cannot be written" in refused(*words, out=tmp_path / "file" / "out")
