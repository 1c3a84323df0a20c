"""What `--from` names, with all that is needed to build its encoder again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimray.errors import UserError
from mimray.train.parent import run_behind, settings_of
from mimray.train.tasks.starting_weights import TIMM, found_at, identities, locate

if TYPE_CHECKING:
    from mimray.mim.encoders import Encoder
    from mimray.mim.encoders.shortened import DropFrom
    from mimray.weights import LoadReport

_IMAGE_SIZE = 224  # of a file that does not tell


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and the encoder that they fill.

    `weights`: as `model.weights` takes it, a path made absolute; of a run the very checkpoint, for a run
    that goes on writes others. `digest`: of the files that hold them. `name`, `kind`: for people; of MIM
    or supervised, or unknown. `finetuned`: whether they fill the variant for fine-tuning; `drop_layers`
    and `drop_from`: what it was fine-tuned without (see `build_encoder`).
    """

    weights: str
    digest: str
    name: str
    kind: str
    encoder: str
    image_size: int
    window: int | None = None
    pretrained_windows: tuple[int, ...] | None = None
    finetuned: bool = False
    drop_layers: int = 0
    drop_from: DropFrom = "last"

    @property
    def model(self) -> dict[str, Any]:
        """The settings of a recipe's `model` section that fit these weights."""
        return {
            "encoder": self.encoder,
            "image_size": self.image_size,
            "window": self.window,
            "pretrained_windows": self.pretrained_windows and list(self.pretrained_windows),
            "weights": self.weights,
        }

    def build(self) -> Encoder:
        """The encoder, filled, in evaluation mode, on the CPU.

        Raises UserError for a size that it cannot take, and for weights that do not fill it or, of a
        SwinV2, do not tell their windows (`check_told`).
        """
        from mimray.mim.encoders import build_encoder
        from mimray.weights import load

        try:
            encoder = build_encoder(
                self.encoder,
                self.image_size,
                self.window,
                finetune=self.finetuned,
                pretrained_windows=self.pretrained_windows,
                drop_layers=self.drop_layers,
                drop_from=self.drop_from,
            )
        except ValueError as error:
            raise UserError(f"--from {self.weights}: {error}") from None
        try:
            report = load(encoder, locate(self.weights))
        except ValueError as error:  # it begins with the file
            raise UserError(f"--from {error}") from None
        check_told(self.weights, report, self.pretrained_windows)
        return encoder.eval()


def open_checkpoint(
    weights: str,
    encoder: str | None = None,
    image_size: int | None = None,
    window: int | None = None,
    pretrained_windows: Sequence[int] | None = None,
) -> Checkpoint:
    """Find out what a checkpoint is; what is given wins over what it tells.

    A run of mimray knows its own encoder, image size and window. Of any other file the weights tell the
    encoder where only one of `ENCODERS` is built like that; its image size is 224 when not given.
    Raises UserError for what is not there, is no checkpoint, does not tell its encoder, or is given
    windows where its encoder has none.
    """
    path = Path(weights).expanduser()
    weights = str(path.absolute()) if path.exists() else weights
    run = run_behind(weights)
    if run is not None and run.uri == weights.rstrip("/"):
        weights = _newest(weights)
    (digest,) = identities(weights, given_as="--from").values()
    settings = {} if run is None else settings_of(run)
    own = settings.get("model") or _told(weights, encoder)
    name = encoder or own["encoder"]
    size = image_size or own.get("image_size") or _IMAGE_SIZE
    _check_windows(weights, name, window, pretrained_windows)
    window = window or own.get("window")
    resized = (size, window) != (own.get("image_size"), own.get("window"))
    windows = pretrained_windows or own.get("pretrained_windows")
    if windows is None and run is not None and resized:
        windows = _windows(name, own["image_size"], own.get("window"))
    return Checkpoint(
        weights=weights,
        digest=digest,
        name=_name(weights, None if run is None else run.path),
        kind=_kind(weights, settings),
        encoder=name,
        image_size=size,
        window=window,
        pretrained_windows=None if windows is None else tuple(windows),
        finetuned="task" in settings or bool(own.get("finetuned")),
        drop_layers=own.get("drop_layers", 0),
        drop_from=own.get("drop_from", "last"),
    )


def _newest(run: str) -> str:
    """A run's newest complete checkpoint, or its file of weights. Raises UserError where it has none."""
    try:
        return found_at(run) or run
    except ValueError as error:
        raise UserError(f"--from {error}") from None


def check_told(weights: str, report: LoadReport, given: Sequence[int] | None) -> None:
    """Raises UserError for a SwinV2 where neither its weights nor anybody told at which windows its
    position bias was learned: at others it is another model, and its scores would not show why."""
    from mimray.weights import bias_windows

    doubt = report.missing.get(bias_windows.NAME)
    if doubt and given is None:
        raise UserError(
            f"--from {weights}: {bias_windows.NAME}: {doubt}; name these or others like "
            f"--pretrained-windows 12,12,12,6, in a suite model.pretrained_windows=[12,12,12,6]"
        )


def _check_windows(
    weights: str, encoder: str, window: int | None, pretrained: Sequence[int] | None
) -> None:
    """Raises UserError for windows that would be ignored."""
    from mimray.mim.encoders import ENCODERS

    spec = ENCODERS.get(encoder)
    if spec is None:  # refused when it is built
        return
    if window is not None and spec.window is None:
        raise UserError(
            f"--from {weights}: {encoder} has no windows, so leave out --window {window}, in a suite "
            f"model.window={window}"
        )
    if pretrained is not None and spec.family != "swinv2":
        raise UserError(
            f"--from {weights}: {encoder} is no SwinV2, so leave out --pretrained-windows, in a suite "
            f"model.pretrained_windows"
        )


def _told(weights: str, encoder: str | None) -> dict[str, Any]:
    """What the weights of another project tell of their encoder."""
    from mimray.weights import describe, read, recognise

    try:
        held = read(locate(weights))
        found = describe(recognise(held).read(held)[0])
    except ValueError as error:  # some begin with the file
        named = str(error).startswith(weights)
        raise UserError(f"--from {error}" if named else f"--from {weights}: {error}") from None
    known = [] if found is None else found.encoders()
    if encoder is None and len(known) != 1:
        what = found or "no family that mimray knows"
        fits = f"it may be {' or '.join(known)}" if known else "none of mimray's is built like that"
        raise UserError(
            f"--from {weights}: is of {what}; {fits}: name it by --encoder, in a suite by model.encoder="
        )
    told: dict[str, Any] = {"encoder": encoder or known[0]}
    if found is not None:
        told |= {"window": found.windows[0] if found.windows else None}
        told |= {"finetuned": found.position == "per_block"}
    return told


def _windows(encoder: str, image_size: int, window: int | None) -> tuple[int, ...] | None:
    """The window of every stage of a SwinV2 in pre-training, by which its position bias is scaled when
    the size is another, 0 where it was one token and nothing was learned; None for other encoders."""
    from mimray.mim.encoders import ENCODERS

    spec = ENCODERS.get(encoder)
    if spec is None or spec.family != "swinv2":
        return None
    most = window or spec.window
    assert most is not None, "a SwinV2 has windows"
    stages = range(len(spec.sizes["depths"]))
    sides = (min(most, image_size // (spec.patch * 2**stage)) for stage in stages)
    return tuple(side if side > 1 else 0 for side in sides)


def _name(weights: str, run: str | None) -> str:
    if weights.startswith(TIMM):
        return weights.removeprefix(TIMM)
    path = Path(run or weights.partition("?")[0])
    return path.name if run or path.is_dir() else path.stem


def _kind(weights: str, settings: dict[str, Any]) -> str:
    if weights.startswith(TIMM):
        return "supervised"
    if not settings:
        return "unknown"
    if "task" not in settings:
        return "MIM"
    return "fine-tuned" if (settings.get("model") or {}).get("weights") else "supervised"
