"""Parameter groups: what is decayed, and at which share of the learning rate it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

DecayRule = Callable[[str, torch.Tensor], bool]
"""(name in the model, parameter) -> whether weight decay applies."""

LearningRateScale = Callable[[str], float]
"""Name in the model -> factor on the learning rate."""

# Never decayed, wherever they stand in a name.
_NO_DECAY = (
    "mask_token",
    "cls_token",
    "pos_embed",
    "relative_position_bias_table",
    "cpb_mlp",
    "logit_scale",
)

# What each official encoder lists as free of decay: whole names, and parts of names.
_OFFICIAL_LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "swin": (("mask_token", "absolute_pos_embed"), ("relative_position_bias_table",)),
    "swinv2": (
        ("mask_token", "absolute_pos_embed"),
        ("cpb_mlp", "logit_scale", "relative_position_bias_table"),
    ),
    "vit": (("cls_token", "pos_embed"), ()),
}


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: not to biases and norms (1-D), tokens and position tables."""
    return _is_weight(name, parameter) and not any(part in name for part in _NO_DECAY)


def official_decays(family: str, finetune: bool = False) -> DecayRule:
    """The rule of the official code for an encoder's `family` (microsoft/SimMIM `optimizer.py`).

    Its pre-training puts "encoder." before the listed parts, and then no name contains them: tables,
    position networks and logit scales are decayed. In fine-tuning there is no such prefix. A ViT
    lists neither its mask token nor its tables. Raises ValueError where there is no official code.
    """
    if family not in _OFFICIAL_LISTS:
        raise ValueError(
            f"optim.like_official: the official code has no {family}, only "
            f"{', '.join(_OFFICIAL_LISTS)}; leave it out"
        )
    names, parts = _OFFICIAL_LISTS[family]
    spared = {f"encoder.{name}" for name in names}
    matching = parts if finetune else ()

    def rule(name: str, parameter: torch.Tensor) -> bool:
        listed = name in spared or any(part in name for part in matching)
        return _is_weight(name, parameter) and not listed

    return rule


def _is_weight(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and not name.endswith(".bias")


def unscaled(name: str) -> float:
    """Every parameter at the whole learning rate."""
    del name
    return 1.0


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    rule: DecayRule = decays,
    lr_scale: LearningRateScale = unscaled,
) -> list[dict[str, Any]]:
    """Groups of equal `weight_decay` and `lr_scale`, from the lowest scale up, decayed ones first.

    Parameters stand in the order of `named_parameters`; those that are not trained stand nowhere.
    """
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = not rule(name, parameter)
            members.setdefault((lr_scale(name), spared), []).append(parameter)
    return [
        {"params": params, "weight_decay": 0.0 if spared else weight_decay, "lr_scale": scale}
        for (scale, spared), params in sorted(members.items(), key=lambda item: item[0])
    ]


def parameter_count(parameters: Iterable[torch.Tensor]) -> int:
    """How many numbers a model holds."""
    return sum(p.numel() for p in parameters)
