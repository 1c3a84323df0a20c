"""Checkpoints that several processes write together, read by more, fewer, and one."""

import json
import threading

import pytest
import torch
import torch.distributed as dist
from pyarrow import fs
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mimray.errors import RunFailed
from mimray.train import checkpoint
from mimray.train.checkpoint import Shard
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver
from mimray.train.state import Pieces, shard_of
from mimray.train.tensor_file import TensorFile, write_tensors
from mimray.weights import read
from tests.groups import run_group

pytestmark = pytest.mark.slow

WHOLE, BY_TWO, BY_THREE = 1, 2, 3  # steps of the checkpoints of one, two and three processes


class Model(nn.Module):
    """Rows that no number of ranks divides, fewer rows than ranks, buffers, and a frozen parameter."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.norm = nn.BatchNorm1d(7)
        self.last = nn.Linear(7, 1)
        self.frozen = nn.Parameter(torch.randn(4, 2), requires_grad=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def build(seed, mesh=None):
    torch.manual_seed(seed)
    model = Model()
    if mesh is not None:
        fully_shard(model.first, mesh=mesh, reshard_after_forward=True)
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
    named = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(named, lr=0.1, fused=True)


def train(model, optimizer, steps):
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        model(torch.randn(6, 5, generator=generator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def everything(model, optimizer):
    """Whole tensors of model and optimiser by name."""
    found = dict(model.state_dict())
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{key}/{name}"] = value
    return {n: t.full_tensor() if isinstance(t, DTensor) else t.clone() for n, t in found.items()}


def save(folder, step, model, optimizer, shard):
    saver = Saver(RunFolder(folder), 9, shard)
    saver.save(step, model, optimizer, {"step": step}, None)
    saver.close(step)


def loaded(folder, step, mesh=None):
    model, optimizer = build(99, mesh)
    assert checkpoint.load(RunFolder(folder), step, model, optimizer) == {"step": step}
    return everything(model, optimizer)


def in_a_group(rank, folder):
    """Two of three processes train and save; all three load, and save again."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=3)
    two, three = DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [0, 1, 2])
    if rank < 2:
        model, optimizer = build(0, two)
        train(model, optimizer, steps=3)
        save(folder, BY_TWO, model, optimizer, shard_of(model, rank, 2, "a start"))
        found = everything(model, optimizer)
        if rank == 0:
            torch.save(found, f"{folder}/by_two.pt")
    dist.barrier()
    found = {step: loaded(folder, step, three) for step in (WHOLE, BY_TWO)}
    model, optimizer = build(99, three)
    checkpoint.load(RunFolder(folder), BY_TWO, model, optimizer)
    save(folder, BY_THREE, model, optimizer, shard_of(model, rank, 3, "another start"))
    if rank == 0:
        torch.save(found, f"{folder}/loaded.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model, optimizer = build(5)
    train(model, optimizer, steps=2)
    save(str(folder), WHOLE, model, optimizer, Shard())
    torch.save(everything(model, optimizer), folder / "whole.pt")
    run_group(in_a_group, str(folder), 3)
    return folder


def equal(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_three_processes_read_what_two_wrote(group):
    equal(torch.load(group / "loaded.pt")[BY_TWO], torch.load(group / "by_two.pt"))


def test_processes_that_share_read_what_one_wrote(group):
    equal(torch.load(group / "loaded.pt")[WHOLE], torch.load(group / "whole.pt"))


@pytest.mark.parametrize("step", [BY_TWO, BY_THREE])
def test_one_process_reads_what_many_wrote(group, step):
    equal(loaded(str(group), step), torch.load(group / "by_two.pt"))


def test_every_process_writes_its_own_files_and_all_are_checked(group):
    run = RunFolder(str(group))
    folder = group / checkpoint.name_of(BY_TWO)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(files) == {
        "loop.json",
        *(
            f"{kind}-0000{n}-of-00002.safetensors"
            for kind in ("model", "optimizer")
            for n in (0, 1)
        ),
    }
    assert checkpoint.verified(run) == BY_THREE
    (group / checkpoint.name_of(BY_THREE) / "model-00002-of-00003.safetensors").unlink()
    assert checkpoint.newest(run) == BY_TWO


@pytest.mark.parametrize("name", ["", "model-00000-of-00002.safetensors"])
def test_weights_are_read_from_shards(group, name):
    weights = read(group / checkpoint.name_of(BY_TWO) / name)
    equal(weights, {k: v for k, v in torch.load(group / "by_two.pt").items() if "/" not in k})


# ----- one process that plays several ---------------------------------------------------------------


@pytest.mark.parametrize("writers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("readers", [1, 2, 3, 5])
def test_any_number_of_shards_is_read_by_the_row(tmp_path, writers, readers, monkeypatch):
    whole = torch.arange(6 * 3, dtype=torch.bfloat16).reshape(6, 3)
    paths = []
    for rank, rows in enumerate(whole.chunk(writers)):
        paths.append(str(tmp_path / f"model-{rank}.safetensors"))
        with open(paths[-1], "wb") as file:
            write_tensors(file, {"w": rows})
    sizes = []
    read_rows = TensorFile.read
    monkeypatch.setattr(
        TensorFile, "read", lambda f, n, t, b=0: sizes.append(len(t)) or read_rows(f, n, t, b)
    )
    pieces = Pieces(fs.LocalFileSystem(), paths)
    first = 0
    for rows in whole.chunk(readers):
        read_back = torch.empty_like(rows)
        pieces.fill_rows("w", read_back, first)
        assert torch.equal(read_back, rows)
        first += len(rows)
    pieces.close()
    assert sum(sizes) == len(whole)  # nothing twice


class TestNotes:
    """What the first rank takes for the others' parts."""

    @pytest.fixture
    def run(self, tmp_path):
        return RunFolder(str(tmp_path / "run"))

    @pytest.fixture
    def write(self, run):
        def write(rank, start="now"):
            shard = Shard(rank, 2, start)
            tensors = {shard.file("model"): {"w": torch.full((2, 2), float(rank))}}
            return checkpoint.write(run, 7, tensors, {}, None, shard)

        return write

    def test_the_first_waits_for_the_second(self, run, write):
        late = threading.Timer(0.5, write, (1,))
        late.start()
        write(0)
        assert checkpoint.verified(run) == 7
        late.join()

    def test_what_an_earlier_start_left_does_not_count(self, run, write, monkeypatch):
        monkeypatch.setattr(checkpoint, "_PATIENCE_SECONDS", 0.3)
        write(1, start="before")
        with pytest.raises(OSError, match="trainer 1 has not written its part in time"):
            write(0)
        assert checkpoint.newest(run) is None
        write(1)
        write(0)
        assert checkpoint.newest(run) == 7

    def test_what_fails_at_one_fails_at_all_and_takes_no_room(self, run, monkeypatch):
        model, optimizer = build(0)
        train(model, optimizer, 1)
        savers = [Saver(run, 2, Shard(rank, 2, "now")) for rank in (0, 1)]
        write = checkpoint.write

        def full(run, step, tensors, loop, criterion, shard):
            if shard.rank == 1:
                raise OSError("No space left on device")
            return write(run, step, tensors, loop, criterion, shard)

        monkeypatch.setattr(checkpoint, "write", full)
        for saver in savers:
            saver.save(7, model, optimizer, {}, None)
        with pytest.raises(
            RunFailed, match=r"step 7 could .* \(trainer 1: No space left on device\)"
        ):
            savers[0].close(7)
        with pytest.raises(RunFailed, match=r"step 7 could .* \(No space left on device\)"):
            savers[1].close(7)
        assert not (run.read(f"{checkpoint.name_of(7)}/loop.json"))

    def test_only_the_first_reports(self, run):
        model, optimizer = build(0)
        savers = [Saver(run, 2, Shard(rank, 2, "now")) for rank in (0, 1)]
        for saver in savers:
            saver.save(7, model, optimizer, {}, None)
        for saver in savers:
            saver.close(7)
        assert savers[0].done == [(7, checkpoint.name_of(7))] and not savers[1].done

    def test_ranks_with_whole_models_leave_it_to_the_first(self, run):
        model, optimizer = build(0)
        assert shard_of(model, 0, 4, "now") == Shard()
        assert shard_of(model, 1, 4, "now") is None
        saver = Saver(run, 2, None)
        saver.save(7, model, optimizer, {}, None)
        assert not saver.late(wait=True) and checkpoint.newest(run) is None
