"""Checkpoints of a run that keeps an average of its weights: others load what was judged."""

import json

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mimray.mim.parallel import running_statistics
from mimray.optim.average import averaged, averages, keep_average
from mimray.train import checkpoint
from mimray.train.checkpoint import Shard
from mimray.train.loop import share_statistics
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver
from mimray.train.state import shard_of
from mimray.weights import read

pytestmark = pytest.mark.unit

torch.set_num_threads(1)
STEP = 3


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.norm = nn.BatchNorm1d(7)
        self.last = nn.Linear(7, 1)
        self.frozen = nn.Parameter(torch.randn(4, 2), requires_grad=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def build(seed, shared=False):
    torch.manual_seed(seed)
    model = Model()
    if shared:
        fully_shard(model.first)
        fully_shard(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    statistics = running_statistics(model).values()
    keep_average(optimizer, 0.75, [s for s in statistics if s.is_floating_point()])
    return model, optimizer


def train(model, optimizer, steps):
    for step in steps:
        inputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()


def save(folder, model, optimizer, shard=Shard()):  # noqa: B008
    saver = Saver(RunFolder(str(folder)), 9, shard)
    saver.save(STEP, model, optimizer, {"step": STEP}, None)
    saver.close(STEP)
    return folder / checkpoint.name_of(STEP)


def whole(tensor):
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def everything(model, optimizer):
    """Weights, averages and moments."""
    found = {n: whole(t) for n, t in model.state_dict().items()}
    found |= {f"average/{n}": whole(t) for n, t in averages(model, optimizer).items()}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        found |= {f"{k}/{name}": whole(t) for k, t in state.items()}
    return found


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


@pytest.fixture(params=[False, True], ids=["one file", "shards"])
def shared(request):
    """Whether the model is shared by FSDP, as if there were more processes than this one."""
    if not request.param:
        yield False
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield True
    dist.destroy_process_group()


def test_others_load_what_was_judged(tmp_path, shared):
    model, optimizer = build(0, shared)
    train(model, optimizer, range(STEP))
    inputs = torch.randn(4, 5)
    model.eval()
    with torch.no_grad(), averaged(model, optimizer):
        judged = model(inputs)
    as_trained = {n: whole(t) for n, t in model.state_dict().items()}
    shard = Shard(0, 1, "a start") if shared else Shard()
    folder = save(tmp_path, model, optimizer, shard)
    other = Model()
    other.load_state_dict(read(tmp_path))
    with torch.no_grad():
        assert torch.equal(other.eval()(inputs), judged)
    assert torch.equal(read(tmp_path)["frozen"], as_trained["frozen"])
    assert read(tmp_path)["norm.num_batches_tracked"] == STEP
    kept = load_file(folder / "optimizer.safetensors")
    for name in ("first.weight", "last.bias", "norm.running_mean", "norm.running_var"):
        assert torch.equal(kept[f"weights/{name}"], as_trained[name])
        assert not torch.equal(read(tmp_path)[name], as_trained[name])
    assert not any(name.startswith("average/") for name in kept)


def test_training_goes_on_to_the_bit(tmp_path, shared):
    model, optimizer = build(0, shared)
    train(model, optimizer, range(STEP))
    save(tmp_path, model, optimizer, shard_of(model, 0, 1, "a start"))
    before = everything(model, optimizer)
    train(model, optimizer, range(STEP, STEP + 3))
    again, resumed = build(99, shared)
    if not shared:  # a roll-back fills what has trained already
        train(again, resumed, range(2))
    checkpoint.load(RunFolder(str(tmp_path)), STEP, again, resumed)
    assert same(everything(again, resumed), before)
    train(again, resumed, range(STEP, STEP + 3))
    assert same(everything(again, resumed), everything(model, optimizer))


def test_before_the_first_update_the_weights_are_their_own_average(tmp_path):
    model, optimizer = build(0)
    save(tmp_path, model, optimizer)
    assert same(read(tmp_path), dict(model.state_dict()))
    again, resumed = build(1)
    checkpoint.load(RunFolder(str(tmp_path)), STEP, again, resumed)
    train(again, resumed, range(2))
    train(model, optimizer, range(2))
    assert same(everything(again, resumed), everything(model, optimizer))


def test_ranks_share_the_statistics_of_the_average_too(monkeypatch):
    """Seen from one of two ranks, the other of which has zeros."""
    model, optimizer = build(0)
    train(model, optimizer, range(STEP))
    before = everything(model, optimizer)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)
    share_statistics(model, optimizer)
    after = everything(model, optimizer)
    halved = {n for n in before if not torch.equal(after[n], before[n])}
    names = {"norm.running_mean", "norm.running_var"}
    assert halved == names | {f"average/{name}" for name in names}
    assert all(torch.equal(after[name], before[name] / 2) for name in halved)


def test_the_manifest_says_nothing_new(tmp_path):
    model, optimizer = build(0)
    train(model, optimizer, range(STEP))
    folder = save(tmp_path, model, optimizer)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(files) == {"model.safetensors", "optimizer.safetensors", "loop.json"}
