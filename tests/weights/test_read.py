import argparse
import hashlib
import json
import os
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mimray.weights import read

pytestmark = pytest.mark.unit

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


def same(read_weights, expected=WEIGHTS):
    assert read_weights.keys() == expected.keys()
    return all(torch.equal(read_weights[n], expected[n]) for n in expected)


def save(content, path, old=False):
    """As torch does now, or as it did before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


# ----- what is read -------------------------------------------------------------------------------


def test_safetensors_whatever_the_name(tmp_path):
    save_file(WEIGHTS, tmp_path / "weights.pth")
    assert same(read(tmp_path / "weights.pth"))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "inside", ["model", "state_dict", "module", "model_state", "teacher", None]
)
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_torch_files_with_what_lies_around_the_weights(tmp_path, inside, prefix, old):
    weights = {prefix + n: t for n, t in WEIGHTS.items()}
    content = (
        weights if inside is None else {"epoch": 3, "optimizer": {"state": {}}, inside: weights}
    )
    assert same(read(save(content, tmp_path / "file.bin", old)))


def test_weights_within_weights(tmp_path):
    assert same(read(save({"state_dict": {"model": WEIGHTS}}, tmp_path / "file")))


def test_a_prefix_that_not_all_have_is_part_of_the_names(tmp_path):
    mixed = {"module.a": WEIGHTS["a.bias"], "b": WEIGHTS["a.bias"]}
    assert same(read(save(mixed, tmp_path / "file")), mixed)


@pytest.mark.parametrize("old", [False, True])
def test_settings_beside_the_weights_are_passed_over(tmp_path, old, monkeypatch):
    """Namespaces as DeiT and MAE keep them, yacs's nodes as SimMIM does, NumPy's numbers."""
    monkeypatch.setitem(sys.modules, "yacs", ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", ModuleType("yacs.config"))
    CfgNode.__module__ = "yacs.config"
    sys.modules["yacs.config"].CfgNode = CfgNode
    content = {
        "model": WEIGHTS,
        "args": argparse.Namespace(lr=1e-3, input_size=[192, 192]),
        "config": CfgNode({"MODEL": CfgNode({"TYPE": "swin", "DEPTHS": [2, 2]})}),
        "max_accuracy": np.float64(83.5),
    }
    save(content, tmp_path / "file", old)
    monkeypatch.delitem(sys.modules, "yacs.config")
    monkeypatch.setattr(argparse, "Namespace", None)  # nobody asks for what these names mean
    assert same(read(tmp_path / "file"))


class CfgNode(dict):
    """Like yacs's: a dictionary with attributes, that refuses changes."""

    def __init__(self, settings):
        super().__init__(settings)
        self.__dict__["__immutable__"] = True

    def __setattr__(self, name, value):
        raise AttributeError(name)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face_folders(tmp_path, name):
    write = save_file if name.endswith("tensors") else save
    write(WEIGHTS, tmp_path / name)
    assert same(read(str(tmp_path)))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face_folders_in_shards(tmp_path, name):
    stem, _, suffix = name.partition(".")
    write = save_file if suffix == "safetensors" else save
    shards = {n: f"{stem}-0000{k}-of-00002.{suffix}" for k, n in enumerate(WEIGHTS, start=1)}
    for weight, shard in shards.items():
        write({weight: WEIGHTS[weight]}, tmp_path / shard)
    (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": shards}))
    assert same(read(tmp_path))


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints at steps 1 and 2, whose weights are the step's number."""
    for step in (1, 2):
        folder = tmp_path / f"run/checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        save_file({"weight": torch.tensor(float(step))}, folder / "model.safetensors")
        save_file({}, folder / "optimizer.safetensors")
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        sums = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        }
        (folder / "manifest.json").write_text(json.dumps({"step": step, "files": sums}))
    return tmp_path / "run"


def test_a_run_s_newest_checkpoint(run):
    assert read(run)["weight"] == 2
    assert read(run / "checkpoints/step-00000001")["weight"] == 1


@pytest.mark.parametrize(
    "harm", ["no manifest", "no optimizer", "half an optimizer", "a byte less", "another byte"]
)
def test_a_run_s_newest_checkpoint_that_is_complete(run, harm):
    newest = run / "checkpoints/step-00000002"
    weights = newest / "model.safetensors"
    if harm.startswith("no "):
        (newest / {"no manifest": "manifest.json"}.get(harm, "optimizer.safetensors")).unlink()
    if harm == "half an optimizer":
        (newest / "optimizer.safetensors").write_bytes(b"")
    if harm == "a byte less":
        weights.write_bytes(weights.read_bytes()[:-1])
    if harm == "another byte":
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert read(run)["weight"] == 1
    with pytest.raises(ValueError, match="take another checkpoint"):
        read(newest)


# ----- what is refused ----------------------------------------------------------------------------


def refused(source, says):
    with pytest.raises(ValueError, match=says) as caught:
        read(source)
    assert "\n" not in str(caught.value)


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "posix.system"), (eval, "eval"), (exec, "exec")]
)
def test_a_pickle_with_code_in_it_is_not_run(tmp_path, function, named, old):
    witness = tmp_path / "was run"
    command = f"touch '{witness}'" if function is os.system else f"open({str(witness)!r}, 'w')"
    path = save({"model": WEIGHTS, "code": Code(function, command)}, tmp_path / "file", old)
    refused(path, f"file: refused and not run, for it asks for {named} besides weights; ask its")
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists()  # it would have been


def test_any_other_object_is_refused(tmp_path):
    refused(save({"model": torch.nn.Linear(1, 1)}, tmp_path / "file"), r"Linear besides weights")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["new", "old", "safetensors"])
def test_a_file_that_was_cut_off(tmp_path, kind, share):
    path = tmp_path / "file"
    if kind == "safetensors":
        save_file(WEIGHTS, path)
    else:
        save({"model": WEIGHTS}, path, kind == "old")
    path.write_bytes(path.read_bytes()[: max(9, int(share * path.stat().st_size))])
    refused(path, r"file: (cut off|refused|not a checkpoint|holds no)")


def test_what_is_no_checkpoint(tmp_path):
    for name, data, says in [
        ("empty", b"", "empty: empty; fetch it again"),
        ("text", b"<!DOCTYPE html><html>", "text: not a checkpoint; safetensors"),
        (
            "other",
            pickle.dumps({"model": 1}, protocol=2),
            "other: cut off, damaged, or not weights",
        ),
    ]:
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, says)
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    refused(tmp_path / "arrays.npz", "arrays.npz: cut off, damaged, or not weights")
    refused(save([1, 2], tmp_path / "list"), "list: holds a list, not names with tensors")
    refused(
        save({"epoch": 1, "lr": 2}, tmp_path / "none"), r"holds no weights \(it holds epoch, lr\)"
    )


def test_what_is_not_there(tmp_path):
    refused(tmp_path / "nowhere.pth", "nowhere.pth: no such file or folder")
    refused("s3://bucket/model.pth", "weights are read from local files; copy it here first")
    refused(tmp_path, "holds neither checkpoints nor model.safetensors nor pytorch_model.bin")


@pytest.mark.parametrize("shard", ["missing.safetensors", "../outside.safetensors"])
def test_a_shard_that_is_not_beside_its_index(tmp_path, shard):
    save_file(WEIGHTS, tmp_path / "outside.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    index = {"weight_map": {"a.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "is not beside it; fetch it")


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 3}'])
def test_an_index_that_is_none(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    refused(tmp_path, "not an index of shards; fetch it again")


def test_a_checkpoint_that_is_damaged_says_what(run):
    first, second = (run / f"checkpoints/step-0000000{n}" for n in (1, 2))
    (second / "manifest.json").write_text("{}")
    refused(second, "manifest.json is damaged; take another checkpoint")
    (first / "manifest.json").unlink()
    refused(first, "step-00000001: no manifest; take another checkpoint")
    refused(run, "no complete checkpoint among 2; go on with the run")
