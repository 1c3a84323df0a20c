"""Every setting of a run, typed and checked, and how a recipe is read.

Sections `model, mask, head, target, data, optim, schedule` and `run.seed` change the result; their
digest names the run. `speed` and the rest of `run` may not change it. No torch here, so that the
command line answers at once.
"""

from __future__ import annotations

import hashlib
import json
import math
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mimray.durations import Duration, Length
from mimray.errors import UserError
from mimray.settings_errors import explain

RESULT_SECTIONS = ("model", "mask", "head", "target", "data", "optim", "schedule")


NAME = r"^[A-Za-z0-9][A-Za-z0-9._=-]*$"
"""What may become a folder's name."""


class Section(BaseModel):
    """Unknown keys are refused; values do not change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 < pair[0] <= pair[1]:
        raise ValueError(f"{list(pair)} is not a range; write it like [0.5, 1.0], above 0")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # an int64: the hash takes no more
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Model(Section):
    encoder: str = "swin_base"
    """Name of an encoder: `mimray.mim.encoders.ENCODERS`."""
    image_size: int = Field(192, ge=8)
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
    file: str | None = None
    """clusters: what `mimray data clusters` wrote; tokens: the tokenizer's weights. On every host."""
    module: str | None = None
    """tokens: the tokenizer's class, as package.module:Class or path/to/file.py:Class."""


class Data(Section):
    train: str = "builtin:photos/train"
    """Parquet file, folder of Parquet or of pictures, pattern, or URI (`s3://bucket/photos`)."""
    val: str | None = None
    """Validation pictures, as `train`; held out from `train` when not given."""
    val_fraction: float = Field(0.02, gt=0.0, lt=0.5)
    """Share held out when `val` is not given: at least 64 pictures, at most 5,000 or half."""
    val_seed: Seed = 0
    """Which pictures are held out, and every validation mask; not tied to `run.seed`, so that
    runs with different seeds compare."""
    subset: str | None = None
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


class Optim(Section):
    batch: int = Field(2048, ge=1)
    """Global batch: pictures an optimiser step, whatever the number of workers."""
    lr: float = Field(8e-4, gt=0.0)
    """Peak learning rate at this batch (the papers state it for 512: multiply by batch / 512)."""
    weight_decay: float = Field(0.05, ge=0.0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0.0)
    clip: float = Field(5.0, gt=0.0)
    """Global gradient norm above which gradients are scaled down."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """`auto`: bf16 where the device computes it natively; what was used stands in run.json."""
    like_official: bool = False
    """SimMIM's published loop, faults included: position tables are decayed, gradients are clipped
    after every micro-batch (so speed.workers and speed.micro_batch change the result), the learning
    rate comes a step late, the cosine starts at step 0. For Swin, SwinV2 and ViT."""


class Schedule(Section):
    length: Length = "800ep"
    """Length of the run: 100ep, 125000it or 1.28e8img."""
    warmup: Duration = "10ep"
    """Linear warm-up from `warmup_lr`."""
    warmup_lr: float = Field(0.0, ge=0.0)
    kind: Literal["cosine", "multistep", "step", "linear"] = "cosine"
    """`linear` ends at 1 % of the peak."""
    min_lr: float = Field(0.0, ge=0.0)
    """Where the cosine ends."""
    warmup_prefix: bool | None = None
    """Cosine: whether it starts where the warm-up ends (true) or at step 0 (false); when not given,
    false with optim.like_official, else true."""
    milestones: tuple[Duration, ...] = ("87.5%",)
    """Multistep: where the learning rate is multiplied by `gamma`."""
    step_every: Duration | None = None
    """Step: how often it is."""
    gamma: float = Field(0.1, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _kind_fits(self) -> Schedule:
        if self.kind == "step" and self.step_every is None:
            raise ValueError("kind=step needs step_every; write schedule.step_every=30ep")
        if self.kind != "step" and self.step_every is not None:
            raise ValueError(
                f"step_every={self.step_every} is of kind=step, not of {self.kind}; leave it out"
            )
        if self.kind == "multistep" and not self.milestones:
            raise ValueError("kind=multistep needs milestones; write [87.5%]")
        if self.kind != "cosine" and self.warmup_prefix is not None:
            raise ValueError(f"warmup_prefix is of kind=cosine, not of {self.kind}; leave it out")
        return self


class Run(Section):
    name: str | None = Field(None, pattern=NAME)
    """Folder of the run; recipe name and digest when not given."""
    storage: str | None = None
    """Folder or URI of all runs; `runs` in the project's folder when not given."""
    tracking: str | None = None
    """MLflow's address; a sqlite file in the project's folder when not given, `off` for none."""
    experiment: str = "mimray"
    """MLflow's experiment."""
    seed: Seed = 0
    """Of the weights, the order, the crops and the masks."""
    validate_every: Duration = "5%"
    checkpoint_every: Duration = "1000it"
    keep: int = Field(2, ge=1)
    """Newest checkpoints that are kept; the one with the best validation loss is kept besides."""
    log_every: Duration = "10it"
    """A row in metrics.jsonl; it averages the steps since the row before."""
    restarts: int = Field(3, ge=0)
    """How often a group of workers that died is started again, without a new checkpoint in between,
    before the run fails."""

    @field_validator("tracking", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads a bare `off` as false


class Speed(Section):
    workers: int = Field(1, ge=1)
    """Trainers, one a GPU."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto`: GPUs if the cluster has enough of them for all workers."""
    cpus_per_worker: float | None = Field(None, gt=0.0)
    """CPUs that Ray reserves for a trainer; the most that leaves the data a whole one when not
    given."""
    placement: Literal["spread", "pack"] = "spread"
    """Trainers on as many hosts as there are, or on as few."""
    micro_batch: int | None = Field(None, ge=1)
    """Pictures in one forward pass of one worker; at most batch / workers, and 128
    when not given."""
    loader: Literal["ray", "torch"] = "ray"
    """Ray Data, which decodes on every CPU of the cluster, or a torch DataLoader on the trainer's
    own host, to compare with."""
    loader_processes: int = Field(2, ge=0)
    """Processes of each trainer's torch DataLoader."""
    block_rows: int = Field(256, ge=1)
    """Pictures that one data task decodes."""
    cache_gib: float = Field(2.0, ge=0.0)
    """Row groups that a host keeps for all its data tasks; a shuffle window should fit twice."""
    prefetch: int = Field(2, ge=0)
    """Micro-batches that a worker holds ready."""


class Recipe(Section):
    """All settings of a pre-training run. `name` is the recipe's own, from its file."""

    name: str = Field("recipe", pattern=NAME)
    model: Model = Model()
    mask: Mask = Mask()
    head: Head = Head()
    target: TargetSettings = TargetSettings()
    data: Data = Data()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    run: Run = Run()
    speed: Speed = Speed()

    @model_validator(mode="after")
    def _mask_fits(self) -> Recipe:
        size, unit, ratio = self.model.image_size, self.mask.unit, self.mask.ratio
        if size % unit:
            fits = [d for d in range(1, size + 1) if size % d == 0 and d >= 4]
            near = sorted(sorted(fits, key=lambda d: abs(d - unit))[:3])
            raise ValueError(
                f"mask.unit={unit} does not divide model.image_size={size}; "
                f"near it {', '.join(map(str, near))} do"
            )
        cells = (size // unit) ** 2
        if cells == 1:
            raise ValueError(f"mask.unit={unit} is the whole picture; take a smaller one")
        if math.ceil(cells * ratio) >= cells:
            raise ValueError(
                f"mask.ratio={ratio} hides all {cells} cells of {unit} px; "
                f"the most that leaves one visible is {math.floor((cells - 1) / cells * 1000) / 1000}"
            )
        return self

    def digest(self) -> str:
        """Hex digest of everything that changes the result."""
        settings = self.model_dump(mode="json", include=set(RESULT_SECTIONS))
        settings["seed"] = self.run.seed
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def run_name(self) -> str:
        """`run.name`, or the recipe's name with its digest: another setting is another run."""
        return self.run.name or f"{self.name}-{self.digest()[:8]}"

    def to_yaml(self) -> str:
        """All settings, resolved, as YAML that `load_recipe` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def builtin_recipes() -> dict[str, Path]:
    """The recipes that come with mimray, by name."""
    folder = Path(str(resources.files("mimray"))) / "recipes"
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe by name or path, with `section.key=value` overrides.

    Other training pictures without other validation pictures: those of the recipe are dropped, and
    some are held out.

    Raises UserError, in one line, for an unknown recipe or key and for values that do not fit.
    """
    known = builtin_recipes()
    file = known.get(str(path), Path(path))
    if "=" in str(path):
        raise UserError(f"the recipe comes first, then settings: demo {path}")
    if not file.is_file():
        raise UserError(f"no recipe {str(path)!r}: a YAML file, or one of {', '.join(known)}")
    try:
        settings = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date like 2026-13-01
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    settings = {} if settings is None else settings  # an empty file is all defaults
    if not isinstance(settings, dict):
        raise UserError(f"{file}: a recipe is a list of sections, like `mask: {{unit: 32}}`")
    settings = {"name": file.stem} | settings
    for override in overrides:
        _apply(settings, override)
    named = {override.partition("=")[0] for override in overrides}
    if "data.train" in named and "data.val" not in named:
        settings["data"].pop("val", None)  # the recipe's own belongs to the recipe's own photos
    return validate_recipe(settings)


def validate_recipe(settings: dict[str, Any]) -> Recipe:
    """Check settings that are already a dictionary. Raises UserError."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise UserError(explain(error, Recipe)) from None


def _is_text(section: str, key: str) -> bool:
    """Whether a setting is plain text, which needs no YAML: run.name=2024, run.tracking=off."""
    known = Recipe.model_fields.get(section)
    fields = getattr(known.annotation, "model_fields", {}) if known else {}
    return key in fields and fields[key].annotation in (str, str | None)


def _apply(settings: dict[str, Any], override: str) -> None:
    """Set one dotted `section.key=value` in nested settings; the value is YAML."""
    dotted, equals, text = override.partition("=")
    parts = dotted.split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise UserError(f"{override!r} is not an override; write it like mask.ratio=0.5")
    section = settings.setdefault(parts[0], {})
    if not isinstance(section, dict):
        raise UserError(f"{override!r}: {parts[0]!r} is not a section")
    try:
        plain = _is_text(*parts) and text != "null" and text[:1] not in ("", "'", '"')
        section[parts[1]] = text if plain else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"{override!r}: the value is not YAML; put it in quotes") from None
