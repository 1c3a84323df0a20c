"""A parser whose mistakes are one line, as all of mimray's are."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

from mimray.errors import UserError
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
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(UserError.exit_code)
