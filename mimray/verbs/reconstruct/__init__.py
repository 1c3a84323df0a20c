"""`mimray reconstruct --from CKPT IMAGES...`: what a pre-trained model makes of masked pictures."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimray.data.files import resolve, write_atomic
from mimray.environment import project_folder, start_folder
from mimray.errors import UserError
from mimray.train.run_folder import remove_empty, to_json
from mimray.verbs.screen import screen

if TYPE_CHECKING:
    from mimray.verbs.reconstruct.models import Opened
    from mimray.verbs.reconstruct.pictures import Picture

_SETTING = re.compile(r"\w+\.\w+=.*", re.DOTALL)
SHEET, VIDEO = "reconstruction.png", "steps.webp"


def run(arguments: argparse.Namespace) -> int:
    """Predict, draw, write; print the files and figures, or one JSON object."""
    images = [word for word in arguments.words if not _SETTING.fullmatch(word)]
    overrides = [word for word in arguments.words if _SETTING.fullmatch(word)]
    overrides += arguments.overrides
    _check(arguments, images)
    from mimray.train.tasks.pretraining import Pretraining
    from mimray.verbs.reconstruct.models import open_model
    from mimray.verbs.reconstruct.pictures import load_pictures

    opened = open_model(arguments.weights[-1], overrides, arguments.recipe)
    framing = Pretraining(opened.recipe).framing(training=False)
    pictures = load_pictures(images, arguments.images, framing)
    files, figures = _draw(opened, pictures, overrides, arguments)
    out = arguments.out or project_folder() / "reconstructions" / opened.name
    written = _write(start_folder() / Path(out).expanduser(), files)
    result = {"from": arguments.weights, "step": opened.step, "files": written, **figures}
    if arguments.json:
        print(to_json(result), flush=True)
    else:
        _print(result)
    return 0


def _check(arguments: argparse.Namespace, images: list[str]) -> None:
    """Raises UserError for words that do not go together."""
    if not images:
        raise UserError("name pictures: files, folders, or builtin:photos/val")
    if len(arguments.weights) > 1 and not arguments.video:
        raise UserError(
            f"{len(arguments.weights)} checkpoints are the frames of a video; add --video, or name one"
        )
    if arguments.seed is not None and not 0 <= arguments.seed < 2**63:
        raise UserError(f"--seed {arguments.seed}: must be 0 to 2^63 - 1")


def _draw(
    opened: Opened, pictures: list[Picture], overrides: list[str], arguments: argparse.Namespace
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files by name, and what `--json` says besides."""
    from mimray.report.reconstruction import film, png
    from mimray.verbs.reconstruct.drawing import draw_sheet, figures, means, predict
    from mimray.verbs.reconstruct.masks import masks_of, under_masks
    from mimray.verbs.reconstruct.steps import checkpoints_of, over_steps

    seed, fills = arguments.seed, arguments.fills
    several = arguments.units or arguments.ratios
    masks = masks_of(opened, arguments.units, arguments.ratios) if several else []
    checkpoints = checkpoints_of(arguments.weights, pictures) if arguments.video else []
    shown = predict(opened, pictures, seed)
    files = {SHEET: png(draw_sheet(opened, pictures, shown, fills))}
    found: dict[str, Any] = {
        **means(shown),
        "mask": opened.recipe.mask.model_dump(),
        "pictures": [
            {"name": picture.name, **figures(one)}
            for picture, one in zip(pictures, shown, strict=True)
        ],
    }
    if masks:
        found["masks"] = []
        for number, (drawing, cells) in enumerate(under_masks(opened, pictures, seed, masks), 1):
            stem = re.sub(r"[^\w.-]+", "-", Path(pictures[number - 1].name).stem)
            files[f"masks-{number:02d}-{stem}.png"] = png(drawing)
            found["masks"] += cells
    if checkpoints:
        frames = list(over_steps(checkpoints, overrides, arguments.recipe, pictures, seed, fills))
        files[VIDEO] = film([frame for frame, _ in frames])
        found["steps"] = [of_step for _, of_step in frames]
    return files, found


def _write(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Write each file as a whole; returns their paths. Raises UserError where that cannot be done."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()][::-1]
    try:
        for name, data in files.items():
            write_atomic(*resolve(str(folder / name)), data)
    except OSError as error:
        remove_empty([p for p in missing if p.exists()])
        raise UserError(f"--out {folder}: cannot be written ({error.strerror})") from None
    return [str(folder / name) for name in files]


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table

    out = screen()
    table = Table(box=None, pad_edge=False)
    table.add_column("picture", no_wrap=True)
    for name in ("loss", "skill", "nearest visible", "AvgDist, px"):
        table.add_column(name, justify="right")
    for row in result["pictures"]:
        skill, fill = row["skill"], row.get("fill_nearest")
        table.add_row(
            row["name"],
            f"{row['loss']:.4f}",
            "-" if skill is None else f"{skill:+.3f}",
            "-" if fill is None else f"{fill:.4f}",
            f"{row['average_distance']:.1f}",
        )
    skill = "" if result["skill"] is None else f", skill {result['skill']:+.3f}"
    out.print(table)
    out.print(f"of all: loss {result['loss']:.4f}{skill}")
    for file in result["files"]:
        out.print(file)
