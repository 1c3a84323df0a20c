"""Diagnostics over pictures in pieces: the same whoever computes them, and whole whatever was killed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mimray.analysis.attention import AttentionDiagnostic
from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import Block
from mimray.data.sources import open_source
from mimray.errors import RunFailed, UserError
from mimray.evaluate import diagnosis_shards as shards
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.diagnosis import Analysis
from mimray.evaluate.diagnosis_kinds import KINDS, ROWS
from mimray.evaluate.diagnosis_parts import Model, Pictures
from mimray.evaluate.diagnosis_shards import (
    Piece,
    Seen,
    compute_here,
    deal,
    shards_of,
    smallest_batch,
)
from mimray.mim.normalisation import normalise
from mimray.tracking import Copy
from mimray.train.run_folder import RunFolder
from mimray.train.sync import sync
from tests.evaluate.test_checkpoint import weights_file
from tests.train.tracked import Store

pytestmark = pytest.mark.unit
OPTIONS = {"attention": {"class_token": "drop"}, "cka": {"estimator": "unbiased"}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A vit_nano at 32 px that looks somewhere: weights far larger than those it starts from."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    one = open_checkpoint(weights_file(file, "vit_nano", 32), None, 32)
    save_file({name: 8 * tensor for name, tensor in load_file(file).items()}, file)
    return replace(one, digest="large")


@pytest.fixture
def ask(checkpoint, tmp_path):
    """`ask(kind, rows, batch, source, checkpoints)` -> Analysis."""

    def make(kind="attention", rows=range(0, 75, 3), batch=5, source=None, checkpoints=None):
        source = source or open_source("builtin:photos/val")
        models = tuple(Model(f"m{n}", one) for n, one in enumerate(checkpoints or [checkpoint]))
        seen = Pictures(source, np.array(rows, dtype=np.int64), batch, source.uri, "val")
        return Analysis(KINDS[kind], models, seen, OPTIONS.get(kind, {}), tmp_path)

    return make


def run(analysis):
    """Its record; figures are not drawn."""
    with compute_here() as compute:
        return analysis.run(compute, lambda found: {}, lambda done: None)


def rows_of(analysis, table=ROWS):
    return pq.read_table(analysis.place / f"{table}.parquet").to_pylist()


def alike(row, expected):
    """Equal words, and numbers that differ by no more than the order in which float32 was added."""
    words = {name for name, value in expected.items() if isinstance(value, str)}
    numbers = {name: value for name, value in expected.items() if name not in words}
    assert all(row[name] == expected[name] for name in words)
    assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-6, abs=1e-9)
    return True


# ----- batches and shards ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch"), [(1, 64), (64, 64), (65, 64), (1000, 64), (257, 4)])
def test_batches_are_equally_large_and_each_is_spread_over_all(count, batch):
    rows = np.arange(count) * 3
    batches = deal(rows, batch)
    assert sorted(np.concatenate(batches)) == rows.tolist()
    sizes = {len(one) for one in batches}
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    assert min(sizes) == smallest_batch(count, batch)
    for one in batches:
        assert one[0] < 3 * len(batches) and one[-1] >= rows[-1] - 3 * len(batches)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_shards_are_whole_batches_in_order(count):
    batches = [np.array([number]) for number in range(count)]
    found = shards_of(batches)
    assert [one for shard in found for one in shard] == batches
    assert len(found) == min(count, 64) and all(found)


# ----- what comes out -------------------------------------------------------------------------------------


def test_shards_merged_are_one_pass(ask, checkpoint):
    analysis = ask()
    assert len(analysis.shards) == 5
    record = run(analysis)
    assert (record["pictures"], record["unreadable"], record["left_out"]) == (25, 0, 0)
    rows = analysis.pictures.rows
    framing = Framing(32, False, interpolation="bicubic", margin=256 / 224)
    block = Block(rows, np.zeros_like(rows), np.zeros((25, 0), np.int64))
    images = torch.from_numpy(load_block(analysis.pictures.source, block, framing)["image"])
    once = AttentionDiagnostic(checkpoint.build())
    once.update(normalise(images.permute(0, 3, 1, 2)))
    found = rows_of(analysis)
    assert len(found) == 8 * 3 and found[0]["model"] == "m0"
    assert all(map(alike, found, once.rows()))
    spread = [row["distance_px"] for row in found]
    assert max(spread) - min(spread) > 1  # else anything would be equal


@pytest.mark.parametrize("kind", ["attention", "cka", "receptive-field", "health"])
def test_it_does_not_matter_who_computes_what(ask, kind, monkeypatch, tmp_path):
    whole = ask(kind, range(12), 4)
    monkeypatch.setattr(shards, "_MOST_SHARDS", 1)
    assert len(whole.shards) == 1
    run(whole)
    once = rows_of(whole)
    monkeypatch.undo()
    parts = replace(whole, storage=tmp_path / "parts")
    assert len(parts.shards) == 3
    with compute_here() as compute:
        backwards = lambda a, pieces: compute(a, pieces[::-1])  # noqa: E731
        parts.run(backwards, lambda found: {}, lambda done: None)
    assert len(once) == len(rows_of(parts)) > 0
    assert all(map(alike, rows_of(parts), once))


def test_pairs_of_heads_are_those_of_the_table(ask):
    analysis = ask(rows=range(5))
    run(analysis)
    pairs = rows_of(analysis, "pairs")
    assert len(pairs) == 8 * 3 * 2
    for row in rows_of(analysis):
        own = [p for p in pairs if (p["layer"], p["head"]) == (row["layer"], row["head"])]
        mean = sum(pair["kl_nats"] for pair in own) / len(own)
        assert mean == pytest.approx(row["kl_mean"]) and mean > 0
        assert row["head"] not in [pair["other_head"] for pair in own]


def test_models_of_one_size_are_compared(ask, checkpoint):
    larger = replace(checkpoint, image_size=64)
    analysis = ask("cka", range(8), 8, checkpoints=[checkpoint, replace(checkpoint), larger])
    assert [len(part.models) for part in analysis.parts] == [1, 1, 1, 2]
    assert "m0 and m2 are not compared: their pictures are of 32 and 64 px" in analysis.left_out[0]
    run(analysis)
    found = {
        (r["model"], r["other_model"], r["layer"], r["other"]): r["cka"] for r in rows_of(analysis)
    }
    assert len(found) == 4 * 81
    for (model, other, a, b), value in found.items():
        if (model, other) == ("m0", "m1"):  # the same weights
            assert value == pytest.approx(found["m0", "m0", a, b], abs=1e-9)
    assert found["m0", "m0", "block 1", "last"] < 0.999


# ----- what was killed or damaged -------------------------------------------------------------------------


def test_an_analysis_that_was_killed_goes_on(ask, tmp_path):
    whole = ask()
    run(whole)
    analysis = replace(whole, storage=tmp_path / "killed")
    with compute_here() as compute:
        pieces = compute(analysis, analysis.missing())
        interrupted = (next(pieces) for _ in range(2))

        def killed(*_):
            yield from interrupted
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            analysis.run(killed, lambda found: {}, lambda done: None)
    assert analysis.missing() == [Piece(0, 2), Piece(0, 3), Piece(0, 4)] and analysis.done == 10
    first = analysis.place / "shards" / "00-00.pt"
    first.write_bytes(first.read_bytes()[:-9])
    shown = []
    with compute_here() as compute:
        record = analysis.run(compute, lambda found: {}, shown.append)
    assert shown == [10, 15, 20, 25]
    assert rows_of(analysis) == rows_of(whole)
    assert not first.parent.exists()
    assert analysis.record() == record and analysis.missing() == []


def test_two_processes_ask_the_same(ask, monkeypatch):
    first, second = ask("health"), ask("health")
    record = run(first)
    monkeypatch.setattr(shards, "compute", None)  # cannot be called
    assert run(second) == record
    monkeypatch.undo()
    (second.place / "result.json").unlink()

    def loses_one(analysis, pieces):
        with compute_here() as compute:
            yield from compute(analysis, pieces)
        shutil.rmtree(analysis.place / "shards")

    with pytest.raises(RunFailed, match=r"its shards have gone, .*; give the command again"):
        second.run(loses_one, lambda found: {}, lambda done: None)


@pytest.mark.parametrize(("file", "what"), [("", "read"), ("shards", "written")])
def test_a_storage_that_is_not_as_it_should_be(ask, tmp_path, file, what):
    analysis = ask("health")
    place = analysis.place / file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no folder")
    with pytest.raises(RunFailed, match=f"--storage {tmp_path}: cannot be {what}") as caught:
        run(analysis)
    assert "\n" not in str(caught.value)


def test_a_gpu_that_is_too_small(ask, monkeypatch):
    class Huge:
        def update(self, images):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    analysis = ask("health")
    monkeypatch.setattr(type(analysis.parts[0]), "build", lambda *_: Huge())
    with pytest.raises(RunFailed, match=r"GPU's memory; take a smaller --batch than 5$"):
        run(analysis)


def test_what_cannot_be_read_is_left_out(ask, folder, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(folder / "val", copy)
    files = sorted(copy.glob("*/*.jpg"))
    files[0].write_bytes(b"no picture")
    source = open_source(str(copy))
    record = run(ask("health", range(20), 5, source))
    assert (record["pictures"], record["unreadable"], record["left_out"]) == (19, 1, 0)
    # of a batch of four, too few are left for CKA
    record = run(ask("cka", range(20), 4, source))
    assert (record["pictures"], record["unreadable"], record["left_out"]) == (16, 1, 3)
    with pytest.raises(UserError, match="no batch has 4 pictures that can be read"):
        run(ask("cka", range(4), 4, source))
    with pytest.raises(UserError, match="none of its pictures can be read"):
        run(ask("health", [0], 4, source))


def test_a_model_that_has_diverged(ask, checkpoint, tmp_path):
    tensors = load_file(checkpoint.weights)
    tensors["encoder.blocks.3.mlp.fc1.weight"].fill_(3e38)  # finite, and what it gives is not
    save_file(tensors, tmp_path / "huge.safetensors")
    bad = replace(checkpoint, weights=str(tmp_path / "huge.safetensors"), digest="huge")
    for kind in ("attention", "cka", "receptive-field", "health"):
        analysis = ask(kind, range(4), 4, checkpoints=[bad])
        with pytest.raises(UserError, match=r"huge\.safetensors.* (are|is) not finite.*; has"):
            run(analysis)
        assert analysis.record() is None


# ----- its name, its record, MLflow -----------------------------------------------------------------------


def test_other_questions_lie_elsewhere(ask, checkpoint):
    one = ask()
    others = [
        ask("health"),
        ask(batch=7),
        ask(rows=range(25)),
        ask(source=open_source("builtin:photos/train")),
        ask(checkpoints=[replace(checkpoint, digest="other")]),
        ask(checkpoints=[replace(checkpoint, image_size=64)]),
        ask(checkpoints=[replace(checkpoint, drop_layers=2)]),
        ask(checkpoints=[checkpoint, replace(checkpoint, digest="other")]),
        replace(one, options={"class_token": "keep"}),
    ]
    assert len({analysis.name for analysis in (one, *others)}) == 10
    assert ask(batch=6).name == one.name  # the very same batches
    moved = ask(checkpoints=[replace(checkpoint, weights="/moved")])
    assert moved.name == one.name


def test_the_record_says_how(ask):
    analysis = ask(rows=range(5))
    record = run(analysis)
    assert json.loads((analysis.place / "result.json").read_bytes()) == record
    (model,) = record["models"]
    assert (model["encoder"], model["image_size"], model["digest"]) == ("vit_nano", 32, "large")
    rows = rows_of(analysis)
    mean = sum(row["distance_px"] for row in rows) / len(rows)
    assert model["summary"]["attention_distance_px"] == pytest.approx(mean)
    assert "class token" in record["conventions"] and record["digests"]["source"]
    lines = (analysis.place / "rows.csv").read_text().splitlines()
    assert lines[0].split(",") == list(rows[0]) and len(lines) == 25


def test_states_come_back_from_bytes():
    seen = Seen({"n": 3, "sums": {"a": torch.ones(2, dtype=torch.float64)}}, 3, 1, 0)
    again = Seen.unpack(seen.pack())
    assert again[1:] == seen[1:] and torch.equal(again.state["sums"]["a"], torch.ones(2).double())
    assert Seen.unpack(b"") is None and Seen.unpack(seen.pack()[:-20]) is None


def test_a_label_is_written_and_drawn_again_and_nothing_computed(ask, checkpoint, monkeypatch):
    other = replace(checkpoint, digest="other")
    analysis = ask("cka", range(8), 8, checkpoints=[checkpoint, other])
    fields = ask("receptive-field", range(4), 4)
    records, before = (run(analysis), run(fields)), rows_of(analysis)
    monkeypatch.setattr(shards, "compute", None)  # cannot be called
    names = {"m0": "first", "m1": "/somewhere/second"}

    def renamed(one):
        return replace(one, models=tuple(Model(names[m.label], m.checkpoint) for m in one.models))

    drawn = []
    for one, record in zip((analysis, fields), records, strict=True):
        again = renamed(one)
        assert again.name == one.name and again.missing() == []
        with compute_here() as compute:
            new = again.run(compute, lambda found: drawn.append(found) or {}, lambda done: None)
        labels = [names[model["label"]] for model in record["models"]]
        assert new == again.record()
        assert [model["label"] for model in new["models"]] == labels == list(drawn[-1].models)
        assert [m["summary"] for m in new["models"]] == [m["summary"] for m in record["models"]]
        assert run(again) == new and len(drawn) <= 2  # now it has them
    pairs = ("model", "other_model")
    assert rows_of(analysis) == [r | {name: names[r[name]] for name in pairs} for r in before]
    (label, maps), *more = drawn[1].maps.items()
    assert label == "first" and not more and maps["block 8"].sum() == pytest.approx(1)
    assert drawn[1].notes == records[1]["conventions"]


@pytest.fixture
def tracked(pretrained, tmp_path):
    """A pre-training that MLflow knows: its folder, the store, and MLflow's name of it."""
    shutil.copytree(pretrained, tmp_path / "mim")
    above, store = RunFolder(str(tmp_path / "mim")), Store(tmp_path / "m.db")
    settings = yaml.safe_load(above.read("recipe.yaml"))
    settings["run"]["tracking"] = f"sqlite:///{store.file}"
    above.write("recipe.yaml", yaml.safe_dump(settings).encode())
    sync(above)
    return above.uri, store, above.record()["mlflow_run_id"]


def child_of(store, top):
    return [
        child
        for (child,) in store._ask(
            "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?", top
        )
    ]


def test_the_same_command_again_tells_mlflow_what_it_lacks(tracked, ask, monkeypatch, caplog):
    uri, store, top = tracked
    analysis = ask(rows=range(4), checkpoints=[open_checkpoint(uri)])

    def away(*_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Copy, "rows", away)
    record = run(analysis)
    assert "does not have attention-" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(shards, "compute", None)  # cannot be called
    assert run(analysis) == record
    (child,) = child_of(store, top)
    name, value = next(iter(record["models"][0]["summary"].items()))
    assert store.metrics(child)[f"analysis/{name}"][0][2] == value
    assert [v for _, _, v in store.metrics(top)[f"analysis/{name}"]] == [value]
    assert run(analysis) == record  # twice is once
    assert child_of(store, top) == [child] and len(store.metrics(top)[f"analysis/{name}"]) == 1


def test_it_is_a_child_of_the_pre_training_in_mlflow(tracked, ask, tmp_path):
    uri, store, top = tracked
    analysis = ask(rows=range(4), checkpoints=[open_checkpoint(uri)])
    record = run(analysis)
    (child,) = child_of(store, top)
    summary = record["models"][0]["summary"]
    told = store.metrics(child)
    assert told.keys() == {"step", *(f"analysis/{name}" for name in summary)}  # no metric a layer
    for name, value in summary.items():
        assert told[f"analysis/{name}"][0][2] == value
        assert [v for _, _, v in store.metrics(top)[f"analysis/{name}"]] == [value]
    assert store.params(child)["analysis.class_token"] == "drop"
    kept = {p.name for p in (tmp_path / "mlartifacts" / child / "artifacts").iterdir()}
    assert kept == {"rows.parquet", "rows.csv", "pairs.parquet", "pairs.csv", "result.json"}
