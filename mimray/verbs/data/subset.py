"""`mimray data subset SRC DST`: which rows a smaller run trains on, as a manifest."""

from __future__ import annotations

import argparse
import json

import numpy as np
from pyarrow import ArrowException, fs

from mimray.data.files import absolute, resolve
from mimray.data.sources import open_source
from mimray.data.subset import choose, digest, read_classes, write_manifest
from mimray.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Choose rows, write the manifest, and say how to train on it."""
    if arguments.fraction is None and arguments.classes is None:
        raise UserError("data subset: say which: --fraction 0.1, or --classes FILE, or both")
    source = open_source(arguments.src)
    classes = read_classes(arguments.classes) if arguments.classes else None
    fraction = 1.0 if arguments.fraction is None else arguments.fraction
    rows = choose(source, fraction, arguments.seed, arguments.stratified, classes)
    if not len(rows):
        raise UserError(f"{fraction:g} of {len(source)} pictures is none; take a larger share")
    how = {
        "fraction": fraction,
        "seed": arguments.seed,
        "stratified": arguments.stratified,
        "classes": classes,
    }
    path = absolute(arguments.dst)
    try:
        filesystem, place = resolve(path)
        if filesystem.get_file_info(place).type == fs.FileType.Directory:
            raise UserError(f"{arguments.dst} is a folder; name a file in it")
        if filesystem.get_file_info(place).type != fs.FileType.NotFound:
            raise UserError(f"{arguments.dst} is there already; name a new file, or remove it")
        write_manifest(path, source, rows, how)
    except (OSError, ArrowException) as error:
        why = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        raise UserError(f"{arguments.dst}: cannot be written: {why}") from None
    labels = source.labels()
    held = None if labels is None else len(np.unique(labels[rows.rows()]))
    if arguments.json:
        found = {"manifest": path, "rows": len(rows), "of": len(source), "classes_held": held}
        print(json.dumps(found | {"digest": digest(rows), "source": source.digest, **how}))
        return 0
    named = f" in {held} classes" if held is not None else ""
    print(f"{len(rows)} of {len(source)} pictures{named}, digest {digest(rows)}")
    print(f"{path}")
    print(f"train on them: mimray pretrain RECIPE data.train={arguments.src} data.subset={path}")
    return 0
