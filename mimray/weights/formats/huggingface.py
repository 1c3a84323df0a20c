"""Hugging Face's names: Swin, SwinV2, ViT and BEiT.

Source: huggingface/transformers `models/{swin,swinv2,vit,beit}/modeling_*.py`. Names in files are the
ones below; transformers 5 uses others in memory, which are read too, and writes these. SimMIM's ViT,
with its relative position tables, is their BEiT; a ViT with absolute positions is their ViT.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from mimray.weights import bias_windows
from mimray.weights.formats.huggingface_config import family, left_out, model_class
from mimray.weights.formats.plain_vit import CLASS_HEAD
from mimray.weights.formats.protocol import Translated, Weights, reshape_token, why_no_place
from mimray.weights.formats.qkv import cut_three, join_three

_EMBEDDING = "embeddings.patch_embeddings.projection.weight"
_MODELS = re.compile(r"(swin|swinv2|vit|beit)\.")
_TABLE = "relative_position_bias_table"

# mimray's names and theirs: around the encoder, at its ends, and inside its blocks.
_AROUND = {"head.0.": "decoder.0.", "fc_norm.": "pooler.layernorm.", "classifier.": "classifier."}
_ENDS = {
    "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    "patch_embed.norm.": "embeddings.norm.",
    "mask_token": "embeddings.mask_token",
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "rel_pos_bias.": "encoder.relative_position_bias.",
    "norm.": "layernorm.",
}
_IN_BLOCK = {
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "attn.proj.": "attention.output.dense.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
    "gamma_": "lambda_",
}
_IN_SWIN = {
    "attn.q.": "attention.self.query.",
    "attn.k.": "attention.self.key.",
    "attn.v.": "attention.self.value.",
    f"attn.{_TABLE}": f"attention.self.{_TABLE}",
    "attn.logit_scale": "attention.self.logit_scale",
    "attn.cpb_mlp.": "attention.self.continuous_position_bias_mlp.",
}
_IN_VIT = {
    "attn.q.": "attention.attention.query.",
    "attn.k.": "attention.attention.key.",
    "attn.v.": "attention.attention.value.",
    f"attn.{_TABLE}": f"attention.attention.relative_position_bias.{_TABLE}",
}
# Theirs in memory since transformers 5, and mimray's.
_NEWER = {
    "shared_position_bias.": "rel_pos_bias.",
    "attention.q_proj.": "attn.q.",
    "attention.k_proj.": "attn.k.",
    "attention.v_proj.": "attn.v.",
    "attention.o_proj.": "attn.proj.",
    f"attention.relative_position_bias.{_TABLE}": f"attn.{_TABLE}",
    f"relative_position_bias.{_TABLE}": f"attn.{_TABLE}",
    "mlp.": "mlp.",
}
_NO_PLACE = {
    "pooler.dense.": "the pooler, which reads the class token",
    "lm_head.": "the classes of BEiT's visual tokens",
    "decoder.": "MAE's decoder",
}


class HuggingFace:
    """A `model.safetensors` or `pytorch_model.bin` of these models with any head."""

    name = "huggingface"

    def recognises(self, names: Collection[str]) -> bool:
        return any(name.endswith(_EMBEDDING) for name in names)

    def read(self, weights: Mapping[str, Tensor]) -> Translated:
        translated: Weights = {}
        dropped: dict[str, str] = {}
        foreign: list[str] = []
        for name, tensor in weights.items():
            bare = _MODELS.sub("", name, count=1) if _MODELS.match(name) else name
            ours = _to_mimray(bare)
            if ours and ours not in translated:  # BEiT may norm its last tokens twice
                translated[ours] = tensor
            elif why := why_no_place(bare, _NO_PLACE):
                dropped[name] = why
            else:
                foreign.append(name)
        if foreign:
            raise ValueError(
                "the file is of a Hugging Face model that is not Swin, SwinV2, ViT or BEiT, or has "
                f"parts that these have not ({', '.join(sorted(foreign)[:3])})"
            )
        is_swin = "encoder.layers.0.blocks.0.attn.k.bias" in translated
        if "encoder.cls_token" in translated and "fc_norm.weight" not in translated:
            unused = [name for name in translated if name.startswith("classifier.")]
            translated = {n: t for n, t in translated.items() if n not in unused}
            dropped |= dict.fromkeys(unused, CLASS_HEAD)
        joined, cancelled = join_three(translated, keys_have_bias=is_swin)
        joined |= bias_windows.from_coordinates(weights)
        return Translated(reshape_token(joined, 4), dropped | cancelled)

    def write(self, weights: Mapping[str, Tensor]) -> Weights:
        model = model_class(weights)
        prefix = "" if model.endswith("Model") else f"{family(weights)}."
        kept = {n: t for n, t in weights.items() if not n.startswith(left_out(weights))}
        cut = cut_three(reshape_token(kept, 3), keys_get_bias=family(weights) == "vit")
        return {_to_theirs(name, prefix): tensor for name, tensor in cut.items()}


def _to_mimray(name: str) -> str | None:
    """A name without the model's prefix -> mimray's; None where it has none."""
    if around := _swap(name, _inverse(_AROUND)):
        return around
    if merging := re.fullmatch(r"encoder\.layers\.(\d+)\.(downsample\..*)", name):
        return f"encoder.layers.{int(merging[1]) + 1}.{merging[2]}"
    if swin := re.fullmatch(r"(encoder\.layers\.\d+\.blocks\.\d+\.)(.*)", name):
        inner = _swap(swin[2], _inverse(_IN_BLOCK | _IN_SWIN) | _NEWER)
        return inner and f"{swin[1]}{inner}"
    if vit := re.fullmatch(r"(?:encoder\.layer|layers)\.(\d+)\.(.*)", name):
        inner = _swap(vit[2], _inverse(_IN_BLOCK | _IN_VIT) | _NEWER)
        return inner and f"encoder.blocks.{vit[1]}.{inner}"
    end = _swap(name, _inverse(_ENDS) | _NEWER)
    return end and f"encoder.{end}"


def _to_theirs(name: str, prefix: str) -> str:
    """The inverse of `_to_mimray`, for a name that has one."""
    if around := _swap(name, _AROUND):
        return f"{prefix}{around}" if around.startswith("pooler.") else around
    if merging := re.fullmatch(r"encoder\.layers\.(\d+)\.(downsample\..*)", name):
        return f"{prefix}encoder.layers.{int(merging[1]) - 1}.{merging[2]}"
    if swin := re.fullmatch(r"(encoder\.layers\.\d+\.blocks\.\d+\.)(.*)", name):
        return f"{prefix}{swin[1]}{_swap(swin[2], _IN_BLOCK | _IN_SWIN)}"
    if vit := re.fullmatch(r"encoder\.blocks\.(\d+)\.(.*)", name):
        return f"{prefix}encoder.layer.{vit[1]}.{_swap(vit[2], _IN_BLOCK | _IN_VIT)}"
    return f"{prefix}{_swap(name.removeprefix('encoder.'), _ENDS)}"


def _swap(name: str, table: Mapping[str, str]) -> str | None:
    """The name with another beginning, as the table has it."""
    for before, after in table.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    return None


def _inverse(table: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in table.items()}
