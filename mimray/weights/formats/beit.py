"""BEiT's names, of its own files (v1 and v2) and of timm's `beit_*`; mimray's ViT has them inside.

Sources: microsoft/unilm `beit/modeling_pretrain.py`, `beit2/modeling_pretrain.py`; timm
`models/beit.py`. BEiT is the ViT that SimMIM took over: relative position tables, shared by all
blocks in pre-training and one a block in fine-tuning, and layer scale.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights.formats.plain_vit import refuse_foreign, to_mimray
from mimray.weights.formats.protocol import Translated, Weights, is_rebuilt, why_no_place

MARK = "blocks.0.attn.q_bias"

_KNOWN = re.compile(
    r"cls_token|mask_token|pos_embed|rel_pos_bias\.relative_position_bias_table"
    r"|(patch_embed\.proj|norm|fc_norm|head)\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
    r"|blocks\.\d+\.(gamma_[12]|attn\.(qkv\.weight|q_bias|v_bias|relative_position_bias_table))"
)
_PRETRAINING = {
    "lm_head.": "the classes of BEiT's visual tokens",
    "cls_pt_layers.": "BEiT v2's extra layers of pre-training",
    "cls_pt_norm.": "BEiT v2's extra layers of pre-training",
    "cls_pt_lm_head.": "BEiT v2's extra layers of pre-training",
}


class Beit:
    """BEiT's own files; timm's are read by the function below too."""

    name = "beit"

    def recognises(self, names: Collection[str]) -> bool:
        own = any(n.startswith(tuple(_PRETRAINING)) or is_rebuilt(n) for n in names)
        return MARK in names and own

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        return read_beit(weights)

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        raise ValueError("BEiT's own files are read, not written; timm's names are the same")


def read_beit(weights: Mapping[str, Tensor]) -> Translated:
    """From BEiT's names, without a prefix, to mimray's. Raises ValueError for another kind of ViT."""
    dropped = {name: why for name in weights if (why := why_no_place(name, _PRETRAINING))}
    kept = {name: tensor for name, tensor in weights.items() if name not in dropped}
    refuse_foreign([name for name in kept if not _KNOWN.fullmatch(name)])
    translated, unused = to_mimray(kept)
    return Translated(translated, dropped | unused)
