"""Files on the user's side that a run's results depend on, known by their contents."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimray.errors import UserError


def digests(setting: str, files: Sequence[str]) -> dict[str, str]:
    """Local files, as the recipe names them, and digests of what they hold.

    Raises UserError, naming the setting, for one that cannot be read.
    """
    try:
        return {file: digest(file) for file in files}
    except OSError as error:
        raise UserError(
            f"{setting}={error.filename}: cannot be read ({error.strerror}); name a file of this host, "
            f"or leave it out"
        ) from None


def digest(file: str) -> str:
    """Of a local file's bytes."""
    with open(Path(file).expanduser(), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def check_files(record: dict[str, Any]) -> None:
    """Raises UserError where a file that a run was started with has changed since it began, or where the
    weights that it started from are other ones: of a run, those of a later checkpoint.

    What is gone does not count: what a finished run found can be shown without it.
    """
    for name, before in record.get("files", {}).items():
        weights = name == record.get("weights")
        now = _weights_now(name) if weights else _file_now(name)
        if now in (None, before):
            continue
        if weights:
            took = record.get("weights_at")
            says = f"from other weights than {name} holds now"
            says += f" (those of {took})" if took not in (None, name) else ""
        else:
            says = f"with another {name} than is there now"
        raise UserError(f"run.name={record['name']} was started {says}; choose another run.name")


def _file_now(name: str) -> str | None:
    """Digest of a file, or None where it is gone."""
    return digest(name) if Path(name).expanduser().is_file() else None


def _weights_now(name: str) -> str | None:
    """Digest of what a setting of `model.weights` names, or None where it is gone."""
    from mimray.train.tasks.starting_weights import identities  # it takes `digest` from here

    try:
        return identities(name)[name]
    except UserError:
        return None
