"""`mimray weights convert FILE --to FORMAT --out OUT`: the same weights under other names."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import ArrowException, fs
from safetensors.torch import save

from mimray.data.files import absolute, join, resolve, write_atomic
from mimray.errors import UserError
from mimray.mim.encoders import ENCODERS
from mimray.recipe import load_recipe
from mimray.settings_errors import nearest
from mimray.verbs.weights import not_finite, open_weights, user_errors
from mimray.weights.formats import FORMATS, Format, Weights
from mimray.weights.formats import huggingface_config as huggingface
from mimray.weights.report import shorten


def run(arguments: argparse.Namespace) -> int:
    """Convert, write, and say what the other project has no place for."""
    if arguments.to not in FORMATS:
        known = nearest(arguments.to, list(FORMATS))
        raise UserError(f"--to {arguments.to} is not known{known}")
    target = FORMATS[arguments.to]
    paths = _paths(arguments.out, target, arguments.force)
    opened = open_weights(arguments.file)
    if broken := not_finite(opened.own):
        raise UserError(
            f"{arguments.file}: {shorten(broken)} holds NaN or infinity; take an earlier checkpoint"
        )
    weights, model = opened.translated.weights, _of_run(arguments.file)
    fit = (
        _without_late_token(weights) if model.visible_only and target.name != "mimray" else weights
    )
    with user_errors(f"--to {target.name}: "):
        written = target.write(fit)
        contents = [_safetensors(written)]
        if target.name == "huggingface":
            config = _config(fit, model, arguments)
            contents.insert(0, json.dumps(config, indent=2).encode() + b"\n")
    for path, content in zip(paths, contents, strict=True):
        _write(path, content)
    left_out = _left_out(target, weights, written)
    if arguments.json:
        formats = {"from": opened.format.name, "to": target.name}
        print(json.dumps(formats | {"files": paths, "tensors": len(written), "left_out": left_out}))
        return 0
    print(f"{opened.format.name} -> {target.name}: {len(written)} tensors")
    if left_out:
        print(f"left out, for {target.name} has no place for them: {shorten(left_out)}")
    print("\n".join(paths))
    return 0


def _paths(out: str, target: Format, force: bool) -> list[str]:
    """What will be written: a file, or the two of a folder that `from_pretrained` reads, the weights
    last. Raises UserError where something is in the way."""
    paths = [absolute(out)]
    if target.name == "huggingface":
        if out.endswith(".safetensors"):
            raise UserError(f"--out {out}: Hugging Face's models are folders; name one")
        paths = [join(absolute(out), name) for name in ("config.json", "model.safetensors")]
    elif not out.endswith(".safetensors"):
        raise UserError(f"--out {out}: name a file that ends in .safetensors")
    for path in paths:
        filesystem, place = resolve(path)
        kind = filesystem.get_file_info(place).type
        if kind == fs.FileType.Directory:
            raise UserError(f"{path} is a folder; name a new file")
        if kind != fs.FileType.NotFound and not force:
            raise UserError(f"{path} is there already; name another place, or add --force")
    return paths


def _safetensors(weights: Weights) -> bytes:
    """Hugging Face's loader asks for the metadata, nobody else minds it."""
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    return bytes(save(contiguous, metadata={"format": "pt"}))


def _write(path: str, content: bytes) -> None:
    try:
        write_atomic(*resolve(path), content)
    except (OSError, ArrowException) as error:
        why = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        raise UserError(f"{path}: cannot be written: {why}") from None


def _left_out(target: Format, weights: Weights, written: Weights) -> list[str]:
    """What does not come back when the written is read."""
    back = target.read(written).weights
    return [name for name in weights if name not in back]


def _without_late_token(weights: Weights) -> Weights:
    """An encoder that skips hidden tokens has its mask token after it, and the head has learned from
    that; other projects' mask tokens stand before the encoder."""
    late = ("encoder.mask_token", "head.")
    return {name: tensor for name, tensor in weights.items() if not name.startswith(late)}


class _Model(NamedTuple):
    """What is known of a model beside its weights."""

    encoder: str | None = None
    image_size: int | None = None
    window: int | None = None
    visible_only: bool = False


def _of_run(file: str) -> _Model:
    """`file`: a run, a checkpoint of one, or the file in it; nothing is known of others."""
    path = Path(file).expanduser().resolve()
    for folder in (path, *path.parents[:3]):
        if (folder / "recipe.yaml").is_file() and (folder / "checkpoints").is_dir():
            model = load_recipe(folder / "recipe.yaml").model
            own = ENCODERS[model.encoder].window if model.encoder in ENCODERS else None
            window = model.window or own
            return _Model(model.encoder, model.image_size, window, model.visible_only)
    return _Model()


def _config(weights: Weights, model: _Model, arguments: argparse.Namespace) -> dict[str, Any]:
    """Hugging Face's settings; what was asked for goes before what the run has."""
    if arguments.encoder is not None and arguments.encoder not in ENCODERS:
        known = nearest(arguments.encoder, list(ENCODERS))
        raise UserError(f"--encoder {arguments.encoder} is not known{known}")
    return huggingface.config(
        weights,
        arguments.encoder or model.encoder,
        arguments.image_size or model.image_size,
        arguments.window or model.window,
    )
