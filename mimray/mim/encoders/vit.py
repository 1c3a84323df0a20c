"""SimMIM's ViT through timm's BEiT: shared relative position bias, layer scale, no absolute one."""

from __future__ import annotations

import torch
from timm.models.beit import Beit
from torch import Tensor, nn


class ViTEncoder(Beit):
    """Satisfies `Encoder`. Source: SimMIM `models/vision_transformer.py`, VisionTransformerForSimMIM.

    The mask token enters after the patch embedding (there is no norm there), the class token is
    never hidden and is dropped from the output. Layer scale starts at 0.1, the position table at 0.
    """

    def __init__(
        self,
        image_size: int,
        window: int | None,
        drop_path: float,
        embed: int,
        depth: int,
        heads: int,
        patch: int,
    ) -> None:
        del window  # global attention
        super().__init__(
            img_size=image_size,
            patch_size=patch,
            num_classes=0,
            embed_dim=embed,
            depth=depth,
            num_heads=heads,
            drop_path_rate=drop_path,
            init_values=0.1,
            use_abs_pos_emb=False,
            use_shared_rel_pos_bias=True,
            use_fc_norm=False,
        )
        self.patch = self.stride = patch
        self.channels = embed
        self.mask_token = nn.Parameter(torch.empty(1, 1, embed))
        self._init_as_simmim()

    def _init_as_simmim(self) -> None:
        """Pre-training draws from a normal of std 0.02 cut at one sigma (timm's is uncut)."""
        tensors: list[Tensor] = [self.mask_token, self.cls_token]
        tensors += [m.weight for m in self.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        for tensor in tensors:
            nn.init.trunc_normal_(tensor, std=0.02, a=-0.02, b=0.02)
        self.fix_init_weight()  # the residual branches' last layers, divided by sqrt(2 x depth)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:  # type: ignore[override]
        batch, rows, columns = hidden.shape
        tokens = self.patch_embed(images)  # (B, rows * columns, embed)
        tokens = torch.where(hidden.flatten(1)[..., None], self.mask_token.to(tokens.dtype), tokens)
        x = torch.cat([self.cls_token.to(tokens.dtype).expand(batch, -1, -1), tokens], dim=1)
        bias = self.rel_pos_bias()
        for block in self.blocks:
            x = block(x, shared_rel_pos_bias=bias)
        features = self.norm(x)[:, 1:]
        return features.transpose(1, 2).reshape(batch, self.channels, rows, columns)


def vit(**sizes: object) -> nn.Module:
    """Build a `ViTEncoder`."""
    return ViTEncoder(**sizes)  # type: ignore[arg-type]
