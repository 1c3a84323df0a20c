"""Two processes over gloo beside one: DDP and FSDP train the same model."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from mimray import load_recipe
from mimray.downstream.classifier import Classifier
from mimray.hashing import key
from mimray.mim.build import build_model
from mimray.mim.encoders import build_encoder
from mimray.mim.guard import Guard
from mimray.mim.masks import draw
from mimray.mim.parallel import choose, gradient_sync, replicate, unwrapped
from mimray.mim.step import MicroBatch, autocast, train_step
from mimray.optim import build_optimizer
from mimray.recipe import Optim
from tests.groups import run_group

pytestmark = pytest.mark.slow

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RANKS, BATCH, SIZE, STEPS = 2, 8, 32, 3
MODELS = {
    "vit_nano": [],
    "swinv2_nano": [],
    "swin_nano": ["model.visible_only=true", "head.kind=transformer", "model.window=2"],
}
CLIP = 0.05  # below the norms that are met
BAD_STEP, BAD_PICTURE = 1, 6  # a picture of the second rank


def new_model(encoder):
    torch.manual_seed(0)
    settings = [f"model.encoder={encoder}", f"model.image_size={SIZE}", "mask.unit=16"]
    settings += ["model.drop_path=0.1", *MODELS[encoder]]
    return build_model(load_recipe("demo", settings)).train()


def samples(step, patch):
    """A global batch of which the first rank has less, for a picture weighs nothing; one of `BAD_STEP`
    is not finite."""
    images = torch.randn(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(step))
    if step == BAD_STEP:
        images[BAD_PICTURE] = torch.nan
    seeds = key(step, torch.arange(BATCH))
    weight = (torch.arange(BATCH) > 0).float()
    return images, draw("random", SIZE, 16, patch, 0.6, seeds), seeds, weight


def micro_batches(step, patch, rank, ranks, size):
    rows = slice(BATCH * rank // ranks, BATCH * (rank + 1) // ranks)
    parts = zip(*(part[rows].split(size) for part in samples(step, patch)), strict=True)
    return [MicroBatch(*part) for part in parts]


def trained(encoder, parallel, rank, ranks, size, bf16=False):
    """Weights after some steps, and the last step's loss and norm; whole tensors on the first rank."""
    model = new_model(encoder)
    patch = model.patch
    replicas = replicate(model, parallel, CPU, bf16)
    optimizer = build_optimizer(model, Optim(lr=1e-3))
    guard = Guard(100.0, CPU)
    for step in range(STEPS):
        batch = micro_batches(step, patch, rank, ranks, size)
        result = train_step(replicas, optimizer, batch, CLIP, bf16, guard=guard)
    assert guard.skipped == 1
    found = {n: whole(p.detach()) for n, p in model.named_parameters()}
    found |= {
        f"moment/{n}": whole(optimizer.state[p]["exp_avg"]) for n, p in model.named_parameters()
    }
    steps = {float(optimizer.state[p]["step"]) for p in model.parameters()}
    return {
        "tensors": found,
        "steps": steps,
        "numbers": torch.stack([result.error / result.values, result.norm.double()]),
        "validation": validation_loss(replicas, patch, rank, ranks, bf16),
    }


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


@torch.no_grad()
def validation_loss(replicas, patch, rank, ranks, bf16):
    """As validation measures it: in evaluation, through the model that `replicate` returns."""
    plain = unwrapped(replicas)
    plain.eval()
    (micro,) = micro_batches(0, patch, rank, ranks, BATCH)
    with autocast(CPU, bf16):
        out = plain(micro.images, micro.supervision)
    sums = torch.stack([out.error.sum().double(), out.values.sum().double()])
    if ranks > 1:
        dist.all_reduce(sums)
    plain.train()
    return sums[0] / sums[1]


def in_a_group(rank, folder):
    """What one of the processes does; the first leaves its findings in `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    found = {}
    for encoder in MODELS:
        for parallel in ("ddp", "fsdp"):
            found[encoder, parallel] = trained(encoder, parallel, rank, RANKS, size=2)
    found["bf16"] = trained("swinv2_nano", "fsdp", rank, RANKS, size=4, bf16=True)
    found["travelled"] = {parallel: travelled(parallel, rank) for parallel in ("ddp", "fsdp")}
    model = replicate(new_model("vit_nano"), "fsdp", CPU, bf16=False)
    found["shards"] = [(p.shape, p.to_local().shape) for p in model.parameters()]
    found["logits"] = {parallel: logits(parallel) for parallel in ("ddp", "fsdp")}
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.barrier()
    dist.destroy_process_group()


def classifier():
    torch.manual_seed(0)
    model = Classifier(build_encoder("vit_nano", 32, finetune=True), 3)
    model.encoder.mask_token.requires_grad_(False)
    return model


def logits(parallel):
    """A classifier's, after its last training pass, as validation calls them."""
    model = classifier()
    replicas = replicate(model, parallel, CPU, bf16=False)
    images, targets = torch.ones(2, 3, 32, 32), torch.ones(2, 3) / 3
    replicas(images, targets, torch.arange(2)).error.sum().backward()
    model.eval()
    with torch.no_grad():
        return model.logits(images)


def travelled(parallel, rank):
    """Whether gradients are those of all ranks after a backward pass that does not end one, and after
    one that does."""
    model = new_model("vit_nano")
    replicas = replicate(model, parallel, CPU, bf16=False)
    found = []
    for due in (False, True):
        for micro in micro_batches(0, model.patch, rank, RANKS, 4):
            with gradient_sync(replicas, due):
                replicas(micro.images, micro.supervision, micro.seeds).error.sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        own = torch.cat([whole(g).flatten() for g in gradients]) if gradients else torch.zeros(1)
        others = own.clone()
        dist.broadcast(others, src=0)
        same = torch.tensor(float(gradients != [] and torch.equal(own, others)))
        dist.all_reduce(same, dist.ReduceOp.MIN)
        found.append(bool(same))
    return found


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    run_group(in_a_group, str(folder), RANKS)
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.fixture(scope="module")
def alone():
    return {encoder: trained(encoder, "auto", 0, 1, size=BATCH) for encoder in MODELS}


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("encoder", MODELS)
def test_it_trains_what_one_process_trains(group, alone, encoder, parallel):
    found, expected = group[encoder, parallel], alone[encoder]
    assert found["steps"] == expected["steps"] == {STEPS - 1.0}
    assert found["tensors"].keys() == expected["tensors"].keys()
    for name, tensor in expected["tensors"].items():
        torch.testing.assert_close(found["tensors"][name], tensor, atol=1e-4, rtol=0, msg=name)
    torch.testing.assert_close(found["numbers"], expected["numbers"], rtol=1e-4, atol=0)
    torch.testing.assert_close(found["validation"], expected["validation"], rtol=1e-4, atol=0)


def test_bf16_under_fsdp_is_near_float32(group, alone):
    torch.testing.assert_close(
        group["bf16"]["validation"], alone["swinv2_nano"]["validation"], rtol=0.02, atol=0
    )


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_gradients_travel_once_an_update(group, parallel):
    assert group["travelled"][parallel] == [False, True]


def test_fsdp_cuts_every_parameter(group):
    for whole_shape, local in group["shards"]:
        assert local[0] == -(-whole_shape[0] // RANKS)


def test_one_rank_keeps_the_plain_model():
    model = new_model("vit_nano")
    assert replicate(model, "fsdp", CPU, bf16=False) is model


def test_auto_shares_large_models_on_gpus():
    assert choose("auto", 655_000_000, CUDA, ranks=8) == "fsdp"
    assert choose("auto", 195_000_000, CUDA, ranks=8) == "ddp"
    assert choose("auto", 655_000_000, CPU, ranks=8) == "ddp"
    assert choose("fsdp", 1, CPU, ranks=2) == "fsdp"
    assert choose("ddp", 655_000_000, CUDA, ranks=2) == "ddp"


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_classifier_that_is_shared_is_evaluated(group, parallel):
    expected = classifier().eval().logits(torch.ones(2, 3, 32, 32))
    torch.testing.assert_close(group["logits"][parallel], expected)
