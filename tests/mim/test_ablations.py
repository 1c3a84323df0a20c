"""Every row of docs/simmim.md's table: it builds at full size, and its parts learn at a tiny one."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mimray.data.crop import centre_crop, cut
from mimray.data.decode import decode
from mimray.data.sources import open_source
from mimray.errors import UserError
from mimray.hashing import key
from mimray.mim import heads
from mimray.mim.build import build_model
from mimray.mim.fills import visible_mean
from mimray.mim.heads.inverse_swin import InverseSwin
from mimray.mim.masks import draw
from mimray.mim.normalisation import normalise
from mimray.recipe import load_recipe
from mimray.train.tasks.check_pretraining import check_model

PAGE = Path(__file__).parents[2] / "docs/simmim.md"
SIDE, PHOTOS = 64, 4
NANO = {"swin": "swin_nano", "swinv2": "swinv2_nano", "vit": "vit_nano", "resnet": "resnet_nano"}
NANO |= {"convnext": "convnext_nano", "replknet": "replknet_nano"}
SMALLER = {"mask.unit": {64: 32, 32: 16, 16: 8, 8: 4, 4: 4}, "target.resolution": {48: 16, 6: 4}}


def rows():
    """(what the row says, its overrides) of the table's rows; those of another recipe are left out."""
    table = PAGE.read_text().partition("\n| row |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        says, _, command = [cell.strip() for cell in line.strip("|").split("|")]
        if not says.startswith("**") and "recipe `" not in command:
            yield says, command.strip("`").split()


ROWS = dict(rows())


LEARNING = ("head.kind", "target.kind", "model.visible_only")
PARTS = (*LEARNING, "mask.strategy", "model.encoder")
LONG = ("inverse Swin", "ViT-B", "SwinV2-H")


def tiers(names):
    """A row of each part with one of these names in the unit tier; variants of one (ratios, losses, sizes)
    in the slow one."""
    seen = set()
    for row, overrides in ROWS.items():
        parts = frozenset(re.sub(r"\d.*", "", o) for o in overrides if o.split("=")[0] in names)
        slow = parts in seen or row.startswith(LONG)
        yield pytest.param(row, marks=pytest.mark.slow if slow else pytest.mark.unit)
        seen.add(parts)


@pytest.mark.unit
def test_the_table_is_read():
    assert len(ROWS) > 40 and ROWS["random, 32 px, 10 %"] == ["mask.ratio=0.1"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What `mimray data clusters` would have written: 27 colours, 64 patches."""
    folder = tmp_path_factory.mktemp("files")
    steps = torch.linspace(0, 255, 3)
    generator = torch.Generator().manual_seed(0)
    save_file(
        {"colours": torch.cartesian_prod(steps, steps, steps)}, folder / "clusters.safetensors"
    )
    codes = torch.randn(64, 3 * 16 * 16, generator=generator)
    save_file({"codebook": codes}, folder / "codebook.safetensors")
    return folder


def with_files(overrides, files):
    return [re.sub(r"target\.file=", f"target.file={files}/", o) for o in overrides]


@pytest.fixture(scope="module")
def photos():
    """Some of the photos that come with mimray, uint8 (PHOTOS, 3, SIDE, SIDE)."""
    source = open_source("builtin:photos/val", "val")
    found = []
    for data in source.read(np.arange(PHOTOS)):
        picture = decode(data)
        found.append(torch.from_numpy(cut(picture, centre_crop(*picture.shape[:2]), SIDE)))
    return torch.stack(found).permute(0, 3, 1, 2)


@pytest.mark.parametrize("row", tiers(PARTS))
def test_the_row_s_recipe_is_accepted(row, files):
    check_model(load_recipe("swin_base_100ep", with_files(ROWS[row], files)))


def tiny(overrides):
    """The same parts with a nano encoder at SIDE pixels."""
    settings = dict(o.split("=", 1) for o in overrides)
    encoder = settings.get("model.encoder", "swin_base")
    family = next(f for f in sorted(NANO, reverse=True) if encoder.startswith(f))
    settings |= {"model.encoder": NANO[family], "model.image_size": SIDE}
    settings["model.window"] = 4 if family.startswith("swin") else "null"
    settings |= {"head.width": 128, "mask.unit": settings.get("mask.unit", 32)}
    for name, smaller in SMALLER.items():
        if name in settings:
            settings[name] = smaller[int(settings[name])]
    if settings["model.encoder"] == "vit_nano":
        settings["mask.unit"] = max(8, settings["mask.unit"])
    if settings.get("target.kind") == "clusters":
        settings["target.resolution"] = 16
    return load_recipe("demo", [f"{k}={v}" for k, v in settings.items()])


def yardstick(model, images, hidden):
    """The loss of what needs no learning: the visible mean, or the classes' frequencies."""
    target, region = model.target(images), model.target.region(hidden, model.patch)
    if model.target.fills:
        errors = model.target.error(visible_mean(target, region), target) * region
        return errors.sum() / (region.sum() * model.target.values)
    seen = target.flatten(1, -3) if target.ndim > 3 else target[:, None]
    counts = [torch.bincount(channel[region]) for channel in seen.transpose(0, 1)]
    shares = [(c / c.sum())[c > 0] for c in counts]
    return torch.stack([-(p * p.log()).sum() for p in shares]).mean()


LR = {"linear": 3e-3, "mlp": 3e-3, "transformer": 2e-3}


def quick_optimizer(model, lr):
    """Position tables begin near zero, and until they differ all hidden places are alike: they run
    ahead, so that a couple of hundred steps are enough."""
    tables = [p for n, p in model.named_parameters() if n.endswith("position_bias_table")]
    rest = [p for n, p in model.named_parameters() if not n.endswith("position_bias_table")]
    groups = [{"params": rest, "lr": lr}, {"params": tables, "lr": 50 * lr}]
    return torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.95))


@pytest.mark.parametrize("row", tiers(LEARNING))
def test_the_row_s_parts_over_fit_a_few_photos(row, files, photos, monkeypatch):
    for kind in ("inverse_swin_tiny", "inverse_swin_base"):  # as many parts, fewer channels
        small = lambda shape, settings: InverseSwin(shape, 48, (1, 1), (1, 2))  # noqa: E731
        monkeypatch.setitem(heads.HEADS, kind, small)
    recipe = tiny(with_files(ROWS[row], files))
    torch.manual_seed(0)
    model = build_model(recipe).train()
    images, mask = normalise(photos), recipe.mask
    seeds = key(0, torch.arange(PHOTOS))
    hidden = draw(mask.strategy, SIDE, mask.unit, model.patch, mask.ratio, seeds)
    limit = yardstick(model, images, hidden) / 2
    reached = dict.fromkeys(dict(model.named_parameters()), False)
    optimizer = quick_optimizer(model, LR.get(recipe.head.kind, 1e-3))
    for step in range(200):
        out = model(images, hidden, seeds)
        optimizer.zero_grad()
        out.loss.backward()
        if step < 5:  # some layers begin at zero and hold back others' gradients
            reached |= {
                n: True for n, p in model.named_parameters() if p.grad is not None and p.grad.any()
            }
        if out.loss < limit and step >= 5:
            break
        optimizer.step()
    assert out.loss < limit, (step, out.loss.item(), limit.item())
    assert not [name for name, found in reached.items() if not found]


@pytest.mark.unit
def test_what_does_not_go_together_is_refused():
    for overrides, says in [
        (["head.kind=linaer"], "did you mean linear"),
        (["target.resolution=96", "mask.unit=4", "target.kind=bins", "mask.ratio=0.5"], None),
        (["target.resolution=6", "mask.unit=16"], "take a multiple of 32"),
        (["target.resolution=6", "model.encoder=vit_base", "model.window=null"], "finer target"),
        (["model.visible_only=true"], "head.kind=transformer"),
        (["model.encoder=resnet50"], "has no windows"),
        (["model.visible_only=true", "head.kind=transformer", "mask.unit=16"], "stride 32"),
        (
            [
                "model.visible_only=true",
                "head.kind=transformer",
                "model.encoder=resnet50",
                "model.window=null",
            ],
            "Swin, SwinV2 and ViT can",
        ),
        (["mask.unit=64", "mask.ratio=0.9"], "hides all"),
    ]:
        if says is None:
            check_model(load_recipe("swin_base_100ep", overrides))
            continue
        with pytest.raises(UserError, match=says):
            check_model(load_recipe("swin_base_100ep", overrides))
