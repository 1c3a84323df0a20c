"""What encoder a set of weights is of, as far as names and shapes tell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from mimray.mim.encoders import ENCODERS, EncoderSpec


class _Family(NamedTuple):
    """`stem`: the first weights; `blocks`: names of what every block has once, by stage and number;
    `halves`: modules that make one block."""

    stem: str
    blocks: str
    halves: int = 1


# Asked in this order: SwinV2 has all of Swin's names but the tables.
_FAMILIES = {
    "swinv2": _Family("patch_embed.proj.weight", r"layers\.(\d+)\.blocks\.\d+\.attn\.logit_scale"),
    "swin": _Family("patch_embed.proj.weight", r"layers\.(\d+)\.blocks\.\d+\.attn\.qkv\.weight"),
    "vit": _Family("patch_embed.proj.weight", r"()blocks\.\d+\.attn\.qkv\.weight"),
    "resnet": _Family("conv1.weight", r"layer(\d+)\.\d+\.conv1\.weight"),
    "convnext": _Family("stem.0.weight", r"stages\.(\d+)\.blocks\.\d+\.conv_dw\.weight"),
    "replknet": _Family("stem.0.conv.weight", r"stages\.(\d+)\.blocks\.\d+\.pw1\.conv\.weight", 2),
}
_TABLE = "relative_position_bias_table"


@dataclass(frozen=True)
class Architecture:
    """An encoder's family and sizes, named as in `EncoderSpec.sizes`; `depths` of a ViT is one number.

    `heads` is empty where the weights do not tell; `position` is a ViT's kind of position, `windows`
    a Swin's window of every stage, empty where the weights do not tell.
    """

    family: str
    embed: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    patch: int | None
    position: str | None
    windows: tuple[int, ...]

    def encoders(self) -> list[str]:
        """Names in `ENCODERS` that are built like this."""
        return [name for name, spec in ENCODERS.items() if self._is_built_by(spec)]

    def _is_built_by(self, spec: EncoderSpec) -> bool:
        sizes: Mapping[str, Any] = spec.sizes
        depths = sizes["depths"] if "depths" in sizes else (sizes["depth"],)
        heads = sizes.get("heads", ())
        kinds = {s.get("position", "shared") for s in (sizes, dict(sizes) | dict(spec.finetune))}
        return (
            spec.family == self.family
            and sizes["embed"] == self.embed
            and tuple(depths) == self.depths
            and self.heads in ((), heads if isinstance(heads, tuple) else (heads,))
            and self.patch in (None, spec.patch)
            and (self.position is None or self.position in kinds)
        )

    def __str__(self) -> str:
        parts = [f"{self.family}: embed {self.embed}", f"depths {_numbers(self.depths)}"]
        if self.heads:
            parts.append(f"heads {_numbers(self.heads)}")
        if self.patch:
            parts.append(f"patch {self.patch}")
        if self.windows:
            parts.append(f"windows {_numbers(self.windows)}")
        if self.position:
            parts.append(f"position {self.position}")
        known = self.encoders()
        return ", ".join(parts) + (f" ({' or '.join(known)})" if known else "")


def describe(weights: Mapping[str, Tensor]) -> Architecture | None:
    """The architecture of `encoder.*` under mimray's names; None where it is of no known family."""
    encoder = {
        n.removeprefix("encoder."): t for n, t in weights.items() if n.startswith("encoder.")
    }
    for name, family in _FAMILIES.items():
        found = [match for n in encoder if (match := re.fullmatch(family.blocks, n))]
        if found and family.stem in encoder:
            counts = Counter(match[1] for match in found)
            depths = tuple(n // family.halves for _, n in sorted(counts.items()))
            stem = encoder[family.stem]
            return Architecture(
                family=name,
                embed=stem.shape[0],
                depths=depths,
                heads=_heads(encoder),
                patch=stem.shape[-1] if family.stem.startswith("patch_embed") else None,
                position=_position(encoder) if name == "vit" else None,
                windows=_windows(encoder) if name == "swin" else (),
            )
    return None


def _heads(encoder: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Of every stage's first block: columns of a table, or outputs of SwinV2's position MLP."""
    counts = {n: t.shape[1] for n, t in encoder.items() if n.endswith(_TABLE)}
    counts |= {n: t.shape[0] for n, t in encoder.items() if n.endswith("cpb_mlp.2.weight")}
    first = re.compile(r"(layers\.\d+\.)?blocks\.0\.|rel_pos_bias\.")
    return tuple(heads for name, heads in sorted(counts.items()) if first.match(name))


def _windows(encoder: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Side of every stage's window, from its first block's table of (2 * side - 1)^2 entries."""
    tables = {n: t for n, t in encoder.items() if n.endswith(f".blocks.0.attn.{_TABLE}")}
    return tuple((round(len(t) ** 0.5) + 1) // 2 for _, t in sorted(tables.items()))


def _position(encoder: Mapping[str, Tensor]) -> str:
    if "pos_embed" in encoder:
        return "absolute"
    return "shared" if f"rel_pos_bias.{_TABLE}" in encoder else "per_block"


def _numbers(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))
