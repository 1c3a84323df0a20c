"""ViT through timm's BEiT: SimMIM's variant with a relative position bias, and the standard one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.models.beit import Beit
from torch import Tensor, nn

from mimray.mim.encoders.protocol import Encoder, EncoderSpec, ImageSize
from mimray.mim.encoders.visible_vit import VisibleBlocks

Position = Literal["shared", "per_block", "absolute"]


class ViTEncoder(Encoder, Beit):  # type: ignore[misc]
    """Satisfies `Encoder`. Source: SimMIM `models/vision_transformer.py`, VisionTransformerForSimMIM.

    The mask token enters after the patch embedding (there is no norm there), the class token is
    never hidden and is dropped from the output. `position`: one relative table `shared` by all
    blocks (SimMIM's pre-training), one `per_block` (its fine-tuning), or an `absolute` embedding (the
    standard ViT of DeiT, MAE, MoCo v3 and DINO, whose bias of the keys is left out: it adds the same
    to all scores of a query, so the softmax cancels it). `layer_scale`: its start, or None for none.
    `feature_maps` are those after four quarters of the depth, all on one grid.
    """

    family = "vit"

    def __init__(
        self,
        image_size: ImageSize,
        drop_path: float,
        embed: int,
        depth: int,
        heads: int,
        patch: int,
        position: Position = "shared",
        layer_scale: float | None = 0.1,
        final_norm: bool = True,
    ) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=patch,
            num_classes=0,
            embed_dim=embed,
            depth=depth,
            num_heads=heads,
            drop_path_rate=drop_path,
            init_values=layer_scale,
            use_abs_pos_emb=position == "absolute",
            use_rel_pos_bias=position == "per_block",
            use_shared_rel_pos_bias=position == "shared",
            use_fc_norm=not final_norm,
        )
        self.fc_norm = nn.Identity()  # whoever classifies brings the norm that follows the pooling
        self.patch = patch
        quarters = min(4, depth)
        self.ends = tuple(depth * (stage + 1) // quarters for stage in range(quarters))
        self.depths = tuple(b - a for a, b in zip((0, *self.ends[:-1]), self.ends, strict=True))
        self.strides, self.widths = (patch,) * quarters, (embed,) * quarters
        self.mask_token = nn.Parameter(torch.empty(1, 1, embed))
        self._init_as_simmim()

    def _init_as_simmim(self) -> None:
        """Pre-training draws from a normal of std 0.02 cut at one sigma (timm's is uncut)."""
        tensors: list[Tensor] = [self.mask_token, self.cls_token]
        tensors += [m.weight for m in self.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        for tensor in tensors:
            nn.init.trunc_normal_(tensor, std=0.02, a=-0.02, b=0.02)
        self.fix_init_weight()  # the residual branches' last layers, divided by sqrt(2 x depth)

    def tokens(self, images: Tensor) -> Tensor:
        rows, columns = (n // self.patch for n in images.shape[-2:])
        return self.patch_embed(images).unflatten(1, (rows, columns))

    def stage_blocks(self) -> list[list[nn.Module]]:
        return [list(self.blocks)]

    def feature_maps(self, tokens: Tensor) -> list[Tensor]:
        rows, columns = tokens.shape[1:3]
        outputs = self.run_blocks(tokens.flatten(1, 2))
        return [x[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)) for x in outputs]

    def run_blocks(self, tokens: Tensor) -> list[Tensor]:
        """Tokens (B, N, embed) without the class token -> (B, 1 + N, embed) at each stage's end."""
        x = torch.cat([self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed.to(x.dtype)
        bias = self.rel_pos_bias() if self.rel_pos_bias is not None else None
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, shared_rel_pos_bias=bias)
            if number in self.ends:
                outputs.append(x)
        outputs[-1] = self.norm(x)
        return outputs


class VisibleViTEncoder(VisibleBlocks, ViTEncoder):  # type: ignore[misc]
    """Encodes `visible` tokens of each picture and no others; see `VisibleBlocks`."""


def _spec(embed: int, depth: int, heads: int, patch: int, standard: bool = False) -> EncoderSpec:
    sizes: dict[str, Any] = {"embed": embed, "depth": depth, "heads": heads, "patch": patch}
    if standard:
        sizes |= {"position": "absolute", "layer_scale": None}
    finetune = {} if standard else {"position": "per_block", "final_norm": False}
    return EncoderSpec(
        "vit",
        ViTEncoder,
        sizes,
        takes=("image_size",),
        finetune=finetune,
        visible_only=VisibleViTEncoder,
    )


SPECS = {
    "vit_nano": _spec(144, 8, 3, 8),
    "vit_small": _spec(384, 12, 6, 16),
    "vit_base": _spec(768, 12, 12, 16),
    "vit_large": _spec(1024, 24, 16, 16),
    "vit_huge": _spec(1280, 32, 16, 16),
    "vit_standard_small": _spec(384, 12, 6, 16, standard=True),
    "vit_standard_base": _spec(768, 12, 12, 16, standard=True),
    "vit_standard_large": _spec(1024, 24, 16, 16, standard=True),
    "vit_standard_huge": _spec(1280, 32, 16, 14, standard=True),
}
