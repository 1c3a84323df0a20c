"""An encoder's layers by name: its blocks in the order they run, and its output; one pass shows any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from mimray.mim.encoders.protocol import Encoder
from mimray.settings_errors import nearest

LAST = "last"
"""The layer whose features are the encoder's output, after its last norm."""

Take = Callable[[str, Tensor], None]
"""Gets a layer's name and its features, (B, channels, h, w)."""


def layer_names(encoder: Encoder) -> list[str]:
    """`block 1` to the last in the order they run, through all stages, then `last`."""
    blocks = sum(len(stage) for stage in encoder.stage_blocks())
    return [*(f"block {number}" for number in range(1, blocks + 1)), LAST]


def layer_stages(encoder: Encoder) -> dict[str, int]:
    """The stage of every layer, from 1, in the order of `layer_names`; a ViT is one stage."""
    stages = [n for n, blocks in enumerate(encoder.stage_blocks(), start=1) for _ in blocks]
    return dict(zip(layer_names(encoder), [*stages, stages[-1]], strict=True))


def stage_ends(encoder: Encoder) -> list[str]:
    """The layers that `Encoder.feature_maps` gives, the last of them before its norm."""
    counts = [len(blocks) for blocks in encoder.stage_blocks()]
    if len(counts) != len(
        encoder.depths
    ):  # a ViT, whose maps are those after quarters of the depth
        counts = list(encoder.depths)
    return [f"block {sum(counts[: n + 1])}" for n in range(len(counts))]


def show_layers(encoder: Encoder, images: Tensor, layers: Sequence[str], take: Take) -> None:
    """One forward pass that calls `take` with each of `layers`, as soon as it is done.

    `images`: normalised (B, 3, H, W). A ViT's class token is no position of a map. The encoder is in
    evaluation mode. What `take` does not keep is freed, unless it is needed for gradients.

    Raises ValueError for a layer that the encoder has not, and for an encoder in training mode.
    """
    known = layer_names(encoder)
    for name in layers:
        if name not in known:
            raise ValueError(f"layer {name!r} is not one of the encoder's{nearest(name, known)}")
    if encoder.training:
        raise ValueError("features are of an encoder in evaluation mode; call its eval() before")
    with _hooks(encoder, images, layers, take):
        output = encoder(images)[-1]
    if LAST in layers:
        take(LAST, output)


@contextmanager
def _hooks(encoder: Encoder, images: Tensor, layers: Sequence[str], take: Take) -> Iterator[None]:
    """In here a forward pass shows the blocks among `layers`."""
    blocks: list[nn.Module] = [block for stage in encoder.stage_blocks() for block in stage]
    modules = dict(zip(layer_names(encoder), blocks, strict=False))  # `last` is no block
    grid = (images.shape[-2] // encoder.patch, images.shape[-1] // encoder.patch)

    def show(module: nn.Module, inputs: Any, output: Tensor, name: str) -> None:
        take(name, _as_map(encoder.family, output, grid))

    hooks = [
        modules[name].register_forward_hook(partial(show, name=name))
        for name in layers
        if name in modules
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _as_map(family: str, output: Tensor, grid: tuple[int, int]) -> Tensor:
    """What a block gives -> (B, channels, h, w); `grid`: a ViT's rows and columns."""
    if family == "vit":
        return output[:, 1:].transpose(1, 2).unflatten(2, grid)
    return output.permute(0, 3, 1, 2) if family in ("swin", "swinv2") else output
