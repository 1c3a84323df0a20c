"""`mimray data inspect` and `mimray data prepare`, as they are typed."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimray.cli import main
from mimray.data.decode import decode
from mimray.data.prepare import Destination, Plan
from mimray.data.shards import Shard, write_shard
from mimray.data.sources import open_source
from mimray.verbs.data.findings import print_findings
from mimray.verbs.data.progress import Progress, size
from tests.data.conftest import encode, noise
from tests.faults.harness import family
from tests.train.runs import environment

PHOTOS = "builtin:photos/train"


@pytest.fixture
def mimray(capsys):
    """Run a command in process: (status, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


def write_photos(folder: Path, count: int, damaged: int = 0) -> Path:
    """Shipped photos in folders of their classes, and some files that are none."""
    source = open_source(PHOTOS)
    labels = source.labels()
    for row, data in enumerate(source.read(np.arange(count))):
        file = folder / source.classes[labels[row]] / f"{row:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    for number in range(damaged):
        (folder / "hat" / f"torn {number}.jpg").write_bytes(
            source.read(np.array([number]))[0][:700]
        )
    return folder


@pytest.mark.unit
class TestInspect:
    def test_the_shipped_photos(self, mimray):
        status, out, err = mimray("data", "inspect", PHOTOS)
        assert (status, err) == (0, "")
        assert "files     3 (2.8 MB), 15 row groups of 64 pictures (median)" in out
        assert "10: dress, hat, longsleeve, outwear, pants, ..." in out
        assert "88 pictures each" in out
        assert "looked at all 880 pictures" in out
        assert "unreadable  0\n" in out
        assert out.rstrip().endswith(f"use it: mimray pretrain demo data.train={PHOTOS}")
        assert max(len(line) for line in out.splitlines()) <= 100
        assert len(out.splitlines()) <= 24

    def test_one_object(self, mimray, tmp_path):
        folder = write_photos(tmp_path, 60, damaged=2)
        status, out, _ = mimray("data", "inspect", folder, "--json")
        (line,) = out.splitlines()
        found = json.loads(line)
        assert status == 0
        source = open_source(str(folder))
        assert (found["rows"], found["files"], found["looked_at"]) == (62, 62, 62)
        assert found["digest"] == source.digest
        assert found["bytes"] == sum(f.stat().st_size for f in folder.rglob("*.jpg"))
        counts = dict(zip(found["classes"]["names"], found["classes"]["pictures"], strict=True))
        assert counts == {f.name: len(list(f.iterdir())) for f in folder.iterdir()}
        assert found["formats"] == {"JPEG": 62} and found["modes"] == {"RGB": 60}
        shapes = [decode(f.read_bytes()).shape for f in sorted(folder.rglob("[0-9]*.jpg"))]
        assert found["width"]["max"] == max(w for _, w, _ in shapes)
        assert found["height"]["median"] in sorted(h for h, _, _ in shapes)[29:31]
        bad = found["unreadable"]
        assert (bad["count"], bad["reasons"]) == (2, {"damaged": 2})
        assert bad["interval"] == [bad["share"]] * 2 == [2 / 62] * 2
        assert [one["name"] for one in bad["pictures"]] == ["hat/torn 0.jpg", "hat/torn 1.jpg"]

    def test_a_sample_says_what_it_does_not_know(self, mimray):
        found = json.loads(mimray("data", "inspect", PHOTOS, "--sample", "100", "--json")[1])
        assert (found["looked_at"], found["rows"]) == (100, 880)
        assert found["unreadable"]["interval"][0] == 0 < found["unreadable"]["interval"][1] < 0.05
        out = mimray("data", "inspect", PHOTOS, "--sample", "100")[1]
        assert "looked at 100 pictures" in out
        assert "of all 0 to 3.7 % (95 % interval)" in out

    def test_what_to_do_about_it(self, mimray, tmp_path):
        folder = write_photos(tmp_path / "some", 60, damaged=2)
        out = mimray("data", "inspect", folder)[1]
        assert "2 pictures cannot be read (3.2%); a run leaves them out" in out
        assert "hat/torn 1.jpg: damaged" in out
        folder = write_photos(tmp_path / "many", 20, damaged=2)
        assert "9.1% cannot be read: a run stops" in mimray("data", "inspect", folder)[1]
        (tmp_path / "large").mkdir()
        (tmp_path / "large/a.png").write_bytes(encode(noise(600, 700)))
        assert "the pictures are large" in mimray("data", "inspect", tmp_path / "large")[1]

    def test_what_to_do_about_order_and_large_row_groups(self, mimray, capsys):
        found = json.loads(mimray("data", "inspect", PHOTOS, "--json")[1])
        found["classes"]["in_order"] = True
        found["bytes"] = 15 * 300_000_000
        print_findings(found)
        out = capsys.readouterr().out
        assert f"class by class: `mimray data prepare {PHOTOS} FOLDER --shuffle 0` mixes" in out
        assert "its row groups are large" in out

    def test_the_sheet(self, mimray, tmp_path):
        status, out, _ = mimray("data", "inspect", PHOTOS, "--sheet", tmp_path / "s.png")
        assert status == 0 and f"some of them: {tmp_path}/s.png" in out
        sheet = Image.open(tmp_path / "s.png")
        assert (sheet.format, sheet.size) == ("PNG", (8 * 132 + 4, 6 * 132 + 4))
        assert np.asarray(sheet).std() > 30

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["/no/such/place"], "/no/such/place: no such file or folder"),
            (["builtin:pictures"], "built in are builtin:photos/train"),
            (["s4://bucket/x"], "s4://bucket/x"),
            ([PHOTOS, "--sheet", "sheet.jpg"], "name a file that ends in .png"),
            ([PHOTOS, "--sheet", "/proc/sheet.png"], "/proc/sheet.png: cannot be written"),
        ],
    )
    def test_what_a_user_gets_wrong(self, mimray, words, says):
        status, out, err = mimray("data", "inspect", *words)
        assert (status, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("mimray: ") and says in line

    def test_a_sample_that_is_no_number(self, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["data", "inspect", PHOTOS, "--sample", "many"])
        assert stopped.value.code == 2
        assert "'many' is neither a positive number nor `all`" in capsys.readouterr().err


@pytest.mark.unit
class TestPrepareRefuses:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["--shorter-side", "4"], "--shorter-side 4: must be 8 to 65,500"),
            (["--shorter-side", "64", "--quality", "101"], "--quality 101: must be 1 to 100"),
            (["--quality", "80"], "--quality needs --shorter-side"),
            (["--rows-per-shard", "0"], "--rows-per-shard 0"),
            (["--row-group-size", "-1"], "--row-group-size -1"),
            (["--shuffle", "-1"], "--shuffle -1"),
        ],
    )
    def test_settings_that_cannot_be_meant(self, mimray, tmp_path, words, says):
        status, out, err = mimray("data", "prepare", PHOTOS, tmp_path / "out", *words)
        assert (status, out) == (2, "")
        assert says in err and len(err.splitlines()) == 1
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("inside", ["", "/shards", "/hat/shards"])
    def test_a_place_among_the_pictures(self, mimray, tmp_path, inside):
        folder = write_photos(tmp_path / "photos", 40)
        for source in (folder, f"{folder}/*.jpg"):
            status, _, err = mimray("data", "prepare", source, f"{folder}{inside}")
            assert status == 2 and "where the pictures come from" in err
        assert not list(folder.rglob(".prepare"))


@pytest.mark.unit
class TestSubset:
    def test_a_place_that_takes_no_file(self, mimray, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        for place, says in (
            (tmp_path / "folder", "is a folder; name a file in it"),
            (tmp_path / "file/rows.parquet", "cannot be written: File exists"),
            ("/proc/rows.parquet", "cannot be written: "),
        ):
            status, out, err = mimray("data", "subset", PHOTOS, place, "--fraction", "0.1")
            assert (status, out) == (2, "")
            (line,) = err.splitlines()
            assert line.startswith(f"mimray: {place}") and says in line
        assert sorted(f.name for f in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.unit
class TestProgress:
    def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(self):
        terminal, pipe = io.StringIO(), io.StringIO()
        terminal.isatty = lambda: True
        for stream in (terminal, pipe):
            progress = Progress(1000, done=200, stream=stream)
            progress.start -= 10
            progress.shown_at -= 10
            progress.show(600)
            progress.show(700)  # too soon
        assert terminal.getvalue().startswith("\r[##############..........]  600/1,000 pictures")
        assert pipe.getvalue() == "600/1,000 pictures  40 a second  10 s left\n"

    @pytest.mark.parametrize(
        ("count", "text"),
        [(812, "812 bytes"), (34_120, "34.1 kB"), (140e9, "140 GB"), (999_960, "1000 kB")],
    )
    def test_bytes_as_people_read_them(self, count, text):
        assert size(count) == text


SETTINGS = ["--shorter-side", "64", "--rows-per-shard", "6", "--row-group-size", "4"]


def start(folder: Path) -> subprocess.Popen:
    """A preparation in a process of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "mimray.cli", "data", "prepare", "photos", "out"),
            *(*SETTINGS, "--shuffle", "5", "--json"),
        ],
        env=environment(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_shards(folder: Path, count: int, process: subprocess.Popen) -> set[str]:
    """Until as many shards stand; their names."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = {f.name for f in (folder / "out").glob("*.parquet")}
        if len(found) >= count:
            return found
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError(f"not {count} shards in two minutes")


def undisturbed(folder: Path) -> dict[str, bytes]:
    """The shards of the same settings, written one after another in this process."""
    source = open_source(str(folder / "photos"))
    plan = Plan(source.digest, len(source), "train", 64, 90, 6, 4, 5, 66)  # 64 groups of one
    destination = Destination(str(folder / "undisturbed"), plan)
    destination.claim().close()
    order, labels = plan.order(source.groups), source.labels()
    for number in range(len(plan)):
        rows = plan.rows_of(number, order)
        list(write_shard(source, destination, Shard(number, rows, labels[rows], source.classes)))
    return {f.name: f.read_bytes() for f in (folder / "undisturbed").glob("*.parquet")}


@pytest.mark.faults
def test_a_preparation_stopped_and_killed_gives_the_shards_of_an_undisturbed_one(tmp_path):
    write_photos(tmp_path / "photos", 880, damaged=5)
    process = start(tmp_path)
    wait_for_shards(tmp_path, 10, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (75, ""), err
    assert "of 148 shards complete; the same command goes on" in err
    stopped = {f.name for f in (tmp_path / "out").glob("*.parquet")}
    assert 10 <= len(stopped) < 148

    process = start(tmp_path)
    wait_for_shards(tmp_path, len(stopped) + 10, process)
    for pid in family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, err = process.communicate()
    assert "shard(s) in" in err and "complete already" in err
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "out").glob("*.parquet")}
    assert len(before) < 148

    process = start(tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    result = json.loads(out)
    kept = [f for f, written in before.items() if f.stat().st_mtime_ns == written]
    assert len(kept) >= len(before) - 4  # those without their note yet are written again

    shards = {f.name: f.read_bytes() for f in (tmp_path / "out").glob("*.parquet")}
    assert shards == undisturbed(tmp_path)
    assert (result["source_rows"], result["rows"], result["resized"]) == (885, 880, 880)
    assert result["left_out"] == {"damaged": 5}
    report = json.loads(Path(result["report"]).read_text())
    names = {one["name"] for one in report["pictures_left_out"]}
    assert names == {f"hat/torn {number}.jpg" for number in range(5)}
    assert not list((tmp_path / "out").rglob("*.part"))
    prepared = open_source(str(tmp_path / "out"))
    assert result["digest"] == prepared.digest
    assert np.bincount(prepared.labels()).tolist() == [88] * 10

    status = main(["data", "prepare", f"{tmp_path}/photos", f"{tmp_path}/out", *SETTINGS,
                   "--shuffle", "5"])  # fmt: skip
    assert status == 0  # asked again: no Ray, the same words
