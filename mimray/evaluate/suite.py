"""A transfer suite as a grid of cells: a checkpoint, a data set and a seed each, all checked before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimray.errors import UserError
from mimray.evaluate.cells import Cell, FinetuneCell, ProbeCell
from mimray.evaluate.checkpoint import Checkpoint, open_checkpoint
from mimray.evaluate.frozen import Question
from mimray.evaluate.probing import FORMAT
from mimray.evaluate.transfer_sets import SEVERAL, TransferSet
from mimray.recipe import FinetuneRecipe, load_finetune_recipe
from mimray.recipe.finetuning import SCRATCH
from mimray.shares import labels_share
from mimray.train.parent import CELL

_OF_SUITE = ("data.train", "data.val", "model.weights", "run.name", "run.seed", "run.storage")
# what a setting may say instead
_OF_CHECKPOINT = ("encoder", "image_size", "window", "pretrained_windows")


@dataclass(frozen=True)
class Suite:
    """Rows `checkpoints`, columns `sets`. `recipes`: of each checkpoint, without set and seed; `cells`: all
    that is run; `left_out`: why a checkpoint on a set is not, of a set that is missing too."""

    name: str
    place: Path
    checkpoints: dict[str, Checkpoint | None]
    recipes: dict[str, FinetuneRecipe]
    sets: tuple[TransferSet, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    left_out: dict[tuple[str, str], str]


def lay_out(
    weights: Sequence[str],
    sets: Sequence[TransferSet],
    seeds: Sequence[int],
    recipe: str,
    overrides: Sequence[str],
    storage: Path,
) -> Suite:
    """All cells, each with its recipe. The suite's name follows from what is asked for, whether sets are
    missing or not.

    Raises UserError in one line for a checkpoint or setting that does not fit, and where no cell is left.
    """
    for override in overrides:
        if (name := override.partition("=")[0]) in _OF_SUITE:
            raise UserError(f"{override!r}: the suite sets {name} itself, for every cell its own")
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**63 for seed in seeds):
        raise UserError(f"--seeds {','.join(map(str, seeds))}: each once, and from 0 on")
    asked = load_finetune_recipe(recipe, [*overrides])
    if asked.data.subset is not None:  # the table tells shares of labels alone
        raise UserError(
            f"data.subset={asked.data.subset}: leave it out; a suite trains on a share of each class by "
            f"data.labels, like data.labels=10%"
        )
    checkpoints = _checkpoints(weights, asked, overrides)
    settings = {
        label: [*model, "speed.loader=torch", "speed.workers=1", *overrides]
        for label, model in _models(checkpoints).items()
    }
    recipes = {label: load_finetune_recipe(recipe, own) for label, own in settings.items()}
    cells: list[Cell] = []
    left_out: dict[tuple[str, str], str] = {}
    for label, checkpoint in checkpoints.items():
        for one in sets:
            if why := one.missing or _unfit(one, checkpoint, recipes[label]):
                left_out[label, one.name] = why
            elif checkpoint is not None and one.metric == SEVERAL:
                upright = recipes[label].data.upright
                cells += _probes(label, checkpoint, one, seeds, upright, storage)
            else:
                cells += _tunings(label, checkpoint, one, seeds, recipe, settings[label], storage)
    _check(cells, left_out)
    digests = [[own.digest(), _digest(checkpoints[label])] for label, own in recipes.items()]
    told = json.dumps([digests, [[one.name, one.train] for one in sets], list(seeds)])
    name = f"semantic-{_short(told)}"
    return Suite(
        name=name,
        place=storage / "suites" / name,
        checkpoints=checkpoints,
        recipes=recipes,
        sets=tuple(sets),
        seeds=tuple(seeds),
        cells=tuple(cells),
        left_out=left_out,
    )


def _check(cells: Sequence[Cell], left_out: dict[tuple[str, str], str]) -> None:
    """Build and fill a checkpoint's model once for each kind of cell. Raises UserError where it does not
    fit, and where there are no cells."""
    if not cells:
        first, *others = dict.fromkeys(left_out.values())
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"nothing is left to run: {first}{more}")
    for cell in {(cell.checkpoint, cell.protocol): cell for cell in cells}.values():
        cell.check()


# ----- rows ---------------------------------------------------------------------------------------------


def _checkpoints(
    weights: Sequence[str], asked: FinetuneRecipe, overrides: Sequence[str]
) -> dict[str, Checkpoint | None]:
    """By the name that stands in the table; None is from scratch. What the command line says of the
    encoder wins over what a checkpoint tells."""
    said = {override.partition("=")[0].removeprefix("model.") for override in overrides}
    given = {name: getattr(asked.model, name) for name in _OF_CHECKPOINT if name in said}
    opened = [None if one == SCRATCH else open_checkpoint(one, **given) for one in weights]
    for one in opened:
        if one is not None and one.drop_layers:
            raise UserError(
                f"--from {one.weights}: was fine-tuned with model.drop_layers={one.drop_layers}, and whole "
                f"encoders are fine-tuned here; name what it started from"
            )
    names = [SCRATCH if one is None else one.name for one in opened]
    labels = [
        name if names.count(name) == 1 or one is None else one.weights
        for name, one in zip(names, opened, strict=True)
    ]
    if len(set(labels)) < len(labels):
        raise UserError("--from: one of the checkpoints is named twice")
    return dict(zip(labels, opened, strict=True))


def _models(checkpoints: dict[str, Checkpoint | None]) -> dict[str, list[str]]:
    """The settings of each checkpoint's encoder. From scratch it is that of the first other one, of which
    nothing was pre-trained, or else the recipe's."""
    like = next((c for c in checkpoints.values() if c is not None), None)
    nothing = {"weights": None, "pretrained_windows": None}
    scratch = {} if like is None else like.model | nothing
    models = {label: scratch if c is None else c.model for label, c in checkpoints.items()}
    return {
        label: [f"model.{name}={json.dumps(value)}" for name, value in model.items()]
        for label, model in models.items()
    }


# ----- cells --------------------------------------------------------------------------------------------


def _unfit(one: TransferSet, checkpoint: Checkpoint | None, recipe: FinetuneRecipe) -> str | None:
    """Why there is nothing to score; None where there is."""
    if one.metric != SEVERAL:
        return None
    if checkpoint is None:
        return (
            f"{one.name} from scratch: its pictures have several labels, so frozen features are probed, "
            f"and from scratch they have learned nothing"
        )
    if labels_share(recipe.data.labels) < 1.0:
        return (
            f"{one.name}: its pictures have several labels, of which data.labels={recipe.data.labels} "
            f"takes no share; without data.labels it is probed"
        )
    return None


def _probes(
    label: str,
    checkpoint: Checkpoint,
    one: TransferSet,
    seeds: Sequence[int],
    upright: bool,
    storage: Path,
) -> Iterator[ProbeCell]:
    """A linear probe for each seed; another checkpoint or other pictures make another one."""
    for seed in seeds:
        told = f"{FORMAT} {checkpoint} {one.train} {one.digest} {upright} {seed}"
        name = f"{CELL}{one.name}-{_short(told)}"
        asked = Question(
            "linear",
            checkpoint,
            one.train,
            one.val,
            storage,
            upright=upright,
            seed=seed,
            name=name,
        )
        yield ProbeCell(label, one.name, seed, one.metric, asked)


def _tunings(
    label: str,
    checkpoint: Checkpoint | None,
    one: TransferSet,
    seeds: Sequence[int],
    recipe: str,
    settings: Sequence[str],
    storage: Path,
) -> Iterator[FinetuneCell]:
    """A fine-tuning for each seed. The same cell of another suite is the same run, and other weights or
    pictures in the same place are another one: a run does not go on with them."""
    for seed in seeds:
        own = [
            *settings,
            *(f"data.train={json.dumps(one.train)}", f"data.val={json.dumps(one.val)}"),
            *(f"run.seed={seed}", f"run.storage={json.dumps(str(storage))}"),
        ]
        asked = load_finetune_recipe(recipe, own)
        told = f"{asked.digest()} {_digest(checkpoint)} {one.digest}"
        name = f"{CELL}{one.name}-{_short(told)}"
        run = asked.run.model_copy(update={"name": name})
        named = asked.model_copy(update={"name": f"{CELL}{one.name}", "run": run})
        yield FinetuneCell(label, one.name, seed, one.metric, named)


def _digest(checkpoint: Checkpoint | None) -> str | None:
    return None if checkpoint is None else checkpoint.digest


def _short(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()[:8]
