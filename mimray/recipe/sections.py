"""The sections of recipes: what each setting is called, may be, and is when it is not given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from mimray.redaction import holds_secret

NAME = r"^[A-Za-z0-9][A-Za-z0-9._=-]*$"
"""What may become a folder's name."""


class Section(BaseModel):
    """Unknown keys are refused, and addresses with a password; values do not change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _without_password(cls, value: Any) -> Any:
        """Of every setting, for any text may hold an address, and all are written down."""
        if any(map(holds_secret, _texts(value))):
            raise ValueError(
                "holds a password, which would be written into the run; leave it out of the address and "
                "set the environment variables of the store or server"
            )
        return value


def _texts(value: object) -> Iterator[str]:
    """Every text in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 < pair[0] <= pair[1]:
        raise ValueError(f"{list(pair)} is not a range; write it like [0.5, 1.0], above 0")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # an int64: the hash takes no more
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Uri = str  # or a path


class Model(Section):
    encoder: str = "swin_base"
    """Name of an encoder: `mimray.mim.encoders.ENCODERS`."""
    image_size: int = Field(192, ge=8, le=4096)
    """Side of the square training crop, pixels."""
    window: int | None = Field(None, ge=2)
    """Attention window in tokens (Swin, SwinV2); the encoder's own when not given."""
    drop_path: float = Field(0.0, ge=0.0, lt=1.0)
    """Stochastic depth of the last layer; it grows linearly from 0."""
    visible_only: bool = False
    """Encode visible tokens only (as MAE; Swin in windows): two to three times quicker, another
    model and a little less accurate. Needs head.kind=transformer, and mask.unit a multiple of the
    encoder's stride."""


class Mask(Section):
    strategy: str = "random"
    """Name of a strategy: `mimray.mim.masks.STRATEGIES`."""
    unit: int = Field(32, ge=1)
    """Mask patch size, pixels; a multiple of the encoder's patch that divides the image."""
    ratio: float = Field(0.6, gt=0.0, lt=1.0)
    """Share of the cells that is hidden, rounded up to whole cells."""


class Head(Section):
    kind: str = "linear"
    """Name of a prediction head, `mimray.mim.heads.HEADS`: linear, mlp, inverse_swin_tiny,
    inverse_swin_base, transformer."""
    depth: int = Field(1, ge=1)
    """Blocks of the transformer head."""
    width: int = Field(512, ge=64, multiple_of=64)
    """Channels of the transformer head."""


CLASSIFIED = ("bins", "clusters", "tokens")
"""Kinds of targets that have classes, and so the cross entropy."""


class TargetSettings(Section):
    kind: str = "pixels"
    """Name of a target, `mimray.mim.targets.TARGETS`: pixels; windowed or patches, pixels normalised
    by a sliding window's or their patch's mean and deviation; bins, clusters, tokens, which are
    classified; hog."""
    loss: Literal["l1", "l2", "smooth_l1"] = "l1"
    """Of targets that are regressed."""
    beta: float = Field(1.0, gt=0.0)
    """Smooth l1: where the parabola becomes a line, in units of the target."""
    region: Literal["hidden", "all"] = "hidden"
    """Where the training loss compares; held-out loss is always over what is hidden."""
    resolution: int | None = Field(None, ge=1)
    """Side of the target of a square picture (pixels, bins, clusters), the picture's when not given."""
    window: int = Field(47, ge=3)
    """windowed: side of the window, pixels, odd."""
    patch: int = Field(16, ge=2)
    """patches: side of the patch that is normalised, pixels."""
    bins: int = Field(8, ge=2, le=256)
    """bins: of equal width, each colour alone."""
    file: Uri | None = None
    """clusters: what `mimray data clusters` wrote; tokens: the tokenizer's weights. On every host."""
    module: str | None = None
    """tokens: the tokenizer's class, as package.module:Class or path/to/file.py:Class."""

    @model_validator(mode="after")
    def _loss_fits(self) -> TargetSettings:
        if self.kind in CLASSIFIED and self.loss != "l1":
            raise ValueError(
                f"loss={self.loss} is of targets that are regressed, not of {self.kind}"
            )
        if self.loss != "smooth_l1" and self.beta != 1.0:
            raise ValueError(f"beta={self.beta} is of loss=smooth_l1, not of {self.loss}")
        return self


class Data(Section):
    train: Uri = "builtin:photos/train"
    """Parquet file, folder of Parquet or of pictures, pattern, or URI (`s3://bucket/photos`)."""
    val: Uri | None = None
    """Validation pictures, as `train`; held out from `train` when not given."""
    val_fraction: float = Field(0.02, gt=0.0, lt=0.5)
    """Share held out when `val` is not given: at least 64 pictures, at most 5,000 or half."""
    val_seed: Seed = 0
    """Which pictures are held out, and every validation mask; not tied to `run.seed`, so that
    runs with different seeds compare."""
    subset: Uri | None = None
    """Rows to train on: a share like `10%` (seed 0; shares nest), or a manifest that `mimray data
    subset` wrote. What is held out is so from the whole, so validation compares."""
    upright: bool = False
    """Apply the rotation that a camera noted (EXIF); the papers' loader does not."""
    crop_scale: Range = (0.67, 1.0)
    """Random resized crop: share of the picture's area."""
    crop_ratio: Range = (3 / 4, 4 / 3)
    """Random resized crop: width / height."""
    flip: float = Field(0.5, ge=0.0, le=1.0)
    """Probability of a horizontal flip."""
    shuffle_window: int = Field(8192, ge=1)
    """Rows that are mixed with each other after the row groups have been permuted."""
    max_damaged: float = Field(0.05, ge=0.0, le=1.0)
    """Share of unreadable pictures above which the run stops."""
