import io
import os
import pickle
import tarfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimray.data.sources import open_source, tar_index, webdataset
from mimray.errors import RunFailed, UserError
from tests.data.conftest import refused, write_parquet

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def index_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg/mimray"


def write_tar(path, members, format=tarfile.PAX_FORMAT):
    """Members: (name, bytes), or a TarInfo that has no bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def samples(count, first=0):
    """Pictures of different lengths, each with its label, in either order."""
    out = []
    for i in range(first, first + count):
        pair = [(f"{i:05d}.jpg", f"picture {i}".encode() * (i % 7)), (f"{i:05d}.cls", b"%d" % i)]
        out += pair if i % 2 else pair[::-1]
    return out


def pictures(members):
    return [data for name, data in members if not name.endswith("cls")]


def test_tars_are_laid_end_to_end_in_order_of_path(tmp_path):
    write_tar(tmp_path / "b.tar", samples(70, first=100))
    write_tar(tmp_path / "a.tar", samples(100))
    write_tar(tmp_path / "aa.tar", [("readme.txt", b"no picture in here")])
    source = open_source(str(tmp_path))
    assert source.kind == "WebDataset" and len(source) == 170
    assert source.groups.tolist() == [64, 36, 64, 6] and source.groups.dtype == np.int64
    assert source.read(range(170)) == pictures(samples(170))
    assert source.name(0) == "a.tar/00000.jpg" and source.name(169) == "b.tar/00169.jpg"
    assert source.labels().tolist() == list(range(170)) and source.labels().dtype == np.int64
    sizes = [(tmp_path / name).stat().st_size for name in ("a.tar", "aa.tar", "b.tar")]
    assert source.parts() == [
        ("a.tar", sizes[0], 100),
        ("aa.tar", sizes[1], 0),
        ("b.tar", sizes[2], 70),
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars")
    write_tar(folder / "a.tar", samples(100))
    write_tar(folder / "b.tar", samples(70, first=100))
    return open_source(str(folder))


@given(rows=st.lists(st.integers(0, 169), max_size=40))
def test_any_rows_in_the_order_asked_for(source, rows):
    wanted = pictures(samples(170))
    assert source.read(np.array(rows, dtype=np.int64)) == [wanted[row] for row in rows]


def test_it_travels(source):
    again = pickle.loads(pickle.dumps(source))
    assert again.read([169]) == source.read([169]) and again.digest == source.digest
    assert again.name(5) == source.name(5)


def test_what_a_picture_is(tmp_path):
    shown = [
        "a.JPG",
        "./b.jpeg",
        "cats/c.png",
        "d.webp",
        "e.gif",
        "f.tiff",
        "ünï [1].jpg",
        "x" * 200 + ".jpg",
    ]
    hidden = [
        "a.json",
        "a.txt",
        "a.mask.png",
        "._a.jpg",
        ".thumbs/b.jpg",
        "a/.b.jpg",
        "jpg",
        "g.npy",
    ]
    folder = tarfile.TarInfo("cats.jpg")
    folder.type = tarfile.DIRTYPE
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        tar = write_tar(
            tmp_path / "x.tar", [folder, *((n, n.encode()) for n in shown + hidden)], format
        )
        source = open_source(str(tar))
        assert source.read(range(len(source))) == [name.encode() for name in shown]
        assert source.name(1) == "x.tar/b.jpeg" and source.name(7) == f"x.tar/{shown[7]}"


def test_a_name_that_is_no_text_can_be_shown(tmp_path):
    tar = tmp_path / "x.tar"
    with tarfile.open(tar, "w", encoding="latin-1", format=tarfile.USTAR_FORMAT) as file:
        file.addfile(tarfile.TarInfo("naïve.jpg"))
    assert open_source(str(tar)).name(0) == "x.tar/na\N{REPLACEMENT CHARACTER}ve.jpg"


def test_labels_are_by_key_and_unknown_where_there_are_none(tmp_path):
    write_tar(
        tmp_path / "x.tar",
        [
            ("a/1.cls", b"7\n"),
            ("a/1.jpg", b"x"),
            ("b/1.png", b"x"),
            ("b/1.cls", b"three"),
            ("2.webp", b""),
            ("3.jpg", b"x"),
            ("3.cls", b"99999999999999999999"),
            ("1.cls", b"5"),
        ],
    )
    source = open_source(str(tmp_path))
    assert source.labels().tolist() == [7, -1, -1, -1] and source.classes is None


def test_without_labels_there_are_none(tmp_path):
    write_tar(tmp_path / "x.tar", [("a.jpg", b"x"), ("a.txt", b"a cat")])
    assert open_source(str(tmp_path)).labels() is None


def test_the_digest_tells_data_apart_and_not_folders(tmp_path):
    for folder, count in (("one", 5), ("two", 5), ("three", 6)):
        write_tar(tmp_path / folder / "a.tar", samples(count))
    one, two, three = (open_source(f"{tmp_path}/{n}").digest for n in ("one", "two", "three"))
    assert one == two != three


@pytest.mark.parametrize(
    "other",
    [
        [("a.jpg", b"xy"), ("a.cls", b"1"), ("b.jpg", b"x")],  # sizes
        [("a.jpg", b"x"), ("a.cls", b"2"), ("b.jpg", b"xy")],  # labels
        [("a.jpg", b"x"), ("a.cls", b"1"), ("c.jpg", b"xy")],  # names
        [("a.cls", b"1"), ("a.jpg", b"x"), ("b.jpg", b"xy")],  # places
    ],
)
def test_the_digest_tells_tars_of_equal_size_apart(tmp_path, other):
    one = write_tar(tmp_path / "1/x.tar", [("a.jpg", b"x"), ("a.cls", b"1"), ("b.jpg", b"xy")])
    two = write_tar(tmp_path / "2/x.tar", other)
    first, second = open_source(str(one)), open_source(str(two))
    assert first.parts() == second.parts() and first.digest != second.digest


def test_the_digest_does_not_depend_on_how_names_are_compressed(tmp_path, monkeypatch):
    tar = write_tar(tmp_path / "x.tar", samples(9))
    digest, compress = open_source(str(tar)).digest, zlib.compress
    monkeypatch.setattr(zlib, "compress", lambda data: compress(data, 0))
    assert open_source(str(tar)).digest == digest


def test_a_tar_written_anew_in_the_same_size_stops_the_run_by_name(tmp_path):
    tar = write_tar(tmp_path / "x.tar", samples(9))
    source = open_source(str(tmp_path))
    later = tar.stat().st_mtime_ns + 10**9
    write_tar(tar, samples(9, first=1))
    os.utime(tar, ns=(later, later))
    with pytest.raises(RunFailed, match=f"{tar}: has changed since the data was opened: it was w"):
        source.read([0])


def test_tars_that_are_missing_are_named(tmp_path):
    for number in (0, 2):
        write_tar(tmp_path / f"train-{number:05d}-of-00003.tar", samples(1))
    assert "train-00001-of-00003.tar is missing (1 file(s)" in refused(open_source, str(tmp_path))


@pytest.mark.parametrize("prefix", ["train", "imagenet-train", "imagenet1k_train"])
def test_splits_are_told_by_name(tmp_path, prefix):
    for number in range(2):
        write_tar(tmp_path / f"{prefix}-00000{number}.tar", samples(1))
    write_tar(tmp_path / f"{prefix.replace('train', 'val')}-000000.tar", samples(1))
    assert len(open_source(str(tmp_path), "train")) == 2
    assert len(open_source(str(tmp_path), "val")) == 1
    assert len(open_source(f"{tmp_path}/{prefix}-000000.tar", "val")) == 1


def test_splits_are_told_by_folder(tmp_path):
    for name in ("train/0.tar", "train/1.tar", "val/0.tar"):
        write_tar(tmp_path / name, samples(1))
    assert len(open_source(str(tmp_path), "train")) == 2


def test_groups_are_bounded_in_bytes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "_CHUNK_BYTES", 5000)
    sizes = [1000, 1000, 9000, 1000, 1000, 1000, 1000]  # each has a header of 512 too
    write_tar(tmp_path / "x.tar", [(f"{i}.jpg", bytes(n)) for i, n in enumerate(sizes)])
    source = open_source(str(tmp_path))
    assert source.groups.tolist() == [2, 1, 3, 1]
    assert [len(data) for data in source.read(range(7))] == sizes


def linked(kind, target="0.jpg"):
    info = tarfile.TarInfo("sub/evil.jpg")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (linked(tarfile.SYMTYPE, "/etc/passwd"), "'sub/evil.jpg' is a link (to '/etc/passwd')"),
        (linked(tarfile.LNKTYPE), "'sub/evil.jpg' is a link (to '0.jpg')"),
        (linked(tarfile.CHRTYPE), "'sub/evil.jpg' is neither a plain file nor a folder"),
        (linked(tarfile.FIFOTYPE), "'sub/evil.jpg' is neither a plain file nor a folder"),
        (("/etc/a.jpg", b"x"), "'/etc/a.jpg' has an absolute name"),
        (("../a.jpg", b"x"), "'../a.jpg' has '..' in its name"),
        (("a/../../b.txt", b"x"), "'a/../../b.txt' has '..' in its name"),
        (("a\n/../b.jpg", b"x"), "'a\\n/../b.jpg' has '..' in its name"),
    ],
)
def test_a_member_that_has_no_business_there_is_named(tmp_path, member, said):
    tar = write_tar(tmp_path / "x.tar", [("0.jpg", b"x"), member, ("1.jpg", b"x")])
    line = refused(open_source, str(tmp_path))
    assert line.startswith(f"{tar}: its member {said}")


def test_two_dots_inside_a_name_are_only_dots(tmp_path):
    write_tar(tmp_path / "x.tar", [("a..b/c.jpg", b"x")])
    assert len(open_source(str(tmp_path))) == 1


def test_a_tar_that_is_cut_off_anywhere_is_refused(tmp_path):
    tar = write_tar(tmp_path / "x.tar", [("0.jpg", b"x" * 700), ("1.jpg", b"y" * 300)])
    whole = tar.read_bytes()
    last = 512 + 1024 + 512 + 512  # the end mark begins here
    for length in (0, 100, 511, 512, 800, 1536, 2047, 2048, 2200, last - 1, last, last + 511):
        tar.write_bytes(whole[:length])
        assert refused(open_source, str(tmp_path)).startswith(f"{tar}: not a readable tar: ")
    tar.write_bytes(whole[: last + 512])
    assert len(open_source(str(tmp_path))) == 2


@pytest.mark.parametrize("at", [0, 100, 1536, 1600, 1536 + 150])
def test_a_damaged_header_is_no_end(tmp_path, at):
    tar = write_tar(tmp_path / "x.tar", [("0.jpg", b"x" * 700), ("1.jpg", b"y" * 300)])
    data = bytearray(tar.read_bytes())
    data[at : at + 20] = bytes(255 - b for b in data[at : at + 20])
    tar.write_bytes(data)
    line = refused(open_source, str(tmp_path))
    assert line.startswith(f"{tar}: not a readable tar: ")
    if at >= 1536:
        assert "what follows at byte 1536 is no member" in line


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [-512, -1024, 2**62, 2**70])
def test_a_size_that_no_file_has_is_damage(tmp_path, size):
    tar = write_tar(tmp_path / "x.tar", [("0.jpg", b"x")], tarfile.GNU_FORMAT)
    info = tarfile.TarInfo("1.jpg")
    info.size = size
    tar.write_bytes(tar.read_bytes()[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    assert refused(open_source, str(tmp_path)).startswith(f"{tar}: not a readable tar: ")


@settings(max_examples=100)
@given(flips=st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 255)), max_size=4))
def test_damage_of_any_kind_is_refused_or_harmless(tmp_path, flips):
    tar = write_tar(tmp_path / "x.tar", [*samples(3), ("x" * 120 + ".jpg", b"y" * 600)])
    data = bytearray(tar.read_bytes())
    for at, mask in flips:
        data[at] ^= mask
    tar.write_bytes(data)
    try:
        source = open_source(str(tar))
    except UserError as error:
        assert str(error).startswith(f"{tar}: ") and len(str(error).splitlines()) == 1
    else:
        assert len(source.read(range(len(source)))) == len(source) <= 4


def test_tars_that_were_joined_are_refused(tmp_path):
    tar = write_tar(tmp_path / "x.tar", samples(2))
    tar.write_bytes(tar.read_bytes() * 2)
    assert "data follows its end mark" in refused(open_source, str(tmp_path))


def test_what_is_no_tar_is_named(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"hello" * 500)
    assert refused(open_source, str(tmp_path)).startswith(f"{tmp_path}/x.tar: not a readable tar")
    write_tar(tmp_path / "x.tar", [("a.txt", b"x")])
    assert refused(open_source, str(tmp_path)) == f"{tmp_path}: no pictures in its 1 tars"


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar.gz", "w:gz"), ("x.tgz", "w:gz"), ("x.tar", "w:xz")]
)
def test_a_compressed_tar_is_to_be_uncompressed(tmp_path, name, mode):
    with tarfile.open(tmp_path / name, mode) as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    line = refused(open_source, str(tmp_path))
    assert line.startswith(f"{tmp_path}/{name}: is compressed") and "uncompress it" in line


def test_tars_beside_pictures_are_not_guessed_about(tmp_path):
    write_tar(tmp_path / "x.tar", samples(1))
    (tmp_path / "a.jpg").write_bytes(b"x")
    line = refused(open_source, str(tmp_path))
    assert line.startswith(f"{tmp_path}: both tars (x.tar) and pictures (a.jpg)")
    assert open_source(f"{tmp_path}/*.tar").kind == "WebDataset"
    assert open_source(f"{tmp_path}/*.jpg").kind == "folder of pictures"


def test_a_table_beside_each_tar_is_not_the_data(tmp_path):
    """img2dataset writes 00000.tar, 00000.parquet and 00000_stats.json."""
    write_tar(tmp_path / "00000.tar", samples(2))
    write_parquet(tmp_path / "00000.parquet", [b"x"])
    assert open_source(str(tmp_path)).kind == "WebDataset"
    write_parquet(tmp_path / "other.parquet", [b"x"])
    assert open_source(str(tmp_path)).kind == "Parquet"


def test_a_tar_that_vanishes_or_changes_stops_the_run_by_name(tmp_path):
    tar = write_tar(tmp_path / "x.tar", samples(9))
    source = open_source(str(tmp_path))
    write_tar(tar, samples(90))
    with pytest.raises(RunFailed, match=f"{tar}: has changed since the data was opened"):
        source.read([0])
    tar.unlink()
    with pytest.raises(RunFailed, match=f"{tar}: cannot be read any more"):
        source.read([0])


@pytest.fixture
def large(tmp_path, index_folder):
    """A tar whose index is worth keeping, opened once."""
    tar = write_tar(tmp_path / "x.tar", samples(600))
    assert tar.stat().st_size > tar_index._WORTH_KEEPING
    open_source(str(tar))
    [kept] = index_folder.iterdir()
    return tar, kept


def same(one, two):
    rows = range(len(one))
    return (
        one.read(rows) == two.read(rows)
        and one.digest == two.digest
        and one.labels().tolist() == two.labels().tolist()
        and [one.name(r) for r in rows] == [two.name(r) for r in rows]
    )


def test_an_index_is_kept_and_used_again(large, monkeypatch):
    tar, kept = large
    one, written = open_source(str(tar)), kept.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "make_index", None)  # would fail
        assert same(one, open_source(str(tar)))
    assert kept.stat().st_mtime_ns == written
    kept.unlink()
    assert same(one, open_source(str(tar)))


def test_a_tar_that_changed_is_indexed_again(large, index_folder):
    tar, _ = large
    write_tar(tar, samples(600, first=1))
    assert open_source(str(tar)).name(0) == "x.tar/00001.jpg"
    assert len(list(index_folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "bits", "other"])
def test_a_damaged_index_is_made_again(large, damage):
    tar, kept = large
    one, data = open_source(str(tar)), bytearray(kept.read_bytes())
    if damage == "empty":
        data = b""
    elif damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "bits":
        data[len(data) // 3] ^= 255
    else:
        file = io.BytesIO()
        np.savez(file, offsets=np.zeros(3), other=np.zeros(3))
        data = file.getvalue()
    kept.write_bytes(data)
    assert same(one, open_source(str(tar)))
    assert kept.stat().st_size > 1000  # and whole again


def test_an_index_that_cannot_be_kept_is_no_matter(tmp_path, index_folder):
    index_folder.parent.mkdir(exist_ok=True)
    index_folder.write_text("a file where the folder should be")
    tar = write_tar(tmp_path / "x.tar", samples(600))
    assert len(open_source(str(tar))) == 600


def test_small_tars_leave_nothing_behind(tmp_path, index_folder):
    write_tar(tmp_path / "x.tar", samples(3))
    open_source(str(tmp_path))
    assert not index_folder.exists()
