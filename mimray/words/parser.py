"""A parser whose mistakes are one line, as all of mimray's are."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

from mimray.errors import UserError
from mimray.redaction import holds_secret, redact
from mimray.settings_errors import nearest

_CHOICE = re.compile(
    r"(?P<what>.*?): invalid choice: (?P<word>'.*?') \(choose from (?P<known>.*)\)"
)


class Parser(argparse.ArgumentParser):
    """argparse's own, but for its usage before every error; parsers of verbs are of this kind too."""

    def error(self, message: str) -> NoReturn:
        if found := _CHOICE.fullmatch(message):
            known = [word.strip("' ") for word in found["known"].split(",")]
            word = found["word"].strip("'")
            message = f"{found['what']}: no {word!r}{nearest(word, known)}"
        message = message.removeprefix("argument ").replace(", section.key=value", "")
        print(redact(f"{self.prog}: {message}; see {self.prog} --help"), file=sys.stderr)
        sys.exit(UserError.exit_code)


def refuse_passwords(arguments: argparse.Namespace) -> None:
    """Raises UserError for an address with a password: verbs write their words into files and MLflow.

    Settings are looked at where they are read, which names them; `ui` writes nothing down; and what is
    submitted has a refusal of its own.
    """
    if arguments.verb in ("ui", "cluster"):
        return
    for name, given in vars(arguments).items():
        words = given if isinstance(given, list) else [given]
        for word in words if name != "overrides" else []:
            if isinstance(word, str) and holds_secret(word):
                raise UserError(
                    f"{redact(word)}: holds a password, which would be written into files; leave it out "
                    f"of the address and set the environment variables of the store or server"
                )
