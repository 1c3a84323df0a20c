"""Settings under which every target can be built, and the files that some of them need."""

import torch
from safetensors.torch import save_file

from mimray.mim.targets.clusters import COLOURS
from mimray.mim.targets.patch_codebook import CODEBOOK
from mimray.recipe import TargetSettings

PATCH = 8
CODEBOOK_CLASS = "mimray.mim.targets.patch_codebook:PatchCodebook"


def colours_file(folder, colours):
    save_file({COLOURS: colours}, folder / "colours.safetensors")
    return str(folder / "colours.safetensors")


def codebook_file(folder, codebook):
    save_file({CODEBOOK: codebook}, folder / "codebook.safetensors")
    return str(folder / "codebook.safetensors")


def settings_of(kind, folder, **more):
    """Settings of a kind for small pictures; writes the file that it needs."""
    generator = torch.Generator().manual_seed(0)
    if kind == "clusters":
        more["file"] = colours_file(folder, torch.rand(11, 3, generator=generator) * 255)
    if kind == "tokens":
        patches = torch.randn(5, 3 * PATCH**2, generator=generator)
        more |= {"module": CODEBOOK_CLASS, "file": codebook_file(folder, patches)}
    return TargetSettings(**({"kind": kind, "window": 5, "patch": PATCH} | more))
