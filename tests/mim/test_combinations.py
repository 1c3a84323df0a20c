"""Encoder x head x target: each that is declared to work together builds, steps, saves and loads.

All pairs of two parts in the unit tier, the whole product in the slow one.
"""

from itertools import combinations, product

import pytest
import torch
from safetensors.torch import save_file

from mimray import weights
from mimray.hashing import key
from mimray.mim import heads
from mimray.mim.build import build_model
from mimray.mim.heads.inverse_swin import InverseSwin
from mimray.mim.masks import draw
from mimray.mim.step import MicroBatch, train_step
from mimray.mim.targets import TARGETS
from mimray.optim import build_optimizer
from mimray.recipe import load_recipe

SIDE, UNIT = 64, 32
FAMILIES = ("swin", "swinv2", "vit", "resnet", "convnext", "replknet")
ENCODERS = (*FAMILIES, "swin visible", "swinv2 visible", "vit visible")
KINDS = (*TARGETS, "pixels low", "bins low", "pixels whole")
MORE = {
    "patches": ["target.patch=8"],
    "clusters": ["target.resolution=8"],
    "tokens": ["target.module=mimray.mim.targets.patch_codebook:PatchCodebook"],
    "pixels low": ["target.resolution=8", "target.loss=smooth_l1"],
    "bins low": ["target.resolution=8", "target.bins=256"],
    "pixels whole": ["target.region=all"],
    "hog": ["target.loss=l2"],
}


def everything():
    """All that go together: an encoder of visible tokens goes with a head that looks everywhere."""
    for parts in product(ENCODERS, heads.HEADS, KINDS):
        if "visible" not in parts[0] or parts[1] == "transformer":
            yield parts


def pairwise(whole):
    """A small part of the product in which each two parts that meet in it meet too (greedily)."""

    def pairs(parts):
        return set(combinations(enumerate(parts), 2))

    whole = list(whole)
    left = set().union(*map(pairs, whole))
    while left:
        best = max(whole, key=lambda parts: len(pairs(parts) & left))
        left -= pairs(best)
        yield best


CHOSEN = set(pairwise(everything()))
CASES = [
    pytest.param(*parts, marks=pytest.mark.unit if parts in CHOSEN else pytest.mark.slow)
    for parts in everything()
]


@pytest.mark.unit
def test_every_two_parts_meet_in_no_more_than_they_need():
    assert len(CHOSEN) <= 1.1 * len(ENCODERS) * len(KINDS) and len(CASES) == 6 * 5 * 10 + 3 * 10


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(16, 3, generator=generator) * 255
    save_file({"colours": colours}, folder / "clusters.safetensors")
    codes = torch.randn(32, 3 * 8 * 8, generator=generator)
    save_file({"codebook": codes}, folder / "tokens.safetensors")
    return folder


@pytest.fixture
def recipe(files, monkeypatch):
    """`recipe(encoder, head, target)` at tiny widths."""
    for kind in ("inverse_swin_tiny", "inverse_swin_base"):
        small = lambda shape, settings: InverseSwin(shape, 8, (1, 1), (1, 2))  # noqa: E731
        monkeypatch.setitem(heads.HEADS, kind, small)

    def build(encoder, head, target):
        family, _, visible = encoder.partition(" ")
        kind = target.split()[0]
        return load_recipe(
            "demo",
            [
                *(f"model.encoder={family}_nano", f"model.image_size={SIDE}"),
                "model.window=" + ("4" if family.startswith("swin") else "null"),
                *(f"model.visible_only={bool(visible)}".lower(), "model.drop_path=0.1"),
                *(f"mask.unit={UNIT}", "mask.ratio=0.5", f"head.kind={head}", "head.width=64"),
                *(f"target.kind={kind}", *MORE.get(target, [])),
                *([f"target.file={files}/{kind}.safetensors"] if kind in MORE and kind in
                  ("clusters", "tokens") else []),
            ],
        )  # fmt: skip

    return build


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, SIDE, SIDE, generator=generator)


@pytest.mark.parametrize(("encoder", "head", "target"), CASES)
def test_it_builds_steps_saves_and_loads(encoder, head, target, recipe, batch, tmp_path):
    torch.manual_seed(0)
    settings = recipe(encoder, head, target)
    model = build_model(settings)
    seeds = key(0, torch.arange(2))
    hidden = draw("random", SIDE, UNIT, model.patch, 0.5, seeds)
    micro = MicroBatch(batch, hidden, seeds, torch.ones(2))
    optimizer = build_optimizer(model, settings.optim)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for bf16 in (False, True):
        result = train_step(model.train(), optimizer, [micro], settings.optim.clip, bf16)
        assert (result.error / result.values).isfinite() and result.norm.isfinite()
        assert result.norm > 0
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) > 0.8 * len(before)

    file = tmp_path / "model.safetensors"
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, file)
    torch.manual_seed(1)
    other = build_model(settings)
    report = weights.load(other, file)
    assert not report.missing and not report.resized
    with torch.no_grad():
        first, second = (m.eval()(batch, hidden, seeds) for m in (model, other))
    assert torch.equal(first.prediction, second.prediction) and torch.equal(first.loss, second.loss)
    assert first.prediction.shape[1] == model.target.outputs
