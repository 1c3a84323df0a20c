"""Encoders by name: pictures and hidden patches in, the feature maps of every stage out.

A family stands in one file, with its sizes in `SPECS`; adding one adds the file and its line here.
"""

from __future__ import annotations

from typing import Any

from mimray.mim.encoders import convnext, replknet, resnet, swin, swinv2, vit
from mimray.mim.encoders.protocol import Encoder, EncoderSpec, ImageSize
from mimray.mim.encoders.shortened import DropFrom, shortened_sizes
from mimray.settings_errors import nearest

__all__ = ["ENCODERS", "Encoder", "EncoderSpec", "ImageSize", "build_encoder"]

ENCODERS: dict[str, EncoderSpec] = {
    **swin.SPECS,
    **swinv2.SPECS,
    **vit.SPECS,
    **resnet.SPECS,
    **convnext.SPECS,
    **replknet.SPECS,
}


def build_encoder(
    name: str,
    image_size: ImageSize,
    window: int | None = None,
    drop_path: float = 0.0,
    *,
    finetune: bool = False,
    pretrained_windows: tuple[int | tuple[int, int], ...] | None = None,
    visible: int | None = None,
    drop_layers: int = 0,
    drop_from: DropFrom = "last",
) -> Encoder:
    """Build a freshly initialised encoder.

    `window`: tokens a side, the encoder's own when not given; `drop_path`: stochastic depth of the
    last block, growing linearly from 0; `finetune`: the variant that is fine-tuned (SimMIM's ViT has
    a position table in every block and no last norm then); `pretrained_windows`: SwinV2's windows
    of each stage in pre-training, which its position bias is scaled by; `visible`: build the variant
    that encodes only visible tokens, this many a picture; `drop_layers`: leave out so many of the last
    blocks, counted from where `drop_from` says (`mimray.mim.encoders.shortened`).

    Raises ValueError for an unknown name or a size that the encoder cannot take.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is not known{nearest(name, list(ENCODERS))}")
    spec = ENCODERS[name]
    check_image_size(name, image_size)
    asked: dict[str, Any] = {
        "image_size": image_size,
        "window": window or spec.window,
        "pretrained_windows": pretrained_windows,
    }
    sizes = {name: asked[name] for name in spec.takes} | dict(spec.sizes)
    if finetune:
        sizes |= spec.finetune
    if drop_layers:
        try:
            sizes = shortened_sizes(sizes, drop_layers, drop_from)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    build = spec.build
    if visible is not None:
        if spec.visible_only is None:
            raise ValueError(f"{name} cannot skip hidden tokens; Swin, SwinV2 and ViT can")
        build, sizes["visible"] = spec.visible_only, visible
    return build(drop_path=drop_path, **sizes)


def check_image_size(name: str, image_size: ImageSize) -> None:
    """Raises ValueError where the picture is not whole positions of the encoder's output."""
    stride = ENCODERS[name].stride
    for side in (image_size,) if isinstance(image_size, int) else image_size:
        if side % stride or side < stride:
            fits = max(stride, round(side / stride) * stride)
            raise ValueError(
                f"image size {side} is not a multiple of {name}'s stride {stride}; {fits} is"
            )
