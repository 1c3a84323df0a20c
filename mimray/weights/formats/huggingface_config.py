"""Hugging Face's side of a model: its class, what that class leaves out, and its `config.json`.

Source: huggingface/transformers `models/{swin,swinv2,vit,beit}/configuration_*.py`, `modeling_*.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from mimray.mim.encoders import ENCODERS
from mimray.weights import bias_windows
from mimray.weights.architecture import Architecture, describe

_CLASSES = {"swin": "Swin", "swinv2": "Swinv2", "vit": "ViT", "beit": "Beit"}
_TABLES = ("relative_position_bias_table", "gamma_1")
_VIT_EPSILON = 1e-6  # of the norms of mimray's ViT; those of its Swins are 1e-5, as theirs


def family(weights: Collection[str]) -> str:
    """`model_type` of weights under mimray's names. Raises ValueError where there is none for them."""
    if "encoder.layers.0.blocks.0.attn.logit_scale" in weights:
        return "swinv2"
    if "encoder.layers.0.blocks.0.attn.qkv.weight" in weights:
        return "swin"
    if "encoder.blocks.0.attn.q_bias" in weights:
        return "beit" if any(name.endswith(_TABLES) for name in weights) else "vit"
    raise ValueError(
        "Hugging Face's names are known for Swin, SwinV2 and ViT, and these weights are of none of them; "
        "timm's are known for ResNet and ConvNeXt"
    )


def model_class(weights: Mapping[str, Tensor]) -> str:
    """The class that has all these weights, or most of them.

    A classifier's Swin, SwinV2 or ViT with position tables; pre-training with the linear head on all
    pixels, but for BEiT, which has no such head; or else the bare model.

    Raises ValueError for another family, and for a Swin whose stages have windows of several sizes.
    """
    kind, sizes = family(weights), _described(weights)
    _check_windows(kind, sizes)
    pools_alike = kind != "vit" and ("fc_norm.weight" in weights) == (kind == "beit")
    if "classifier.weight" in weights and pools_alike:
        return f"{_CLASSES[kind]}ForImageClassification"
    pixels = 3 * _stride(sizes) ** 2
    head = {name: len(tensor) for name, tensor in weights.items() if name.startswith("head.")}
    linear = head == {"head.0.weight": pixels, "head.0.bias": pixels}
    token = weights.get("encoder.mask_token")
    before = token is not None and token.shape[-1] == sizes.embed  # the encoder, not behind it
    pretrained = linear and before and kind != "beit"
    return f"{_CLASSES[kind]}{'ForMaskedImageModeling' if pretrained else 'Model'}"


def left_out(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Beginnings of mimray's names that the class has no place for."""
    model, is_beit = model_class(weights), family(weights) == "beit"
    unused = ["target.", bias_windows.NAME]
    if model.endswith("ForMaskedImageModeling"):
        return (*unused, "classifier.", "fc_norm.")
    unused.append("head.")
    if not is_beit:  # of the others only the class above has a mask token, and none a norm there
        unused += ["encoder.mask_token", "fc_norm."]
    if not model.endswith("ForImageClassification"):
        unused.append("classifier.")
    return tuple(unused)


def config(
    weights: Mapping[str, Tensor], encoder: str | None, image_size: int | None, window: int | None
) -> dict[str, Any]:
    """`config.json` for weights under mimray's names.

    `encoder`, `image_size` (pixels), `window` (tokens a side): what is known of the model beside its
    weights; a plain ViT's heads, SwinV2's window and picture cannot be told from them.

    Raises ValueError where something is needed and not given.
    """
    model, kind, sizes = model_class(weights), family(weights), _described(weights)
    stride = _stride(sizes)
    shared: dict[str, Any] = {
        "architectures": [model],
        "model_type": kind,
        "patch_size": sizes.patch,
        "num_channels": 3,
        "encoder_stride": stride,
        "image_size": image_size or _image_size(weights, sizes, stride),
    }
    if "classifier.weight" in weights:
        shared["num_labels"] = len(weights["classifier.weight"])
    if kind in ("swin", "swinv2"):
        shared |= {
            "embed_dim": sizes.embed,
            "depths": list(sizes.depths),
            "num_heads": list(sizes.heads),
            "window_size": _window(sizes, window),
        }
        return shared | (
            {"pretrained_window_sizes": _learned_at(weights, len(sizes.depths))}
            if kind == "swinv2"
            else {}
        )
    shared |= {
        "hidden_size": sizes.embed,
        "num_hidden_layers": sizes.depths[0],
        "num_attention_heads": _heads(sizes, encoder),
        "intermediate_size": len(weights["encoder.blocks.0.mlp.fc1.weight"]),
        "layer_norm_eps": _VIT_EPSILON,
    }
    return shared | (_beit(weights) if kind == "beit" else {})


def _beit(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What BEiT's configuration has and ViT's has not."""
    gamma = weights.get("encoder.blocks.0.gamma_1")
    return {
        "use_mask_token": "encoder.mask_token" in weights,
        "use_absolute_position_embeddings": "encoder.pos_embed" in weights,
        "use_shared_relative_position_bias": (
            "encoder.rel_pos_bias.relative_position_bias_table" in weights
        ),
        "use_relative_position_bias": (
            "encoder.blocks.0.attn.relative_position_bias_table" in weights
        ),
        "layer_scale_init_value": 0.0 if gamma is None else 0.1,
        "use_mean_pooling": "encoder.norm.weight" not in weights,  # what follows is normed instead
    }


def _described(weights: Mapping[str, Tensor]) -> Architecture:
    sizes = describe(weights)
    assert sizes is not None, "a family was recognised"
    return sizes


def _stride(sizes: Architecture) -> int:
    assert sizes.patch is not None, "Swin and ViT have a patch embedding"
    return int(sizes.patch * 2 ** (len(sizes.depths) - 1))


def _check_windows(kind: str, sizes: Architecture) -> None:
    windows = set(sizes.windows)
    if kind == "swin" and len(windows) > 1:
        raise ValueError(
            f"Hugging Face's Swin has one window for all stages, and this one's are of "
            f"{' and '.join(map(str, sorted(windows)))} tokens; timm's names have them"
        )


def _image_size(weights: Mapping[str, Tensor], sizes: Architecture, stride: int) -> int:
    """From the grid that a ViT's positions span; of a Swin, so that the last stage is one window."""
    if sizes.windows:
        return sizes.windows[-1] * stride
    if "encoder.pos_embed" in weights:
        return math.isqrt(weights["encoder.pos_embed"].shape[1] - 1) * stride
    for name, table in weights.items():
        if name.endswith(_TABLES[0]):
            return (math.isqrt(len(table) - 3) + 1) // 2 * stride
    raise ValueError(
        "SwinV2's weights do not tell the size of its pictures; name it (--image-size)"
    )


def _window(sizes: Architecture, window: int | None) -> int:
    if sizes.windows:
        return sizes.windows[0]
    if window is None:
        raise ValueError("SwinV2's weights do not tell its window; name it (--window)")
    return window


def _learned_at(weights: Mapping[str, Tensor], stages: int) -> list[int]:
    """The windows that SwinV2's position bias is scaled by, whatever window it is used at; 0, which is
    that window, where the weights do not tell."""
    known = weights.get(bias_windows.NAME)
    return [0] * stages if known is None else known[:, 0].tolist()


def _heads(sizes: Architecture, encoder: str | None) -> int:
    if sizes.heads:
        return sizes.heads[0]
    known = [encoder] if encoder else sizes.encoders()
    if len(known) != 1 or known[0] not in ENCODERS:
        raise ValueError(
            "a plain ViT's weights do not tell its heads; name the encoder (--encoder)"
        )
    return int(ENCODERS[known[0]].sizes["heads"])
