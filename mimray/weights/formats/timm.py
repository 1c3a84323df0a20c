"""timm's names: Swin, SwinV2, ViT, BEiT, ResNet and ConvNeXt.

mimray's encoders are timm's classes, so most names are the encoder's own. DeiT's files, DINO's
backbones and fine-tuned MAE have the plain ViT's names and are read here too. ConvNeXt's last norm
(`norm_pre`) stands on the map, as timm has it with `head_norm_first=True`; the published models have it
after the pooling (`head.norm`), and it is read into the same place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from mimray.weights import bias_windows
from mimray.weights.formats import beit, plain_vit
from mimray.weights.formats.official import DOWNSAMPLE
from mimray.weights.formats.protocol import REBUILT, Translated, Weights, is_rebuilt

# Where timm keeps what mimray calls `classifier.`, by a name that only this family has.
_HIERARCHIES = {
    "layers.0.blocks.0.attn.relative_position_bias_table": "head.fc.",
    "layers.0.blocks.0.attn.cpb_mlp.0.weight": "head.fc.",
    "stages.0.blocks.0.conv_dw.weight": "head.fc.",
    "layer1.0.conv1.weight": "fc.",
}
_VITS: dict[str, Callable[[Mapping[str, Tensor]], Translated]] = {
    beit.MARK: beit.read_beit,
    plain_vit.MARK: plain_vit.read_plain_vit,
}
_ONLY_HERE = ("encoder.mask_token", bias_windows.NAME)
_GRN = re.compile(r"stages\.\d+\.blocks\.\d+\.mlp\.grn\.")


class TimmFormat:
    """What `timm.create_model(...).state_dict()` holds, and `load_state_dict` takes."""

    name = "timm"

    def recognises(self, names: Collection[str]) -> bool:
        return DOWNSAMPLE not in names and any(mark in names for mark in {**_HIERARCHIES, **_VITS})

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        for mark, read in _VITS.items():
            if mark in weights:
                return read(weights)
        return _read_hierarchy(weights)

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        inner = {name.removeprefix("encoder.") for name in weights}
        if beit.MARK in inner:
            relative = any(n.endswith(("relative_position_bias_table", "gamma_1")) for n in inner)
            return (plain_vit.from_mimray if relative else plain_vit.write_plain_vit)(weights)
        return _write_hierarchy(weights)


def _read_hierarchy(weights: Mapping[str, Tensor]) -> Translated:
    """Encoders of several strides: `encoder.` before the names, the classifier apart."""
    if foreign := [name for name in weights if _GRN.match(name)]:
        raise ValueError(
            f"the file is of a ConvNeXt V2, which mimray's encoders do not have ({foreign[0]})"
        )
    head, after_pooling = _classifier(weights), "head.norm.weight" in weights
    translated: Weights = {}
    dropped: dict[str, str] = {}
    for name, tensor in weights.items():
        if is_rebuilt(name):
            dropped[name] = REBUILT
        elif not name.startswith(head):
            translated[f"encoder.{name.replace('head.norm.', 'norm_pre.')}"] = tensor
        elif after_pooling:
            dropped[name] = "a classifier whose norm comes after the pooling; mimray's comes before"
        else:
            translated[f"classifier.{name.removeprefix(head)}"] = tensor
    return Translated(translated | bias_windows.from_coordinates(weights), dropped)


def _write_hierarchy(weights: Mapping[str, Tensor]) -> Weights:
    """The inverse of `_read_hierarchy`, without what timm's models have not."""
    head = _classifier({name.removeprefix("encoder.") for name in weights})
    written: Weights = {}
    for name, tensor in weights.items():
        if name.startswith("classifier."):
            written[f"{head}{name.removeprefix('classifier.')}"] = tensor
        elif name.startswith("encoder.") and name not in _ONLY_HERE:
            written[name.removeprefix("encoder.")] = tensor
    return written


def _classifier(names: Collection[str]) -> str:
    for mark, head in _HIERARCHIES.items():
        if mark in names:
            return head
    raise ValueError(
        "timm's names are known for Swin, SwinV2, ViT, BEiT, ResNet and ConvNeXt, and these weights "
        f"are of none of them ({', '.join(sorted(names)[:3])})"
    )
