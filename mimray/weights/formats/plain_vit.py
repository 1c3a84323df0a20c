"""The plain ViT's names, which DeiT, timm, MAE, MoCo v3 and DINO share.

Source: timm `models/vision_transformer.py`. In mimray it is a `vit_standard_*` encoder: absolute
position, class token, no layer scale, queries, keys and values with a bias of its own each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights.formats.protocol import Translated, Weights
from mimray.weights.formats.qkv import cut_bias, join_bias

CLASS_HEAD = "a classifier of the class token; mimray's read the mean over the patches"
MARK = "blocks.0.attn.qkv.weight"

_KNOWN = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|(norm|fc_norm|head)\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
)
_SWIGLU = "a gated MLP (SwiGLU)"
_FOREIGN = {
    "dist_token": "a distillation token (a distilled DeiT); take the DeiT without",
    "reg_token": "register tokens",
    "register_tokens": "register tokens",
    "mlp.w": _SWIGLU,
    "mlp.fc1_g": _SWIGLU,
    "attn.q_norm": "norms of queries and keys",
    "ls1.": "layer scale",
    "gamma_1": "layer scale",
    "norm_pre": "a norm before the first block",
    "attn_pool": "attention pooling",
    "patch_embed.": "a patch embedding of several layers",
}


def read_plain_vit(weights: Mapping[str, Tensor]) -> Translated:
    """From the plain ViT's names, without a prefix, to mimray's.

    Raises ValueError, naming the part, for a ViT that has what `vit_standard_*` has not.
    """
    refuse_foreign([name for name in weights if not _KNOWN.fullmatch(name)])
    for name in ("cls_token", "pos_embed"):
        if name not in weights:
            raise ValueError(f"the file is of a ViT without {name}, which vit_standard_* needs")
    shape = tuple(weights["pos_embed"].shape)
    if len(shape) != 3:
        raise ValueError(f"pos_embed is {shape}, and not (1, positions, width)")
    _check_positions(shape[1])
    _check_mlp(weights)
    cut, cancelled = cut_bias(weights)
    translated, dropped = to_mimray(cut)
    return Translated(translated, cancelled | dropped)


def write_plain_vit(weights: Mapping[str, Tensor]) -> Weights:
    """From mimray's names to the plain ViT's, without the classifier: theirs reads the class token."""
    return join_bias(from_mimray({n: t for n, t in weights.items() if n.startswith("encoder.")}))


def to_mimray(weights: Mapping[str, Tensor]) -> Translated:
    """The names around the blocks, of both ViTs, this one and BEiT's.

    mimray's classifiers pool the patches. A ViT with `fc_norm`, the norm after the pooling, does too;
    of others the classifier is dropped.
    """
    translated: Weights = {}
    dropped: dict[str, str] = {}
    for name, tensor in weights.items():
        if not name.startswith("head."):
            translated[name if name.startswith("fc_norm.") else f"encoder.{name}"] = tensor
        elif "fc_norm.weight" in weights:
            translated[f"classifier.{name.removeprefix('head.')}"] = tensor
        else:
            dropped[name] = CLASS_HEAD
    return Translated(translated, dropped)


def from_mimray(weights: Mapping[str, Tensor]) -> Weights:
    """The inverse of `to_mimray`, without what only pre-training has; BEiT's names need no more."""
    renamed: Weights = {}
    for name, tensor in weights.items():
        if not name.startswith(("head.", "target.")) and name != "encoder.mask_token":
            renamed[name.removeprefix("encoder.").replace("classifier.", "head.")] = tensor
    return renamed


def refuse_foreign(names: Collection[str]) -> None:
    """Raises ValueError where there are any, saying what kind of ViT has them."""
    if not names:
        return
    parts = {why for name in names for mark, why in _FOREIGN.items() if mark in name}
    has = " and ".join(sorted(parts)) or "parts that are not known"
    shown = ", ".join(sorted(names)[:3])
    raise ValueError(f"the file is of a ViT with {has}, which mimray's encoders lack ({shown})")


def _check_positions(count: int) -> None:
    """Some ViTs (DeiT III) give the class token no position; a grid of 14 x 14 has 196 then."""
    if math.isqrt(count) ** 2 == count and math.isqrt(count - 1) ** 2 != count - 1:
        raise ValueError(
            f"pos_embed has {count} positions, which is a square grid and none for the class token; "
            "vit_standard_* has one more"
        )


def _check_mlp(weights: Mapping[str, Tensor]) -> None:
    """A gated MLP may have the plain one's names; its first layer gives twice what the second takes."""
    first, second = (weights.get(f"blocks.0.mlp.fc{n}.weight") for n in (1, 2))
    if first is not None and second is not None and first.shape[0] != second.shape[1]:
        raise ValueError(
            f"the file is of a ViT with {_SWIGLU}, which mimray's encoders lack (blocks.0.mlp.fc1.weight "
            f"is {tuple(first.shape)}, blocks.0.mlp.fc2.weight {tuple(second.shape)})"
        )
