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
    """Raises UserError where a file that a run was started with has changed since it began.

    One that is gone does not count: what a finished run found can be shown without it.
    """
    for file, before in record.get("files", {}).items():
        if Path(file).expanduser().is_file() and digest(file) != before:
            raise UserError(
                f"run.name={record['name']} was started with another {file} than is there now; "
                f"choose another run.name"
            )
