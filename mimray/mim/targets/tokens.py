"""The tokens of a frozen tokenizer, as classes (as BEiT predicts those of a dVAE)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mimray.mim.targets.classification import Classification
from mimray.mim.targets.tensors import read_tensors
from mimray.mim.targets.user_class import load_class
from mimray.recipe import TargetSettings


class Tokens(Classification):
    """What the user's tokenizer says of each of its patches.

    `target.module` names its class, an nn.Module that is made without arguments and then given the
    weights in `target.file`. It has `vocabulary`, how many tokens there are; `patch`, pixels of one;
    and `forward(images)` from normalised float32 (B, 3, H, W) to int64 (B, H/patch, W/patch). Example:
    `mimray/mim/targets/patch_codebook.py`.

    It is frozen and no part of the model: not trained, not saved with it, in evaluation for good. It
    is tried on a grey picture when the target is built, and follows the pictures to their device. A
    token is no picture.
    """

    def __init__(self, settings: TargetSettings, image_size: int) -> None:
        tokenizer = _load(settings.module, settings.file)
        super().__init__(tokenizer.vocabulary, 1, tokenizer.patch)
        self.name = settings.module
        self.frozen = (tokenizer,)  # in a tuple, nn.Module does not take it for a part of its own
        if image_size % self.pixel:
            raise ValueError(
                f"target.module={self.name}: its patch of {self.pixel} px does not divide the "
                f"{image_size} px picture"
            )
        self._try_out(image_size)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        tokenizer, device = self.frozen[0], images.device
        with torch.autocast(device.type, enabled=False):  # tokens are the data's, not the run's
            tokens = tokenizer.to(device)(images)
        batch, _, height, width = images.shape
        expected = (batch, height // self.pixel, width // self.pixel)
        is_tokens = isinstance(tokens, Tensor) and tokens.dtype == torch.int64
        if not is_tokens or tokens.shape != expected:
            raise ValueError(
                f"target.module={self.name}: gave {_described(tokens)} for pictures of {height} x "
                f"{width}; tokens are torch.int64 of shape {expected}"
            )
        return tokens[:, None]

    def to_images(self, prediction: Tensor, images: Tensor) -> None:
        return None

    def _try_out(self, image_size: int) -> None:
        with torch.device("cpu"):  # a model may be built on no device, to see whether it fits
            tokens = self(torch.zeros(1, 3, image_size, image_size))
        if tokens.min() < 0 or tokens.max() >= self.classes:
            raise ValueError(
                f"target.module={self.name}: gave tokens from {tokens.min()} to {tokens.max()}; "
                f"its vocabulary holds 0 to {self.classes - 1}"
            )


def _load(name: str | None, file: str | None) -> Any:
    """The user's tokenizer with its weights, frozen, on the CPU. Raises ValueError."""
    if name is None or file is None:
        raise ValueError(
            "target.kind=tokens needs target.module, the tokenizer's class (package.module:Class or "
            "path/to/file.py:Class), and target.file, its weights"
        )
    weights = read_tensors(file)
    made = load_class(name)
    with torch.device("cpu"):
        try:
            tokenizer = made()
        except TypeError as error:
            raise ValueError(f"target.module={name}: is made without arguments: {error}") from error
    try:
        tokenizer.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"target.file={file}: {_differences(tokenizer, weights)}") from error
    for attribute in ("vocabulary", "patch"):
        value = getattr(tokenizer, attribute, None)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"target.module={name}: {attribute}={value} must be a positive number")
    return tokenizer.eval().requires_grad_(False)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _differences(tokenizer: nn.Module, weights: dict[str, Tensor]) -> str:
    """Names and shapes in which weights are not a module's, in a line."""
    own = tokenizer.state_dict()
    missing = [name for name in own if name not in weights]
    strange = [name for name in weights if name not in own]
    sizes = [
        f"{name} is {tuple(weights[name].shape)} and not {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    lists = [("no", missing), ("no place for", strange), ("shapes:", sizes)]
    parts = [f"{what} {_some(names)}" for what, names in lists if names]
    return f"not the weights of {type(tokenizer).__name__}: {'; '.join(parts)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
