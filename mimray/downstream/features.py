"""Frozen features: what any of an encoder's layers gives for a picture, pooled, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mimray.mim.encoders import Encoder
from mimray.mim.encoders.layers import LAST, layer_names
from mimray.settings_errors import nearest

Pooling = Literal["mean", "cls"]

_POSITIONS = {"vit": (1,), "swin": (1, 2), "swinv2": (1, 2)}  # of what a block gives; else (2, 3)


@torch.no_grad()
def pooled_features(
    encoder: Encoder, images: Tensor, layers: Sequence[str], pooling: Pooling = "mean"
) -> dict[str, Tensor]:
    """Normalised images (B, 3, H, W) -> float32 (B, channels of the layer) of each of `layers`.

    `pooling`: the `mean` over positions, without the class token (of block 8 of a ViT-B in SimMIM's
    linear evaluation; github.com/microsoft/SimMIM/issues/14), or `cls`, the class token of a ViT.
    The encoder is in evaluation mode. A layer is pooled as soon as it is done, so no map is kept.

    Raises ValueError for a layer or a pooling that the encoder has not, and for one in training mode.
    """
    _check(encoder, layers, pooling)
    found: dict[str, Tensor] = {}
    with _pooling_hooks(encoder, layers, pooling, found):
        output = encoder(images)[-1]
    if LAST in layers and LAST not in found:
        found[LAST] = output.mean(dim=(2, 3), dtype=torch.float32)
    return {name: found[name] for name in layers}


def _check(encoder: Encoder, layers: Sequence[str], pooling: Pooling) -> None:
    known = layer_names(encoder)
    for name in layers:
        if name not in known:
            raise ValueError(f"layer {name!r} is not one of the encoder's{nearest(name, known)}")
    if pooling == "cls" and encoder.family != "vit":
        raise ValueError(f"a {encoder.family} has no class token; take pooling mean")
    if encoder.training:
        raise ValueError("features are of an encoder in evaluation mode; call its eval() before")


@contextmanager
def _pooling_hooks(
    encoder: Encoder, layers: Sequence[str], pooling: Pooling, found: dict[str, Tensor]
) -> Iterator[None]:
    """In here a forward pass puts what `layers` give, pooled, into `found`."""
    blocks: list[nn.Module] = [block for stage in encoder.stage_blocks() for block in stage]
    modules = dict(zip(layer_names(encoder), blocks, strict=False))
    if encoder.family == "vit":  # what it returns has no class token any more
        modules[LAST] = encoder.get_submodule("norm")

    def pool(module: nn.Module, inputs: Any, output: Tensor, name: str) -> None:
        if pooling == "cls":
            found[name] = output[:, 0].float()
            return
        patches = output[:, 1:] if encoder.family == "vit" else output
        dims = _POSITIONS.get(encoder.family, (2, 3))
        found[name] = patches.mean(dim=dims, dtype=torch.float32)

    hooks = [
        modules[name].register_forward_hook(partial(pool, name=name))
        for name in layers
        if name in modules
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
