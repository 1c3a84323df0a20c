"""Blocks that torch.compile has taken on: the same training, and few pieces of code.

Most tests stop before machine code is made (`aot_eager`), which takes half a minute a piece on a CPU.
"""

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from mimray.mim.build import assemble, build_model
from mimray.mim.compiling import accelerate, compile_blocks
from mimray.mim.drop_path import use_hashed_drop_path
from mimray.mim.encoders import build_encoder
from mimray.mim.encoders.swinv2 import SwinV2Encoder
from mimray.mim.masks import draw
from mimray.mim.recomputing import recompute_stages
from mimray.mim.step import MicroBatch, train_step
from mimray.mim.targets import build_target
from mimray.recipe import Head, Mask, Model, Recipe, Speed, TargetSettings

unit, slow = pytest.mark.unit, pytest.mark.slow
SIZE, BATCH = 96, 2
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    counters.clear()


def pieces():
    return counters["stats"]["unique_graphs"]


def build(encoder, drop_path=0.0, **model):
    torch.manual_seed(0)
    head = Head(kind="transformer" if model.get("visible_only") else "linear")
    model = Model(encoder=encoder, image_size=SIZE, drop_path=drop_path, **model)
    return build_model(Recipe(model=model, mask=Mask(unit=32), head=head))


def train(model, steps=5):
    """Losses of some steps, drop path included."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    losses = []
    for step in range(steps):
        seeds = torch.arange(BATCH) + BATCH * step
        torch.manual_seed(step)
        hidden = draw("random", SIZE, 32, model.patch, 0.6, seeds)
        images = torch.randn(BATCH, 3, SIZE, SIZE)
        micro = MicroBatch(images, hidden, seeds, torch.ones(BATCH))
        result = train_step(model, optimizer, [micro], 5.0, False)
        losses.append(float(result.error / result.values))
    return losses


def was_changed(encoder):
    return any("forward" in vars(block) for blocks in encoder.stage_blocks() for block in blocks)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"encoder": "vit_nano", "drop_path": 0.2}, marks=unit, id="vit"),
        pytest.param({"encoder": "swinv2_nano", "drop_path": 0.2}, marks=slow, id="swinv2"),
        pytest.param({"encoder": "resnet_nano", "drop_path": 0.2}, marks=slow, id="resnet"),
        pytest.param({"encoder": "vit_nano", "visible_only": True}, marks=slow, id="visible-vit"),
        pytest.param({"encoder": "swin_nano", "visible_only": True}, marks=slow, id="visible-swin"),
    ],
)
def test_a_compiled_model_trains_to_the_same_losses(model):
    """Its activations computed again, too."""
    plain, compiled = build(**model), build(**model)
    compile_blocks(compiled.encoder, backend="aot_eager")
    recompute_stages(compiled.encoder, [1])
    names = list(compiled.state_dict())
    assert train(compiled) == pytest.approx(train(plain), rel=1e-5)
    assert pieces() and not counters["graph_break"]
    assert names == list(plain.state_dict())


@slow
@pytest.mark.parametrize("drop_path", [0.2, 0.0])
def test_blocks_of_one_shape_share_their_code(drop_path):
    """Two kinds a stage, plain and shifted, where it has several windows, and one where it has one."""
    encoder = build_encoder("swinv2_tiny", 192, 12, drop_path)
    use_hashed_drop_path(encoder).current = torch.arange(1)
    assert len([b for blocks in encoder.stage_blocks() for b in blocks]) == 12
    compile_blocks(encoder, backend="eager")
    encoder(torch.randn(1, 3, 192, 192), torch.zeros(1, 48, 48, dtype=torch.bool))
    assert pieces() == 2 + 2 + 1 + 1  # of 48, 24, 12 and 6 tokens a side


@slow
def test_evaluation_is_not_compiled():
    model = build("vit_nano")
    compile_blocks(model.encoder, backend="aot_eager")
    train(model, 1)
    made = pieces()
    model.eval()
    hidden = torch.zeros(3, 12, 12, dtype=torch.bool)
    with torch.no_grad():
        got = model.encoder(torch.randn(3, 3, SIZE, SIZE), hidden)[-1]
    assert got.isfinite().all() and pieces() == made


@slow
def test_under_fsdp():
    """Its hooks stay around the compiled blocks, whose parameters they gather."""
    plain, compiled = build("swin_nano"), build("swin_nano")
    compile_blocks(compiled.encoder, backend="aot_eager")
    recompute_stages(compiled.encoder, [3])
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cpu", [0])
        for block in [b for blocks in compiled.encoder.stage_blocks() for b in blocks]:
            fully_shard(block, mesh=mesh)
        fully_shard(compiled, mesh=mesh)
        assert train(compiled) == pytest.approx(train(plain), rel=1e-5)
        assert pieces() and not counters["graph_break"]
    finally:
        dist.destroy_process_group()


@unit
@pytest.mark.parametrize(
    ("setting", "device", "compiled"),
    [("auto", CPU, False), ("auto", GPU, True), (True, CPU, True), (False, GPU, False)],
)
def test_auto_compiles_on_gpus(setting, device, compiled):
    model = build("swin_nano")
    accelerate(model, Speed(compile=setting), device)
    assert was_changed(model.encoder) is compiled


@unit
def test_stages_are_computed_again_as_the_recipe_says():
    model = build("swin_nano")
    accelerate(model, Speed(checkpoint_stages=(2,)), CPU)
    one, two, three = model.encoder.stage_blocks()
    assert [any("forward" in vars(b) for b in stage) for stage in (one, two, three)] == [0, 1, 0]
    with pytest.raises(ValueError, match="stages 1 to 3, and no 4"):
        accelerate(model, Speed(checkpoint_stages=(4,)), CPU)


@slow
def test_machine_code_trains_to_the_same_losses(monkeypatch, tmp_path):
    """Of a plain and a shifted block of SwinV2; a minute where the cores are free."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        encoder = SwinV2Encoder(SIZE, 6, 0.0, embed=16, depths=(2,), heads=(2,))
        target = build_target(TargetSettings(), SIZE)
        models.append(assemble(encoder, target, (SIZE // 4, SIZE // 4)))
    accelerate(models[1], Speed(compile=True, checkpoint_stages=(1,)), CPU)
    assert train(models[1]) == pytest.approx(train(models[0]), rel=1e-4)
    assert pieces() == 2
