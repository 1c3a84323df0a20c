"""The attention of an encoder: its layers, and where in the picture the tokens of each stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.models.beit import Attention as ViTAttention
from timm.models.swin_transformer import window_partition
from torch import Tensor, nn
from torch.nn.functional import pad

from mimray.mim.encoders import Encoder
from mimray.mim.encoders.dense_attention import DenseAttention
from mimray.mim.encoders.layers import layer_stages


@dataclass(frozen=True)
class AttentionLayer:
    """An attention and the tokens that it runs over: a picture's windows of N tokens, or one window of
    all tokens.

    `name`: `block 1` and so on; `index`, `stage`: numbers from 1; `class_token`: whether the first token
    is one; `positions`: float32 (windows, N, 2), row and column of the token's middle in pixels of the
    picture, nan where it is no part of the picture (the class token, and the padding of a grid that
    windows do not divide); `attends`: bool (windows, N, N), the pairs of query and key that the encoder
    does not shut out.
    """

    name: str
    index: int
    stage: int
    heads: int
    module: nn.Module
    class_token: bool
    positions: Tensor
    attends: Tensor

    @property
    def placed(self) -> Tensor:
        """The tokens that are parts of the picture: bool (windows, N)."""
        return ~self.positions[..., 0].isnan()


def attention_layers(encoder: Encoder) -> list[AttentionLayer]:
    """The encoder's layers in the order they run; their tensors are on the CPU.

    Raises ValueError for an encoder without attention.
    """
    layers: list[AttentionLayer] = []
    blocks = [block for stage in encoder.stage_blocks() for block in stage]
    names = layer_stages(encoder).items()  # after the blocks comes the output
    for index, (block, (name, stage)) in enumerate(zip(blocks, names, strict=False), start=1):
        module: Any = getattr(block, "attn", None)
        if isinstance(module, ViTAttention):
            tokens = _whole_picture(encoder)
        elif isinstance(module, DenseAttention):
            tokens = _windows(block, encoder.strides[stage - 1])
        else:
            raise ValueError(
                f"a {encoder.family} has no attention to analyse; its receptive field, its kernels "
                "and its features (CKA) can be analysed"
            )
        layers.append(AttentionLayer(name, index, stage, module.num_heads, module, *tokens))
    return layers


def image_size(encoder: Encoder) -> tuple[int, int]:
    """Height and width of the pictures that an encoder with attention was built for."""
    embed: Any = encoder.patch_embed
    height, width = embed.img_size
    return height, width


def grid_positions(rows: int, columns: int, stride: int) -> Tensor:
    """The middles of a grid's cells of `stride` pixels: float32 (rows, columns, 2)."""
    places = [(torch.arange(n, dtype=torch.float32) + 0.5) * stride for n in (rows, columns)]
    return torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1)


def _whole_picture(encoder: Encoder) -> tuple[bool, Tensor, Tensor]:
    """Class token, positions and pairs of a ViT: the class token, then the patches row by row."""
    rows, columns = (side // encoder.patch for side in image_size(encoder))
    patches = grid_positions(rows, columns, encoder.patch).flatten(0, 1)
    positions = pad(patches, (0, 0, 1, 0), value=torch.nan)[None]
    return True, positions, _all_pairs(positions)


def _windows(block: Any, stride: int) -> tuple[bool, Tensor, Tensor]:
    """The same of timm's Swin block of either version.

    The positions go the way of the tokens: rolled, padded, then cut into windows. Without padding the
    tokens that may attend to each other are neighbours; timm pads after it rolls, and then a window may
    hold both ends of the picture.
    """
    (down, right), (high, wide) = block.shift_size, block.window_size
    rows, columns = block.input_resolution
    places = grid_positions(rows, columns, stride).roll((-down, -right), dims=(0, 1))
    places = pad(places, (0, 0, 0, -columns % wide, 0, -rows % high), value=torch.nan)
    positions = window_partition(places[None], (high, wide)).flatten(1, 2)
    shift = block.get_attn_mask()
    return False, positions, _all_pairs(positions) if shift is None else shift == 0


def _all_pairs(positions: Tensor) -> Tensor:
    windows, tokens, _ = positions.shape
    return torch.ones(windows, tokens, tokens, dtype=torch.bool)
